//! A layer's tar into a folder that overlayfs can take as a lower, or that a sandbox can use as it is.

mod folders;
mod name;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::io::Errno;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::owners::Owners;
use crate::oci::tar::header::Header;
use crate::oci::tar::header::Kind;
use crate::oci::tar::reader::TarReadError;
use crate::oci::tar::reader::TarReader;
use crate::oci::unpack::folders::Folders;
use crate::oci::unpack::name::relative;
use crate::oci::unpack::name::whiteout;

/// How a layer is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackOptions {
    /// How the layer's owners are kept; none: the caller owns all files, whatever the layer says.
    pub owners: Option<Owners>,
    /// Entries of every kind.
    pub entries_max: u64,
    /// Bytes of all files together.
    pub bytes_max: u64,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            owners: None,
            entries_max: 4_000_000,
            bytes_max: 128 << 30,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// Entries of every kind, whiteouts too.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Device nodes, which are left out.
    pub devices_skipped: u64,
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The tar is broken or could not be read.
    #[error("cannot unpack the layer: {0}")]
    Tar(#[from] TarReadError),
    /// A file's contents could not be read or written.
    #[error("cannot unpack `{}`: {source}", path.display())]
    Entry {
        /// The entry's name in the layer.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An entry whose name or target leads out of the folder, or is no name.
    #[error("the layer's entry `{}` is refused: {why}", path.display())]
    Refused {
        /// The entry's name in the layer.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A limit is passed.
    #[error("the layer has more than {max} {unit}")]
    TooMuch {
        /// The limit.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
}

impl Failure for UnpackError {
    fn facts(&self) -> Facts {
        match self {
            Self::Tar(error) => error.facts(),
            Self::Entry { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::Entry { .. } => Facts::platform("layer_unpack_failed"),
            Self::Refused { .. } | Self::TooMuch { .. } => Facts::platform("layer_refused"),
        }
    }
}

/// Unpacks a tar into the folder `root`, which should be empty. Links are never followed out of it. `.wh.NAME` becomes
/// a character device 0:0 and `.wh..wh..opq` the mark `user.overlay.opaque`; device nodes and extended attributes are
/// left out.
pub fn unpack(tar: impl Read, root: BorrowedFd<'_>, options: UnpackOptions) -> Result<Unpacked, UnpackError> {
    let mut tar = TarReader::new(tar);
    let mut unpacking = Unpacking {
        folders: Folders::new(root),
        options,
        done: Unpacked::default(),
        pending: BTreeMap::new(),
    };
    while let Some(header) = tar.next_entry()? {
        unpacking.entry(&header, &mut tar)?;
    }
    unpacking.finish()
}

struct Unpacking<'root> {
    folders: Folders<'root>,
    options: UnpackOptions,
    done: Unpacked,
    /// Folders get their modes and times when nothing more is put into them.
    pending: BTreeMap<PathBuf, Header>,
}

impl Unpacking<'_> {
    fn entry(&mut self, header: &Header, contents: &mut dyn Read) -> Result<(), UnpackError> {
        let path = relative(&header.path)?;
        self.count(header)?;
        let failed = |source: io::Error| UnpackError::Entry {
            path: path.clone(),
            source,
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            // The root itself.
            if header.kind == Kind::Directory {
                self.pending.insert(path, header.clone());
            }
            return Ok(());
        };
        let folder = self
            .folders
            .open(parent)
            .map_err(|source| failed(source.into()))?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return whiteout(folder.as_fd(), hidden, &path);
        }
        let folder = folder.as_fd();
        match &header.kind {
            Kind::Directory => {
                self.folders
                    .make(folder, name)
                    .map_err(|source| failed(source.into()))?;
                self.pending.insert(path, header.clone());
                return Ok(());
            }
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } => {
                self.done.devices_skipped += 1;
                return Ok(());
            }
            _ => self.replace(folder, name, &path).map_err(failed)?,
        }
        match &header.kind {
            Kind::File { .. } => self.file(folder, name, header, contents).map_err(failed),
            Kind::Symlink { target } => {
                let made = rustix::fs::symlinkat(OsStr::from_bytes(target), folder, name);
                made.map_err(io::Error::from)
                    .and_then(|()| self.dress(folder, name, header))
                    .map_err(failed)
            }
            Kind::Hardlink { target } => self.hard_link(folder, name, target, &path),
            _ => {
                let made = rustix::fs::mknodat(folder, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0);
                made.map_err(io::Error::from)
                    .and_then(|()| self.dress(folder, name, header))
                    .map_err(failed)
            }
        }
    }

    fn count(&mut self, header: &Header) -> Result<(), UnpackError> {
        self.done.entries += 1;
        if let Kind::File { size } = header.kind {
            self.done.bytes = self.done.bytes.saturating_add(size);
        }
        let (entries_max, bytes_max) = (self.options.entries_max, self.options.bytes_max);
        if self.done.entries > entries_max {
            return Err(UnpackError::TooMuch {
                max: entries_max,
                unit: "entries",
            });
        }
        if self.done.bytes > bytes_max {
            return Err(UnpackError::TooMuch {
                max: bytes_max,
                unit: "bytes",
            });
        }
        Ok(())
    }

    /// Makes room for an entry whose name an entry before it has.
    fn replace(&mut self, folder: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<()> {
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {
                self.pending.retain(|pending, _| !pending.starts_with(path));
                self.folders.remove(folder, name)
            }
            Err(source) => Err(source.into()),
        }
    }

    fn file(
        &self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        header: &Header,
        contents: &mut dyn Read,
    ) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(file);
        io::copy(contents, &mut file)?;
        // By descriptor, which no other name can stand for.
        if let Some((uid, gid)) = self.owner(header) {
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(header.mode & 0o7777))?;
        rustix::fs::futimens(&file, &times(header))?;
        Ok(())
    }

    /// Owner, mode and time of what is no regular file.
    fn dress(&self, folder: BorrowedFd<'_>, name: &OsStr, header: &Header) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner(header) {
            rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if !matches!(header.kind, Kind::Symlink { .. }) {
            rustix::fs::chmodat(
                folder,
                name,
                Mode::from_raw_mode(header.mode & 0o7777),
                AtFlags::empty(),
            )?;
        }
        rustix::fs::utimensat(folder, name, &times(header), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    fn owner(&self, header: &Header) -> Option<(rustix::fs::Uid, rustix::fs::Gid)> {
        let owners = self.options.owners?;
        Some((
            rustix::fs::Uid::from_raw(owners.on_disk(header.uid)),
            rustix::fs::Gid::from_raw(owners.on_disk(header.gid)),
        ))
    }

    fn hard_link(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        target: &[u8],
        path: &Path,
    ) -> Result<(), UnpackError> {
        let target = relative(target)?;
        let failed = |source: Errno| UnpackError::Entry {
            path: path.to_owned(),
            source: source.into(),
        };
        let (Some(parent), Some(target_name)) = (target.parent(), target.file_name()) else {
            return Err(UnpackError::Refused {
                path: path.to_owned(),
                why: "it links to the root",
            });
        };
        let parent = self.folders.look_up(parent).map_err(failed)?;
        rustix::fs::linkat(&parent, target_name, folder, name, AtFlags::empty()).map_err(failed)
    }

    fn finish(mut self) -> Result<Unpacked, UnpackError> {
        // The deepest first, so that no folder's time is changed after it is set.
        let pending = std::mem::take(&mut self.pending);
        for (path, header) in pending.iter().rev() {
            let failed = |source: io::Error| UnpackError::Entry {
                path: path.clone(),
                source,
            };
            let folder = self
                .folders
                .look_up(path)
                .map_err(|source| failed(source.into()))?;
            if let Some((uid, gid)) = self.owner(header) {
                rustix::fs::fchown(&folder, Some(uid), Some(gid)).map_err(|source| failed(source.into()))?;
            }
            let mode = Mode::from_raw_mode(header.mode & 0o7777);
            rustix::fs::fchmod(&folder, mode).map_err(|source| failed(source.into()))?;
            rustix::fs::futimens(&folder, &times(header)).map_err(|source| failed(source.into()))?;
        }
        Ok(self.done)
    }
}

fn times(header: &Header) -> Timestamps {
    let time = Timespec {
        tv_sec: header.mtime.0,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// A folder that is open for reading, shared with the last-used one.
type Folder = std::rc::Rc<OwnedFd>;

#[cfg(test)]
mod tests;
