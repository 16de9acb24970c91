//! Makes one tree of a list of overlay trees, with hard links in the place of files: what a mount of them shows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::store::caches::overlay;
use crate::store::error::StoreError;

/// The most bytes of the names, or of one value, of a folder's extended attributes.
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// Fills the empty folder `to` with what the trees show together, the newest first. The trees are only read, and must
/// be on the file system of `to`.
pub fn flatten(trees: &[PathBuf], to: &Path) -> Result<(), StoreError> {
    let mut sources = Vec::new();
    for tree in trees {
        sources.push(tree.clone());
        if overlay::is_opaque(tree).map_err(StoreError::file("read", tree))? {
            break;
        }
    }
    // A folder gets its attributes when all is in it, so they wait until the end, the deepest first.
    let mut finished = Vec::new();
    let mut waiting = vec![(sources, to.to_owned())];
    while let Some((sources, to)) = waiting.pop() {
        let folders = merge_folder(&sources, &to)?;
        for (name, sources) in folders {
            let below = to.join(name);
            fs::create_dir(&below).map_err(StoreError::file("make", &below))?;
            waiting.push((sources, below));
        }
        if let Some(newest) = sources.into_iter().next() {
            finished.push((newest, to));
        }
    }
    for (source, to) in finished.into_iter().rev() {
        copy_attributes(&source, &to).map_err(StoreError::file("write", &to))?;
    }
    Ok(())
}

/// Links what is in the folders `sources`, the newest first, and gives the folders in it that are yet to be merged.
fn merge_folder(sources: &[PathBuf], to: &Path) -> Result<BTreeMap<OsString, Vec<PathBuf>>, StoreError> {
    // Names of which nothing below counts any more.
    let mut settled = BTreeSet::new();
    let mut folders: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
    for source in sources {
        for entry in fs::read_dir(source).map_err(StoreError::file("read", source))? {
            let entry = entry.map_err(StoreError::file("read", source))?;
            let (name, path) = (entry.file_name(), entry.path());
            if settled.contains(&name) {
                continue;
            }
            let failed = || StoreError::file("read", &path);
            let metadata = entry.metadata().map_err(failed())?;
            if metadata.is_dir() {
                if overlay::is_opaque(&path).map_err(failed())? {
                    settled.insert(name.clone());
                }
                folders.entry(name).or_default().push(path);
                continue;
            }
            if !overlay::is_whiteout(&path, &metadata).map_err(failed())? && !folders.contains_key(&name) {
                let target = to.join(&name);
                link(&path, &target, &metadata).map_err(StoreError::file("link", &target))?;
            }
            settled.insert(name);
        }
    }
    Ok(folders)
}

fn link(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
        // A file cannot have endless names.
        Err(Errno::MLINK) if metadata.is_file() => {
            fs::copy(from, to)?;
            copy_attributes(from, to)
        }
        other => Ok(other?),
    }
}

/// Owner, mode, times and the job's own extended attributes.
fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let target = fs::symlink_metadata(to)?;
    if (metadata.uid(), metadata.gid()) != (target.uid(), target.gid()) {
        std::os::unix::fs::lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    copy_extended_attributes(from, to)?;
    fs::set_permissions(to, metadata.permissions())?;
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
            std::str::from_utf8(name).is_ok_and(|name| name.starts_with("user.") && !overlay::is_mark(name));
        if is_wanted {
            let name = std::ffi::OsStr::from_bytes(name);
            let length = rustix::fs::lgetxattr(from, name, &mut value[..])?;
            rustix::fs::lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
        }
    }
    Ok(())
}
