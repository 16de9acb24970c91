//! Removes a whole tree that somebody hostile made: any depth, folders without permissions, never through a link.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Folders that are open at once; deeper ones are first moved up.
const DEPTH_MAX: usize = 64;

/// Removes a file, a link or a whole tree; nothing there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("not a path that can be removed"));
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let parent = match rustix::fs::open(
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    remove_at(parent.as_fd(), name)
}

/// The same for what is called `name` in a folder.
pub fn remove_at(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR for a folder, POSIX EPERM; in a folder without permission it is EACCES for both.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(other) => return Err(other.into()),
    }
    let folder = open_folder(parent, name)?;
    let mut remover = Remover {
        top: folder.as_fd(),
        moved: 0,
    };
    remover.empty(folder.as_fd(), 0)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    Ok(())
}

struct Remover<'a> {
    /// Where folders that lie too deep are moved to.
    top: BorrowedFd<'a>,
    moved: u64,
}

impl Remover<'_> {
    /// Removes all that is in a folder. Goes through it again while something was moved into it.
    fn empty(&mut self, folder: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        loop {
            let moved_before = self.moved;
            for entry in Dir::read_from(folder)? {
                let entry = entry?;
                let bytes = entry.file_name().to_bytes();
                if bytes != b"." && bytes != b".." {
                    self.remove_below(folder, OsStr::from_bytes(bytes), depth)?;
                }
            }
            if self.moved == moved_before {
                return Ok(());
            }
        }
    }

    fn remove_below(&mut self, parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(other) => return Err(other.into()),
        }
        if depth >= DEPTH_MAX {
            self.moved += 1;
            let place = format!(".packhorse-removed-{}", self.moved);
            rustix::fs::renameat(parent, name, self.top, place.as_str())?;
            return Ok(());
        }
        let folder = open_folder(parent, name)?;
        self.empty(folder.as_fd(), depth + 1)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}

/// Opens a folder for reading and makes it readable and writable for its owner (Go's module cache is not).
fn open_folder(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RWXU;
    let opened = rustix::fs::openat(parent, name, flags | OFlags::RDONLY, Mode::empty());
    if let Ok(folder) = &opened
        && Mode::from_raw_mode(rustix::fs::fstat(folder)?.st_mode).contains(mode)
    {
        return Ok(opened?);
    }
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
    Ok(rustix::fs::openat(
        parent,
        name,
        flags | OFlags::RDONLY,
        Mode::empty(),
    )?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_deep_and_locked_tree_goes_and_what_links_name_stays() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let top = place.path().join("top");
        fs::create_dir(&top).unwrap();
        std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
        let locked = top.join("locked");
        fs::create_dir(&locked).unwrap();
        fs::write(locked.join("file"), "x").unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        let mut deep = rustix::fs::open(&top, OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "d", Mode::RWXU).unwrap();
            deep = rustix::fs::openat(&deep, "d", OFlags::PATH, Mode::empty()).unwrap();
        }
        drop(deep);
        remove(&top).unwrap();
        assert!(!top.exists());
        assert!(outside.join("kept").exists());
        remove(&top).unwrap();
    }
}
