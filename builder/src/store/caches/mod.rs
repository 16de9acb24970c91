//! Caches of layers between builds. A state is an immutable list of trees of the whole `/layers` folder; a build mounts
//! the list under one upper, and its upper becomes the newest tree of the next state (DESIGN §6).

pub mod record;
mod directory;
pub mod eviction;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::oci::overlay::marks;
use crate::oci::overlay::merge::Files;
use crate::oci::overlay::merge::merge;
use crate::oci::temporary::sync_file_system;
use crate::store::Store;
use crate::store::caches::directory::Directory;
use crate::store::caches::record::CachedLayer;
use crate::store::caches::record::StateRecord;
use crate::store::caches::record::VERSION;
use crate::store::error::StoreError;
use crate::store::locks::Lock;
use crate::store::removal;

/// All caches of a store: `caches/<app>/<scope>/`.
#[derive(Debug, Clone)]
pub struct Caches {
    directory: PathBuf,
    trash: PathBuf,
}

/// The cache of one app in one trust scope.
#[derive(Debug, Clone)]
pub struct Cache {
    app: String,
    scope: String,
    directory: Directory,
    trash: PathBuf,
}

/// A state, which stays on disk as long as this or a build on it is held.
#[derive(Debug, Clone)]
pub struct State {
    record: StateRecord,
    lowers: Vec<PathBuf>,
    leases: Arc<Vec<Lock>>,
}

/// A build on a state. Dropped without a commit, it leaves nothing behind.
#[derive(Debug)]
pub struct Pending {
    upper: PathBuf,
    work: PathBuf,
    lowers: Vec<PathBuf>,
    trees: Vec<u64>,
    number: u64,
    folder: PathBuf,
    trash: PathBuf,
    _lock: Lock,
    _leases: Arc<Vec<Lock>>,
}

impl Store {
    /// The caches.
    pub fn caches(&self) -> Result<Caches, StoreError> {
        Ok(Caches {
            directory: self.trees("caches")?,
            trash: self.trash()?,
        })
    }
}

impl Caches {
    /// The cache of `app` (a name with the tenant in it) in a trust scope.
    pub fn cache(&self, app: &str, scope: &str) -> Result<Cache, StoreError> {
        let directory = Directory::of(&self.directory, app, scope)?;
        Ok(Cache {
            app: app.to_owned(),
            scope: scope.to_owned(),
            directory,
            trash: self.trash.clone(),
        })
    }
}

impl State {
    /// The layers of the state.
    pub fn layers(&self) -> &[CachedLayer] {
        &self.record.layers
    }

    /// The trees, the newest first, as overlayfs takes its lowers. They must not be written to.
    pub fn lowers(&self) -> &[PathBuf] {
        &self.lowers
    }
}

impl Pending {
    /// The build's own folder, which holds the upper and goes with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the build's changes go: overlayfs' `upperdir`.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// overlayfs' `workdir`.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// overlayfs' `lowerdir`s, the newest first; an empty folder if there was no state.
    pub fn lowers(&self) -> &[PathBuf] {
        &self.lowers
    }

    /// The upper gets copies of all that is below: it alone is the next state.
    pub fn stand_alone(&mut self) {
        self.trees.clear();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // What cannot be moved away is swept up by the next build, as its lock is free then.
        let _swept_later = removal::discard(&self.folder, &self.trash);
    }
}

impl Cache {
    /// The state of the last build that was committed, leased. A state that is damaged counts as none: a cache may
    /// cost time, but no build.
    pub fn open(&self) -> Result<Option<State>, StoreError> {
        let _lock = self.directory.lock_shared()?;
        let Some(record) = self.directory.read_state()? else {
            return Ok(None);
        };
        let mut leases = Vec::with_capacity(record.trees.len());
        for &tree in &record.trees {
            if !self.directory.tree(tree).is_dir() {
                return Ok(None);
            }
            leases.push(Lock::shared(&self.directory.tree_lock(tree))?);
        }
        self.directory.touch();
        let lowers = record
            .trees
            .iter()
            .map(|&tree| self.directory.tree(tree))
            .collect();
        Ok(Some(State {
            record,
            lowers,
            leases: Arc::new(leases),
        }))
    }

