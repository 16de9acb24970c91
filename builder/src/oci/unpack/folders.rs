//! The folders of a tree that is being unpacked: opened in the root, made where they are missing.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

use crate::oci::removal;
use crate::oci::unpack::Folder;

pub(super) struct Folders<'root> {
    root: BorrowedFd<'root>,
    /// Entries of one folder mostly come one after another.
    last: Option<(PathBuf, Folder)>,
}

impl<'root> Folders<'root> {
    pub(super) fn new(root: BorrowedFd<'root>) -> Self {
        Self { root, last: None }
    }

    /// Opens a folder, making it and its parents with mode 0755 where they are missing.
    pub(super) fn open(&mut self, path: &Path) -> rustix::io::Result<Folder> {
        if let Some((last, folder)) = &self.last
            && last == path
        {
            return Ok(folder.clone());
        }
        let folder = match self.look_up(path) {
            Err(Errno::NOENT) => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(Errno::NOENT);
                };
                let parent = self.open(parent)?;
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                self.look_up(path)?
            }
            other => other?,
        };
        let folder = Folder::new(folder);
        self.last = Some((path.to_owned(), folder.clone()));
        Ok(folder)
    }

    /// Opens a folder that is there. Links on the way stay within the root, as if it were `/`.
    pub(super) fn look_up(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(self.root, path, flags, Mode::empty(), resolve)
    }

    /// Makes a folder that the caller can fill; one that is there stays with what is in it.
    pub(super) fn make(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => {}
            other => return other,
        }
        let stat = rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
            return Ok(());
        }
        self.last = None;
        rustix::fs::unlinkat(parent, name, rustix::fs::AtFlags::empty())?;
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))
    }

    /// Removes a folder with all that is in it.
    pub(super) fn remove(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        self.last = None;
        removal::remove_at(parent, name)
    }
}
