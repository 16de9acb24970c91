//! Finds or makes the place of a mount inside the job's root, where the image decides what the links are.
//!
//! Used after the pivot, so every link, absolute or with `..`, ends inside; a dangling one (`/etc/resolv.conf` of real
//! images) gets its target made.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Component;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Links on the way to one place; the kernel's own limit.
const LINKS_MAX: usize = 40;

/// What a place must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder.
    Directory,
    /// A file.
    File,
}

/// Opens the place without reading it; what is missing is made: folders 0755, files empty and 0644.
pub(crate) fn find_or_make(path: &Path, place: Place) -> rustix::io::Result<OwnedFd> {
    walk(path, Some(place))
}

/// Opens the place if it is there.
pub(crate) fn find(path: &Path) -> rustix::io::Result<OwnedFd> {
    walk(path, None)
}

fn walk(path: &Path, make: Option<Place>) -> rustix::io::Result<OwnedFd> {
    let mut waiting: VecDeque<OsString> = names(path);
    let mut here = open_root()?;
    let mut links = 0;
    while let Some(name) = waiting.pop_front() {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = match rustix::fs::openat(&here, name.as_os_str(), flags, Mode::empty()) {
            Err(Errno::NOENT) => match make {
                Some(place) => {
                    make_entry(
                        here.as_fd(),
                        &name,
                        if waiting.is_empty() {
                            place
                        } else {
                            Place::Directory
                        },
                    )?;
                    rustix::fs::openat(&here, name.as_os_str(), flags, Mode::empty())?
                }
                None => return Err(Errno::NOENT),
            },
            other => other?,
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode);
        if kind != FileType::Symlink {
            here = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        let target = OsString::from_vec(rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes());
        if Path::new(&target).is_absolute() {
            here = open_root()?;
        }
        let mut target = names(Path::new(&target));
        target.append(&mut waiting);
        waiting = target;
    }
    Ok(here)
}

fn make_entry(parent: std::os::fd::BorrowedFd<'_>, name: &OsStr, place: Place) -> rustix::io::Result<()> {
    let made = match place {
        Place::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Place::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Makes a folder for the job's user, if nothing is there.
pub(crate) fn make_home(path: &Path, uid: u32, gid: u32) -> rustix::io::Result<()> {
    if find(path).is_ok() {
        return Ok(());
    }
    let home = find_or_make(path, Place::Directory)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::chownat(&home, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
}

fn open_root() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// The components of a path; `..` stays, because what it means depends on the links before it.
fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        })
        .collect()
}
