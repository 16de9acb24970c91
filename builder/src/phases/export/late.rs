//! Whether a layer was changed after its buildpack had exited.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::phases::handover::FileTime;

/// Whether anything at or below `path` (in the overlay's upper) changed after `exited`. What cannot be looked at counts
/// as changed.
pub(super) fn changed_after(path: &Path, exited: FileTime) -> bool {
    look(path, exited).unwrap_or(true)
}

fn look(path: &Path, exited: FileTime) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    if FileTime(metadata.ctime(), metadata.ctime_nsec()) > exited {
        return Ok(true);
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            if look(&entry?.path(), exited)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_change_anywhere_below_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "1").unwrap();
        let newest = |path: &str| {
            let metadata = fs::symlink_metadata(folder.path().join(path)).unwrap();
            FileTime(metadata.ctime(), metadata.ctime_nsec())
        };
        let exited = newest("a/b/c").max(newest("a/b")).max(newest("a"));
        assert!(!changed_after(&folder.path().join("a"), exited));
        assert!(changed_after(
            &folder.path().join("a"),
            FileTime(exited.0, exited.1 - 1)
        ));
        assert!(changed_after(&folder.path().join("missing"), exited));
    }
}
