//! Locks on files: shared while something is used, exclusive while it is changed; the kernel frees them with the process.

use std::fs::File;
use std::fs::OpenOptions;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::store::error::StoreError;

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until the lock can be shared with others. The file's time says when that was last.
    pub fn shared(path: &Path) -> Result<Self, StoreError> {
        let (_, file) = locked(path, FlockOperation::LockShared)?;
        let now = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let times = rustix::fs::Timestamps {
            last_access: now,
            last_modification: now,
        };
        rustix::fs::futimens(&file, &times).map_err(StoreError::call("touch", path))?;
        Ok(Self { _file: file })
    }

    /// Waits until nobody else holds the lock.
    pub fn exclusive(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            _file: locked(path, FlockOperation::LockExclusive)?.1,
        })
    }

    /// The lock for this caller alone, or none if somebody holds it.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, StoreError> {
        let (is_locked, file) = locked(path, FlockOperation::NonBlockingLockExclusive)?;
        Ok(is_locked.then_some(Self { _file: file }))
    }
}

fn locked(path: &Path, operation: FlockOperation) -> Result<(bool, File), StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let file = file.map_err(StoreError::file("open the lock", path))?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok((true, file)),
            Err(Errno::WOULDBLOCK) => return Ok((false, file)),
            Err(Errno::INTR) => {}
            Err(source) => return Err(StoreError::call("lock", path)(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_lock_keeps_an_exclusive_one_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::shared(&path).unwrap();
        let second = Lock::shared(&path).unwrap();
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop((first, second));
        let alone = Lock::try_exclusive(&path).unwrap();
        assert!(alone.is_some());
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
    }
}
