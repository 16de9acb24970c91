//! Files that are written under a temporary name, and vanish unless they are given their own. As long as somebody writes
//! one it is locked, so that what a killed process has left can be told from it, whatever container that ran in.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::flock;
use rustix::io::Errno;

use crate::oci::removal;

/// What the names of temporary files and folders begin with.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file with a temporary name; it is removed when this is dropped.
#[derive(Debug)]
pub struct TemporaryFile {
    path: Option<PathBuf>,
    /// Shares the lock with whoever writes.
    _lock: File,
}

impl TemporaryFile {
    /// Makes an empty file in `directory`, open for reading and writing.
    pub fn create(directory: &Path) -> io::Result<(File, Self)> {
        loop {
            let path = temporary_path(directory);
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match opened {
                Ok(file) if is_ours(&file)? => {
                    let lock = file.try_clone()?;
                    let path = Some(path);
                    return Ok((file, Self { path, _lock: lock }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where the file is now.
    pub fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Gives the file its own name, on the same file system; what has that name is replaced.
    pub fn persist(mut self, to: &Path) -> io::Result<()> {
        fs::rename(self.path(), to)?;
        self.path = None;
        Ok(())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // A file that stays is removed by the store's janitor.
            let _ignored = fs::remove_file(path);
        }
    }
}

/// A folder with a temporary name; it is removed with what is in it when this is dropped.
#[derive(Debug)]
pub struct TemporaryFolder {
    path: Option<PathBuf>,
    _lock: File,
}

impl TemporaryFolder {
    /// Makes an empty folder in `directory`. Processes of two containers may have the same number, so a name may be
    /// taken.
    pub fn create(directory: &Path) -> io::Result<Self> {
        loop {
            let path = temporary_path(directory);
            match fs::create_dir(&path).and_then(|()| File::open(&path)) {
                Ok(lock) if is_ours(&lock)? => {
                    let path = Some(path);
                    return Ok(Self { path, _lock: lock });
                }
                Ok(_) => {}
                // Swept up before it was opened.
                Err(error) if error.kind() == io::ErrorKind::NotFound && directory.is_dir() => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where the folder is now.
    pub fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Gives the folder its own name, on the same file system, unless something has it.
    pub fn persist(mut self, to: &Path) -> io::Result<()> {
        fs::rename(self.path(), to)?;
        self.path = None;
        Ok(())
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // A folder that stays is removed by the store's janitor.
            let _ignored = fs::remove_dir_all(path);
        }
    }
}

/// Locks what was just made; false if it was swept up before that. Where locks do not work, nothing is ever swept up.
fn is_ours(made: &File) -> io::Result<bool> {
    Ok(match flock(made, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => false,
        _ => rustix::fs::fstat(made)?.st_nlink > 0,
    })
}

/// Removes the temporary files and folders in `directory` whose makers are dead. What cannot be removed stays.
pub fn sweep(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(opened) = rustix::fs::open(entry.path(), flags, Mode::empty()) else {
            continue;
        };
        if flock(opened.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Whoever may not remove it leaves it to who may.
            drop(removal::remove(&entry.path()));
        }
    }
    Ok(())
}

/// A name in `directory` that this process gives only once.
pub fn temporary_path(directory: &Path) -> PathBuf {
    let process = rustix::process::getpid().as_raw_nonzero();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    directory.join(format!("{TEMPORARY_PREFIX}{process}-{number}"))
}

/// Writes a file whole or not at all: temporary name, `fsync`, rename.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_and_rename(path, bytes, File::sync_data)
}

/// Like [`write_atomically`], but without waiting for the disk: readers never see a part of it, yet when the machine
/// itself stops it may be left empty. Only for what its reader can tell and do without.
pub fn write_expendable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_and_rename(path, bytes, |_| Ok(()))
}

/// Waits until all of the file system that `path` is on is on the disk: what is made in a tree, before it gets its name.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

fn write_and_rename(path: &Path, bytes: &[u8], sync: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let (mut file, temporary) = TemporaryFile::create(directory)?;
    file.write_all(bytes)?;
    sync(&file)?;
    temporary.persist(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_passes_by_names_that_are_taken_and_vanishes_unless_it_is_persisted() {
        let place = tempfile::tempdir().unwrap();
        // What another container's process of this number would have made.
        let number = NUMBER.load(Ordering::Relaxed);
        for taken in number..number + 50 {
            let name = format!("{TEMPORARY_PREFIX}{}-{taken}", std::process::id());
            fs::create_dir(place.path().join(name)).unwrap();
        }
        let kept = TemporaryFolder::create(place.path()).unwrap();
        fs::write(kept.path().join("file"), "x").unwrap();
        kept.persist(&place.path().join("kept")).unwrap();
        let lost = TemporaryFolder::create(place.path()).unwrap();
        fs::write(lost.path().join("file"), "x").unwrap();
        let path = lost.path().to_owned();
        drop(lost);
        assert!(place.path().join("kept/file").exists() && !path.exists());
    }

    #[test]
    fn what_the_dead_have_left_is_swept_up_and_what_is_written_is_not() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(".tmp-77-1"), "half").unwrap();
        fs::create_dir_all(place.path().join(".tmp-77-2/fs")).unwrap();
        std::os::unix::fs::symlink("/etc", place.path().join(".tmp-77-3")).unwrap();
        fs::write(place.path().join("kept"), "whole").unwrap();
        let (writer, file) = TemporaryFile::create(place.path()).unwrap();
        let folder = TemporaryFolder::create(place.path()).unwrap();
        // The file is not finished when its bytes are.
        drop(writer);
        sweep(place.path()).unwrap();
        assert!(file.path().exists() && folder.path().exists());
        file.persist(&place.path().join("named")).unwrap();
        drop(folder);
        sweep(place.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, [".tmp-77-3", "kept", "named"]);
        sweep(&place.path().join("absent")).unwrap();
    }

    #[test]
    fn a_file_that_is_not_persisted_vanishes() {
        let folder = tempfile::tempdir().unwrap();
        let (_, temporary) = TemporaryFile::create(folder.path()).unwrap();
        let path = temporary.path().to_owned();
        assert!(path.exists());
        drop(temporary);
        assert!(!path.exists());
        write_atomically(&folder.path().join("a"), b"x").unwrap();
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["a"]);
    }
}
