//! The walk itself: every entry is opened below the tree's descriptor, through no link.

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
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;

use crate::oci::layer::LayerTar;
use crate::oci::tar::header::Kind;
use crate::oci::tree::Tree;
use crate::oci::tree::TreeError;
use crate::oci::tree::header;

/// Where an entry is found: its folder, its name there, and what the folder says that it is.
#[derive(Clone, Copy)]
pub(super) struct Place<'place> {
    pub(super) parent: BorrowedFd<'place>,
    pub(super) name: &'place OsStr,
    pub(super) kind: FileType,
}

/// Opens, counts and writes entries of one tree.
pub(super) struct Walker<'tree> {
    tree: &'tree Tree<'tree>,
    entries: u64,
    bytes: u64,
}

/// A file that is read to its end, or until the build is to end.
struct Stoppable<'tree> {
    file: File,
    stop: Option<&'tree AtomicBool>,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(io::Error::other("the build was interrupted"));
        }
        self.file.read(buffer)
    }
}

impl<'tree> Walker<'tree> {
    pub(super) fn new(tree: &'tree Tree<'tree>) -> Self {
        Self {
            tree,
            entries: 0,
            bytes: 0,
        }
    }

    pub(super) fn image_path(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() {
            self.tree.image_path.to_owned()
        } else {
            self.tree.image_path.join(path)
        }
    }

    pub(super) fn failed(&self, path: &Path, source: rustix::io::Errno) -> TreeError {
        match source {
            rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => TreeError::Replaced {
                path: self.image_path(path),
            },
            source => TreeError::Read {
                path: self.image_path(path),
                source: source.into(),
            },
        }
    }

    pub(super) fn open_directory(&self, path: &Path) -> Result<OwnedFd, TreeError> {
        let path_or_dot = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        open_beneath(self.tree.root, path_or_dot.as_os_str(), OFlags::DIRECTORY)
            .map_err(|source| self.failed(path, source))
    }

    pub(super) fn kind_of(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<FileType, TreeError> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        Ok(FileType::from_raw_mode(
            stat.map_err(|source| self.failed(path, source))?.st_mode,
        ))
    }

    pub(super) fn count(&mut self, path: &Path, bytes: u64) -> Result<(), TreeError> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let limits = self.tree.limits;
        let passed = if self.entries > limits.entries_max {
            Some((limits.entries_max, "entries"))
        } else {
            (self.bytes > limits.bytes_max).then_some((limits.bytes_max, "bytes"))
        };
        match passed {
            Some((max, unit)) => Err(TreeError::TooMuch {
                path: self.image_path(path),
                max,
                unit,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn append_root(&mut self, tar: &mut LayerTar<'_>) -> Result<(), TreeError> {
        let parent = self.tree.root;
        self.append(
            tar,
            Path::new(""),
            Place {
                parent,
                name: OsStr::new("."),
                kind: FileType::Directory,
            },
        )
    }

    pub(super) fn append(
        &mut self,
        tar: &mut LayerTar<'_>,
        path: &Path,
        place: Place<'_>,
    ) -> Result<(), TreeError> {
        match place.kind {
            FileType::Socket => Ok(()),
            FileType::RegularFile => self.append_file(tar, path, &place),
            _ => self.append_other(tar, path, &place),
        }
    }

    fn append_file(
        &mut self,
        tar: &mut LayerTar<'_>,
        path: &Path,
        place: &Place<'_>,
    ) -> Result<(), TreeError> {
        // Not blocking, for the case that a pipe has taken the file's place.
        let file = open_beneath(place.parent, place.name, OFlags::NONBLOCK)
            .map_err(|source| self.failed(path, source))?;
        let stat = rustix::fs::fstat(&file).map_err(|source| self.failed(path, source))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(TreeError::Replaced {
                path: self.image_path(path),
            });
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.count(path, size)?;
        let header = header(
            &self.image_path(path),
            Kind::File { size },
            stat.st_mode,
            self.tree.owner,
        );
        let file = File::from(file);
        let stop = self.tree.stop;
        Ok(tar.append(&header, &mut Stoppable { file, stop })?)
    }

    fn append_other(
        &mut self,
        tar: &mut LayerTar<'_>,
        path: &Path,
        place: &Place<'_>,
    ) -> Result<(), TreeError> {
        self.count(path, 0)?;
        let stat = rustix::fs::statat(place.parent, place.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| self.failed(path, source))?;
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(place.parent, place.name, Vec::new())
                    .map_err(|source| self.failed(path, source))?;
                Kind::Symlink {
                    target: target.into_bytes(),
                }
            }
            _ => {
                return Err(TreeError::Replaced {
                    path: self.image_path(path),
                });
            }
        };
        let header = header(&self.image_path(path), kind, stat.st_mode, self.tree.owner);
        Ok(tar.append_empty(&header)?)
    }
}

/// Opens for reading below a folder, through no link.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// The names in a folder in byte order, with their kinds as the folder knows them.
pub(crate) fn sorted_names(folder: BorrowedFd<'_>) -> rustix::io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    Ok(names)
}

type Visit<'visit, 'tree> = dyn FnMut(&mut Walker<'tree>, &Path, Place<'_>) -> Result<(), TreeError> + 'visit;

struct Level {
    folder: OwnedFd,
    names: std::vec::IntoIter<(Vec<u8>, FileType)>,
}

/// Visits `start` and everything below it, as Go's `filepath.Walk` does.
pub(super) fn walk<'tree>(
    walker: &mut Walker<'tree>,
    start: &Path,
    visit: &mut Visit<'_, 'tree>,
) -> Result<(), TreeError> {
    let open = |walker: &Walker<'_>, folder: OwnedFd, path: &Path| {
        let names = sorted_names(folder.as_fd()).map_err(|source| walker.failed(path, source))?;
        Ok::<_, TreeError>(Level {
            folder,
            names: names.into_iter(),
        })
    };
    let folder = walker.open_directory(start)?;
    let root = Place {
        parent: folder.as_fd(),
        name: OsStr::new("."),
        kind: FileType::Directory,
    };
    visit(walker, start, root)?;
    let mut levels = vec![open(walker, folder, start)?];
    let mut path = start.to_owned();
    while let Some(level) = levels.last_mut() {
        let Some((name, known)) = level.names.next() else {
            levels.pop();
            path.pop();
            continue;
        };
        let name = OsStr::from_bytes(&name);
        path.push(name);
        let folder = level.folder.as_fd();
        let kind = if known == FileType::Unknown {
            walker.kind_of(folder, name, &path)?
        } else {
            known
        };
        visit(
            walker,
            &path,
            Place {
                parent: folder,
                name,
                kind,
            },
        )?;
        if kind != FileType::Directory {
            path.pop();
            continue;
        }
        let below = open_beneath(folder, name, OFlags::DIRECTORY);
        let below = below.map_err(|source| walker.failed(&path, source))?;
        if levels.len() >= walker.tree.limits.depth_max {
            let max = walker.tree.limits.depth_max as u64;
            return Err(TreeError::TooMuch {
                path: walker.image_path(&path),
                max,
                unit: "folders in folders",
            });
        }
        levels.push(open(walker, below, &path)?);
    }
    Ok(())
}