    /// Starts a build on a state.
    pub fn begin(&self, state: Option<&State>) -> Result<Pending, StoreError> {
        let _lock = self.directory.lock_exclusive()?;
        let (number, folder) = self.directory.claim()?;
        let lock = Lock::exclusive(&folder.join("lock"))?;
        let empty = folder.join("empty");
        let pending = Pending {
            upper: folder.join("upper"),
            work: folder.join("work"),
            lowers: state.map_or_else(|| vec![empty.clone()], |state| state.lowers.clone()),
            trees: state.map(|state| state.record.trees.clone()).unwrap_or_default(),
            number,
            folder,
            trash: self.trash.clone(),
            _lock: lock,
            _leases: state.map(|state| state.leases.clone()).unwrap_or_default(),
        };
        for path in [&pending.upper, &pending.work, &empty] {
            fs::create_dir(path).map_err(StoreError::file("make", path))?;
        }
        Ok(pending)
    }

    /// Makes a build's upper the newest tree of the state that the next build gets. The upper must not be mounted any
    /// more. Of two builds at once the later one's whole state is the next.
    pub fn commit(&self, mut pending: Pending, layers: Vec<CachedLayer>) -> Result<(), StoreError> {
        let mut trees = std::mem::take(&mut pending.trees);
        sync(&pending.upper)?;
        let _lock = self.directory.lock_exclusive()?;
        if is_changed(&pending.upper)? || trees.is_empty() {
            self.directory.adopt(pending.number, &pending.upper)?;
            trees.insert(0, pending.number);
        }
        let (app, scope) = (self.app.clone(), self.scope.clone());
        self.directory.write_state(&StateRecord {
            version: VERSION,
            app,
            scope,
            trees,
            layers,
        })?;
        // The leases go first, so that trees which only this build held are swept too.
        drop(pending);
        self.directory.sweep(&self.trash)
    }

    /// Makes one tree of the state's trees if there are more than `depth_max`; says whether it did. Runs beside builds,
    /// which keep the trees that they have mounted.
    pub fn flatten(&self, depth_max: usize) -> Result<bool, StoreError> {
        let Some(state) = self
            .open()?
            .filter(|state| state.record.trees.len() > depth_max.max(1))
        else {
            return Ok(false);
        };
        let pending = self.begin(Some(&state))?;
        merge(&state.lowers, &pending.upper, Files::Shared)?;
        sync(&pending.upper)?;
        let _lock = self.directory.lock_exclusive()?;
        let Some(mut record) = self.directory.read_state()? else {
            return Ok(false);
        };
        // Builds may have put trees on top meanwhile; if one began anew, what was made here is of no use.
        if !record.trees.ends_with(&state.record.trees) {
            return Ok(false);
        }
        self.directory.adopt(pending.number, &pending.upper)?;
        record
            .trees
            .truncate(record.trees.len() - state.record.trees.len());
        record.trees.push(pending.number);
        self.directory.write_state(&record)?;
        drop((pending, state));
        self.directory.sweep(&self.trash)?;
        Ok(true)
    }
}

/// A volatile overlay leaves it to us that its upper is on the disk before anything names it.
fn sync(upper: &Path) -> Result<(), StoreError> {
    sync_file_system(upper).map_err(StoreError::file("sync", upper))
}

fn is_changed(upper: &Path) -> Result<bool, StoreError> {
    let failed = || StoreError::file("read", upper);
    let is_empty = fs::read_dir(upper).map_err(failed())?.next().is_none();
    Ok(!is_empty || marks::is_opaque(upper).map_err(failed())?)
}

#[cfg(test)]
mod tests;
