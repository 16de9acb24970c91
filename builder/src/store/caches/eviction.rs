//! What is cached and since when nobody asked for it; and its eviction, which spares what is in use.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::model::digest::Digest;
use crate::store::caches::Caches;
use crate::store::caches::directory::Directory;
use crate::store::error::StoreError;
use crate::store::locks::Lock;
use crate::store::removal;

/// One cache, for `cache list`.
#[derive(Debug, Clone)]
pub struct CacheSummary {
    /// The app, as it was named.
    pub app: String,
    /// The trust scope.
    pub scope: String,
    /// How many trees lie above each other.
    pub depth: usize,
    /// How many layers it has.
    pub layers: usize,
    /// The bytes it takes on disk.
    pub bytes: u64,
    /// When a build last asked for it.
    pub last_used: SystemTime,
    /// The blobs of its layers.
    pub(in crate::store) blobs: Vec<Digest>,
    directory: PathBuf,
}

impl Caches {
    /// Every cache that has a state.
    pub fn list(&self) -> Result<Vec<CacheSummary>, StoreError> {
        let mut caches = Vec::new();
        for app in folders(&self.directory)? {
            for path in folders(&app)? {
                let directory = Directory { path };
                let (Some(record), Some(last_used)) = (directory.read_state()?, directory.last_used()) else {
                    continue;
                };
                let of_layers = record.layers.iter().filter_map(|layer| layer.layer.as_ref());
                caches.push(CacheSummary {
                    depth: record.trees.len(),
                    layers: record.layers.len(),
                    bytes: removal::bytes_on_disk(&directory.path),
                    last_used,
                    blobs: of_layers.map(|layer| layer.blob.digest).collect(),
                    app: record.app,
                    scope: record.scope,
                    directory: directory.path,
                });
            }
        }
        Ok(caches)
    }

    /// Evicts a cache unless a build uses it; says whether it is gone.
    pub fn evict(&self, cache: &CacheSummary) -> Result<bool, StoreError> {
        let directory = Directory {
            path: cache.directory.clone(),
        };
        let _lock: Lock = directory.lock_exclusive()?;
        if directory.is_in_use()? {
            return Ok(false);
        }
        removal::discard(&directory.path, &self.trash)?;
        Ok(true)
    }

    /// Moves away what ended builds have left in every cache.
    pub(in crate::store) fn sweep(&self) -> Result<(), StoreError> {
        for app in folders(&self.directory)? {
            for path in folders(&app)? {
                let directory = Directory { path };
                let _lock = directory.lock_exclusive()?;
                directory.sweep(&self.trash)?;
            }
        }
        Ok(())
    }
}

fn folders(of: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(of).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(StoreError::file("read", of))?;
    Ok(entries
        .iter()
        .map(fs::DirEntry::path)
        .filter(|path| path.is_dir())
        .collect())
}
