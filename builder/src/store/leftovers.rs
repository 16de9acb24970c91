//! What killed processes have left in the data directory: temporary files, and builds that never ended. Their locks are
//! free. Not: job directories, which the sandbox's janitor removes, and bases, which have locks of their own.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::oci::temporary;
use crate::store::Store;
use crate::store::error::StoreError;

/// Folders in which files are written.
const FOLDERS: [&str; 6] = [
    "",
    "blobs/sha256",
    "embedded",
    "images",
    "launcher-layer",
    "stat-cache",
];
/// Folders whose folders are such.
const FOLDERS_OF_FOLDERS: [&str; 2] = ["receipts", "pushed"];

impl Store {
    /// Removes what killed processes have left; what lives holds a lock. To be called at start.
    pub fn sweep(&self) -> Result<(), StoreError> {
        self.caches()?.sweep()?;
        let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|name| self.root.join(name)).collect();
        folders.push(self.root.join("images/blobs/sha256"));
        folders.push(self.trees("layers")?);
        for name in FOLDERS_OF_FOLDERS {
            folders.extend(folders_of(&self.root.join(name))?);
        }
        for app in folders_of(&self.trees("caches")?)? {
            folders.extend(folders_of(&app)?);
        }
        for folder in folders {
            temporary::sweep(&folder).map_err(StoreError::file("clean", &folder))?;
        }
        Ok(())
    }
}

fn folders_of(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(StoreError::file("read", folder))?,
    };
    // What vanishes meanwhile has nothing in it.
    Ok(entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_the_dead_goes_and_nothing_of_the_living() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let cache = store.caches().unwrap().cache("app", "scope").unwrap();
        let living = cache.begin(None).unwrap();
        let dead = living.folder().with_file_name("77");
        fs::create_dir_all(dead.join("upper")).unwrap();
        let of_cache = living.folder().parent().unwrap().parent().unwrap().to_owned();
        let places = [
            store.root().to_owned(),
            store.root().join("blobs/sha256"),
            store.root().join("layers"),
            store.root().join("embedded"),
            store.root().join("images/blobs/sha256"),
            store.root().join("receipts/scope"),
            store.root().join("pushed/registry"),
            of_cache,
        ];
        for place in &places {
            fs::create_dir_all(place.join(".tmp-77-1")).unwrap();
            fs::write(place.join(".tmp-77-2"), "half").unwrap();
        }
        let (_writer, written) = temporary::TemporaryFile::create(&places[1]).unwrap();
        store.sweep().unwrap();
        for place in &places {
            assert!(
                !place.join(".tmp-77-1").exists() && !place.join(".tmp-77-2").exists(),
                "{}",
                place.display()
            );
        }
        assert!(!dead.exists() && living.upper().exists() && written.path().exists());
    }
}
