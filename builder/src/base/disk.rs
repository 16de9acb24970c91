//! The base's tree on disk: owners, modes and times as in the image, owners as the store keeps them.

use std::ffi::OsStr;
use std::fs::File;
use std::fs::FileTimes;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::fchown;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;

use crate::base::sink::EntryHeader;
use crate::base::sink::EntryKind;
use crate::base::sink::EntrySink;
use crate::model::owners::Owners;

/// A tree on disk.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    /// Its root.
    pub(super) root: PathBuf,
    /// How owners and groups are kept; none where they cannot be given (no root, no namespace).
    pub(super) owners: Option<Owners>,
}

/// Where an entry is under `root`.
pub(super) fn place(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path))
}

impl Disk {
    /// Gives an open file its owner, mode and time; the mode after the owner, which clears set-uid bits.
    pub(super) fn dress_file(&self, file: &File, header: &EntryHeader) -> io::Result<()> {
        if let Some(owners) = self.owners {
            fchown(
                file,
                Some(owners.on_disk(header.uid)),
                Some(owners.on_disk(header.gid)),
            )?;
        }
        file.set_permissions(Permissions::from_mode(header.mode))?;
        let time = time(header.mtime);
        file.set_times(FileTimes::new().set_modified(time).set_accessed(time))
    }

    /// Gives folders their owners, modes and times, the deepest first: last of all, because what is made in a folder
    /// changes its time.
    pub(super) fn dress_folders<'tree>(
        &self,
        headers: impl DoubleEndedIterator<Item = &'tree EntryHeader>,
    ) -> io::Result<()> {
        for header in headers.rev().filter(|header| header.kind == EntryKind::Directory) {
            let path = place(&self.root, &header.path);
            self.own(&path, header)?;
            std::fs::set_permissions(&path, Permissions::from_mode(header.mode))?;
            set_time(&path, header.mtime)?;
        }
        Ok(())
    }

    fn own(&self, path: &Path, header: &EntryHeader) -> io::Result<()> {
        let Some(owners) = self.owners else {
            return Ok(());
        };
        lchown(
            path,
            Some(owners.on_disk(header.uid)),
            Some(owners.on_disk(header.gid)),
        )
    }
}

impl EntrySink for Disk {
    fn entry(&mut self, header: &EntryHeader, contents: &mut dyn Read) -> io::Result<()> {
        let path = place(&self.root, &header.path);
        match &header.kind {
            EntryKind::Directory => match std::fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            },
            EntryKind::Symlink { target } => {
                std::os::unix::fs::symlink(OsStr::from_bytes(target), &path)?;
                self.own(&path, header)?;
                set_time(&path, header.mtime)
            }
            EntryKind::Hardlink { target } => std::fs::hard_link(place(&self.root, target), &path),
            EntryKind::File { .. } => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)?;
                io::copy(contents, &mut file)?;
                self.dress_file(&file, header)
            }
        }
    }
}

fn time(mtime: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(mtime).unwrap_or(0))
}

fn set_time(path: &Path, mtime: i64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: mtime,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(rustix::fs::utimensat(
        CWD,
        path,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}
