//! Makes one tree of a stack of overlay trees: what a mount of them shows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fs;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::oci::overlay::marks;

/// The most bytes of the names, or of one value, of a folder's extended attributes.
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// What the new tree's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// The same as those of the stack, by hard links: for a tree that is only read, on the same file system.
    Shared,
    /// Copies, which share blocks where the file system can: for a tree that is written to.
    Copied,
}

/// A stack could not be made one tree.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {source}", path.display())]
pub struct MergeError {
    /// What was tried: `read`, `copy`, `link`.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl MergeError {
    fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// Fills the empty folder `to` with what the trees show together, the newest first. The trees are only read.
pub fn merge(trees: &[PathBuf], to: &Path, files: Files) -> Result<(), MergeError> {
    let mut merge = Merge {
        files,
        links: HashMap::new(),
    };
    let mut sources = Vec::new();
    for tree in trees {
        sources.push(tree.clone());
        if marks::is_opaque(tree).map_err(MergeError::at("read", tree))? {
            break;
        }
    }
    // A folder gets its attributes when all is in it, so they wait until the end, the deepest first.
    let mut finished = Vec::new();
    let mut waiting = vec![(sources, to.to_owned())];
    while let Some((sources, to)) = waiting.pop() {
        let folders = merge.folder(&sources, &to)?;
        for (name, sources) in folders {
            let below = to.join(name);
            fs::create_dir(&below).map_err(MergeError::at("make", &below))?;
            waiting.push((sources, below));
        }
        if let Some(newest) = sources.into_iter().next() {
            finished.push((newest, to));
        }
    }
    for (source, to) in finished.into_iter().rev() {
        copy_attributes(&source, &to).map_err(MergeError::at("write", &to))?;
    }
    Ok(())
}

struct Merge {
    files: Files,
    /// Copies of files that have more than one name, by device and number of the original.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Merge {
    /// Puts what is in the folders `sources`, the newest first, into `to`, and gives the folders in it that are yet to be
    /// merged.
    fn folder(
        &mut self,
        sources: &[PathBuf],
        to: &Path,
    ) -> Result<BTreeMap<OsString, Vec<PathBuf>>, MergeError> {
        // Names of which nothing below counts any more.
        let mut settled = BTreeSet::new();
        let mut folders: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
        for source in sources {
            for entry in fs::read_dir(source).map_err(MergeError::at("read", source))? {
                let entry = entry.map_err(MergeError::at("read", source))?;
                let (name, path) = (entry.file_name(), entry.path());
                if settled.contains(&name) {
                    continue;
                }
                let failed = || MergeError::at("read", &path);
                let metadata = entry.metadata().map_err(failed())?;
                if metadata.is_dir() {
                    if marks::is_opaque(&path).map_err(failed())? {
                        settled.insert(name.clone());
                    }
                    folders.entry(name).or_default().push(path);
                    continue;
                }
                if !marks::is_whiteout(&path, &metadata).map_err(failed())? && !folders.contains_key(&name) {
                    self.file(&path, &to.join(&name), &metadata)?;
                }
                settled.insert(name);
            }
        }
        Ok(folders)
    }

    fn file(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> Result<(), MergeError> {
        match self.files {
            Files::Shared => link(from, to, metadata).map_err(MergeError::at("link", to)),
            Files::Copied => self
                .copy_once(from, to, metadata)
                .map_err(MergeError::at("copy", from)),
        }
    }

    /// Names of one file stay names of one file.
    fn copy_once(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
        if metadata.nlink() < 2 {
            return copy(from, to, metadata);
        }
        match self.links.entry((metadata.dev(), metadata.ino())) {
            Entry::Occupied(first) => fs::hard_link(first.get(), to),
            Entry::Vacant(place) => {
                copy(from, to, metadata)?;
                place.insert(to.to_owned());
                Ok(())
            }
        }
    }
}

fn link(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
        // A file cannot have endless names.
        Err(Errno::MLINK) if metadata.is_file() => copy(from, to, metadata),
        other => Ok(other?),
    }
}

/// Devices are left out: no tree that anything runs in has one.
fn copy(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else if kind.is_fifo() || kind.is_socket() {
        let kind = if kind.is_fifo() {
            FileType::Fifo
        } else {
            FileType::Socket
        };
        rustix::fs::mknodat(CWD, to, kind, Mode::RUSR | Mode::WUSR, 0)?;
    } else {
        return Ok(());
    }
    copy_attributes(from, to)
}

/// Owner, mode, times and the job's own extended attributes.
fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let target = fs::symlink_metadata(to)?;
    if (metadata.uid(), metadata.gid()) != (target.uid(), target.gid()) {
        std::os::unix::fs::lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    copy_extended_attributes(from, to)?;
    if !metadata.is_symlink() {
        fs::set_permissions(to, metadata.permissions())?;
    }
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn copy_extended_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTE_BYTES_MAX];
    let length = match rustix::fs::llistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
    for name in names[..length].split(|&byte| byte == 0) {
        let is_wanted =
            std::str::from_utf8(name).is_ok_and(|name| name.starts_with("user.") && !marks::is_mark(name));
        if is_wanted {
            let name = std::ffi::OsStr::from_bytes(name);
            let length = rustix::fs::lgetxattr(from, name, &mut value[..])?;
            rustix::fs::lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
        }
    }
    Ok(())
}
