//! Files that are written under a temporary name, and vanish unless they are given their own.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// What the names of temporary files and folders begin with.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file with a temporary name; it is removed when this is dropped.
#[derive(Debug)]
pub struct TemporaryFile {
    path: Option<PathBuf>,
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
                Ok(file) => return Ok((file, Self { path: Some(path) })),
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
}

impl TemporaryFolder {
    /// Makes an empty folder in `directory`. Processes of two containers may have the same number, so a name may be
    /// taken.
    pub fn create(directory: &Path) -> io::Result<Self> {
        loop {
            let path = temporary_path(directory);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path: Some(path) }),
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
