//! A range of 65536 user ids of the machine for each job that runs as root, held by a lock.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::sandbox::identity::IDS_OF_A_JOB;
use crate::sandbox::identity::number_of;

/// Ranges begin above what systemd gives to its containers and below the last ids, which mean "none".
const FIRST_RANGE: u32 = 0x8000;
const RANGES: u32 = 0x7000;

/// A range that nobody else has while the lock is open.
#[derive(Debug)]
pub(crate) struct IdRange {
    /// The machine's id that is 0 inside.
    pub(crate) first: u32,
    /// Holds the range as long as any copy of it is open.
    pub(crate) lock: OwnedFd,
}

/// Takes a free range. `folder` keeps one empty lock file for each range that was ever used at the same time; two data
/// directories begin at different places.
pub(crate) fn take(folder: &Path) -> io::Result<IdRange> {
    fs::create_dir_all(folder)?;
    let start = u32::try_from(number_of(folder.as_os_str()) % u64::from(RANGES)).unwrap_or(0);
    for step in 0..RANGES {
        let range = FIRST_RANGE + (start + step) % RANGES;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::open(folder.join(range.to_string()), flags, Mode::RUSR | Mode::WUSR)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                return Ok(IdRange {
                    first: range * IDS_OF_A_JOB,
                    lock,
                });
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Err(io::Error::other("every range of user ids is in use"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_never_have_the_same_range() {
        let folder = tempfile::tempdir().unwrap();
        let one = take(folder.path()).unwrap();
        let other = take(folder.path()).unwrap();
        assert_ne!(one.first, other.first);
        let first = one.first;
        drop(one);
        assert_eq!(take(folder.path()).unwrap().first, first);
    }
}
