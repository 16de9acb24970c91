//! A cache on disk: `state.json`, `trees/<number>/{fs,lock}`, `pending/<number>/{upper,work,empty,lock}`.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::oci::temporary::write_atomically;
use crate::store::blobs::now;
use crate::store::caches::record::StateRecord;
use crate::store::caches::record::VERSION;
use crate::store::error::StoreError;
use crate::store::folder_name;
use crate::store::locks::Lock;
use crate::store::removal;

/// The most bytes of a state that is read.
const STATE_BYTES_MAX: u64 = 16 << 20;

/// The folder of one cache.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
}

impl Directory {
    pub(super) fn of(caches: &Path, app: &str, scope: &str) -> Result<Self, StoreError> {
        let path = caches.join(folder_name(app)).join(folder_name(scope));
        let parent = path.parent().unwrap_or(caches);
        fs::create_dir_all(parent).map_err(StoreError::file("make", parent))?;
        Ok(Self { path })
    }

    /// Beside the folder, so that the lock outlives it.
    fn lock(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        path.into()
    }

    pub(super) fn lock_shared(&self) -> Result<Lock, StoreError> {
        Lock::shared(&self.lock())
    }

    pub(super) fn lock_exclusive(&self) -> Result<Lock, StoreError> {
        Lock::exclusive(&self.lock())
    }

    pub(super) fn tree(&self, number: u64) -> PathBuf {
        self.path.join("trees").join(number.to_string()).join("fs")
    }

    pub(super) fn tree_lock(&self, number: u64) -> PathBuf {
        self.path.join("trees").join(number.to_string()).join("lock")
    }

    fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// The state, if there is one that can be understood.
    pub(super) fn read_state(&self) -> Result<Option<StateRecord>, StoreError> {
        let path = self.state();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > STATE_BYTES_MAX => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::file("read", &path)(error)),
        }
        let bytes = fs::read(&path).map_err(StoreError::file("read", &path))?;
        let record = serde_json::from_slice::<StateRecord>(&bytes).ok();
        Ok(record.filter(|record| record.version == VERSION))
    }

    pub(super) fn write_state(&self, record: &StateRecord) -> Result<(), StoreError> {
        let path = self.state();
        let bytes = serde_json::to_vec(record).map_err(|error| StoreError::Record {
            path: path.clone(),
            why: error.to_string(),
        })?;
        write_atomically(&path, &bytes).map_err(StoreError::file("write", &path))
    }

    /// Notes that the cache was used; eviction goes by it.
    pub(super) fn touch(&self) {
        // Without it the cache is only evicted earlier.
        let _untouched = File::open(self.state()).map(|file| rustix::fs::futimens(file, &now()));
    }

    pub(super) fn last_used(&self) -> Option<std::time::SystemTime> {
        fs::metadata(self.state())
            .and_then(|metadata| metadata.modified())
            .ok()
    }

    /// A number that no tree and no build has, and the new folder of a build. Needs the exclusive lock.
    pub(super) fn claim(&self) -> Result<(u64, PathBuf), StoreError> {
        let mut number = 0;
        for kind in ["trees", "pending"] {
            let folder = self.path.join(kind);
            fs::create_dir_all(&folder).map_err(StoreError::file("make", &folder))?;
            number = self.numbers(kind)?.into_iter().max().unwrap_or(0).max(number);
        }
        let folder = self.path.join("pending").join((number + 1).to_string());
        fs::create_dir(&folder).map_err(StoreError::file("make", &folder))?;
        Ok((number + 1, folder))
    }

    /// Puts a finished upper among the trees. Needs the exclusive lock.
    pub(super) fn adopt(&self, number: u64, upper: &Path) -> Result<(), StoreError> {
        let tree = self.tree(number);
        let folder = tree.parent().unwrap_or(&tree);
        fs::create_dir(folder).map_err(StoreError::file("make", folder))?;
        fs::rename(upper, &tree).map_err(StoreError::file("write", &tree))
    }

    /// Moves away trees that no state names and no build has mounted, and builds that have ended without a word.
    /// Needs the exclusive lock.
    pub(super) fn sweep(&self, trash: &Path) -> Result<(), StoreError> {
        let named = self.read_state()?.map(|record| record.trees).unwrap_or_default();
        for kind in ["trees", "pending"] {
            for number in self.numbers(kind)? {
                let folder = self.path.join(kind).join(number.to_string());
                let is_named = kind == "trees" && named.contains(&number);
                if !is_named && Lock::try_exclusive(&folder.join("lock"))?.is_some() {
                    removal::discard(&folder, trash)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a build has a tree of it mounted. Needs the exclusive lock.
    pub(super) fn is_in_use(&self) -> Result<bool, StoreError> {
        for kind in ["trees", "pending"] {
            for number in self.numbers(kind)? {
                let folder = self.path.join(kind).join(number.to_string());
                if Lock::try_exclusive(&folder.join("lock"))?.is_none() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn numbers(&self, kind: &str) -> Result<Vec<u64>, StoreError> {
        let folder = self.path.join(kind);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(StoreError::file("read", &folder))?,
        };
        let names = entries
            .collect::<io::Result<Vec<_>>>()
            .map_err(StoreError::file("read", &folder))?;
        Ok(names
            .iter()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect())
    }
}
