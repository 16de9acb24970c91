//! Removes trees that jobs have made: out of the way first, then bit by bit.

use std::fs;
use std::io;
use std::path::Path;

use crate::oci::removal;
use crate::oci::temporary::temporary_path;
use crate::store::error::StoreError;

/// Moves a folder into the trash, which is on the same file system: it is gone from its place at once.
pub(super) fn discard(path: &Path, trash: &Path) -> Result<(), StoreError> {
    match fs::rename(path, temporary_path(trash)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(StoreError::file("discard", path)),
    }
}

/// Removes a folder with all that is in it.
pub(super) fn remove_tree(path: &Path) -> Result<(), StoreError> {
    removal::remove(path).map_err(StoreError::file("remove", path))
}

/// The bytes that a tree takes on disk, files of several names counted once for each name here.
pub(super) fn bytes_on_disk(top: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0_u64;
    let mut waiting = vec![top.to_owned()];
    while let Some(folder) = waiting.pop() {
        // What vanishes while it is counted takes nothing.
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    bytes
}
