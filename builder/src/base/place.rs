//! A base's folder: it gets its name when it is whole, and stays as long as somebody uses it.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FlockOperation;
use rustix::fs::flock;
use rustix::io::Errno;

use crate::base::error::BaseError;
use crate::oci::removal;
use crate::oci::temporary::TEMPORARY_PREFIX;
use crate::oci::temporary::sync_file_system;
use crate::oci::temporary::temporary_path;

/// The use of a base. Its folder is locked itself, so that the lock goes with it when it is put aside.
#[derive(Debug, Clone)]
pub struct Lease {
    _folder: Arc<File>,
}

impl Lease {
    /// Takes the lease of the folder that has this name; none if there is no such folder.
    pub(super) fn take(folder: &Path) -> io::Result<Option<Self>> {
        loop {
            let opened = match File::open(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            rustix::io::retry_on_intr(|| flock(&opened, FlockOperation::LockShared))?;
            // Another base may have got the name meanwhile.
            let locked = opened.metadata()?;
            match fs::metadata(folder) {
                Ok(named) if (named.dev(), named.ino()) == (locked.dev(), locked.ino()) => {
                    return Ok(Some(Self {
                        _folder: Arc::new(opened),
                    }));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
}

/// A lease says nothing of the base.
impl PartialEq for Lease {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// How the names of folders end that are not whole yet.
const UNFINISHED: &str = ".partial";

/// A folder that is not whole yet; removed when it is dropped.
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    /// The caller alone makes bases, so whatever is unfinished there was left by one that was killed.
    pub(super) fn beside(folder: &Path) -> Result<Self, BaseError> {
        let bases = folder.parent().unwrap_or(folder);
        remove_unfinished(bases).map_err(BaseError::file("clean", bases))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let path = folder.with_file_name(format!(".{name}.{}{UNFINISHED}", std::process::id()));
        fs::create_dir_all(&path).map_err(BaseError::file("make", &path))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Takes the folder's place; a base that was there before (with another owner shift) goes, as soon as nobody uses
    /// it. The caller alone makes bases.
    pub(super) fn keep_as(self, folder: &Path) -> Result<Lease, BaseError> {
        // Under its name it is taken to be whole.
        sync_file_system(&self.0).map_err(BaseError::file("sync", &self.0))?;
        let beside = folder.parent().unwrap_or(folder);
        match fs::rename(folder, temporary_path(beside)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(BaseError::file("rename", folder))?,
        }
        fs::rename(&self.0, folder).map_err(BaseError::file("rename", &self.0))?;
        remove_unused(beside).map_err(BaseError::file("clean", beside))?;
        let lease = Lease::take(folder).map_err(BaseError::file("lock", folder))?;
        lease.ok_or_else(|| BaseError::file("lock", folder)(io::ErrorKind::NotFound.into()))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After the rename there is nothing left under this name.
        let _absent = removal::remove(&self.0);
    }
}

fn remove_unfinished(bases: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(bases) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            removal::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes the bases that were put aside and that nobody uses any more.
fn remove_unused(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_base = entry.file_type()?.is_dir();
        if !is_base || !entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            continue;
        }
        let opened = File::open(entry.path())?;
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => removal::remove(&entry.path())?,
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(folder: &Path, content: &str) -> Lease {
        let unfinished = Unfinished::beside(folder).unwrap();
        fs::write(unfinished.path().join("file"), content).unwrap();
        unfinished.keep_as(folder).unwrap()
    }

    #[test]
    fn what_a_killed_process_began_is_removed_by_the_next() {
        let holder = tempfile::tempdir().unwrap();
        fs::create_dir_all(holder.path().join(".run.77.partial/fs")).unwrap();
        drop(make(&holder.path().join("run"), "whole"));
        let names = fs::read_dir(holder.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["run"]);
    }

    #[test]
    fn a_base_that_is_used_outlives_the_one_that_takes_its_place() {
        let holder = tempfile::tempdir().unwrap();
        let folder = holder.path().join("run");
        assert!(Lease::take(&folder).unwrap().is_none());
        drop(make(&folder, "first"));
        let used = Lease::take(&folder).unwrap().unwrap();
        // As a mount would have it.
        let first = File::open(&folder).unwrap();
        let file_of_first = || {
            rustix::fs::openat(
                &first,
                "file",
                rustix::fs::OFlags::RDONLY,
                rustix::fs::Mode::empty(),
            )
        };
        drop(make(&folder, "second"));
        assert!(file_of_first().is_ok());
        assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "second");
        drop(used);
        drop(make(&folder, "third"));
        assert!(file_of_first().is_err());
        assert_eq!(fs::read_dir(holder.path()).unwrap().count(), 1);
    }
}
