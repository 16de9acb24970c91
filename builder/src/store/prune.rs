//! `cache prune`: by age and by bytes, the longest unused first, and never what is in use.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use crate::model::digest::DiffId;
use crate::model::digest::Digest;
use crate::store::Store;
use crate::store::caches::eviction::CacheSummary;
use crate::store::error::StoreError;
use crate::store::locks::Lock;
use crate::store::removal;

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneRules {
    /// The time now.
    pub now: SystemTime,
    /// What nobody used for longer goes.
    pub unused_for: Option<Duration>,
    /// Then the longest unused goes, until no more bytes than these are left.
    pub bytes_max: Option<u64>,
    /// Blobs that stay whatever their age.
    pub spared: BTreeSet<Digest>,
}

/// What went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Caches of layers.
    pub caches: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Blobs.
    pub blobs: u64,
    /// Receipts, stat caches, and notes of what was sent.
    pub records: u64,
    /// The bytes that all of them took on disk.
    pub bytes: u64,
    /// Things that should have gone and are in use.
    pub in_use: u64,
}

enum Thing {
    Cache(Box<CacheSummary>),
    Layer(DiffId),
    Blob(PathBuf),
    Record(PathBuf),
}

struct Candidate {
    thing: Thing,
    last_used: SystemTime,
    bytes: u64,
}

impl Store {
    /// Evicts what the rules say, sweeps up what dead processes have left, and empties the trash.
    pub fn prune(&self, rules: &PruneRules) -> Result<Pruned, StoreError> {
        self.sweep()?;
        let blobs = self.blobs()?;
        // Without the lock a build may be about to use any blob.
        let lock = blobs.try_own_all()?;
        let mut candidates = self.candidates(lock.is_some(), &rules.spared)?;
        candidates.sort_by_key(|candidate| candidate.last_used);
        let mut left: u64 = candidates.iter().map(|candidate| candidate.bytes).sum();
        let mut pruned = Pruned {
            bytes: self.images()?.sweep()?,
            ..Pruned::default()
        };
        for candidate in candidates {
            let age = rules.now.duration_since(candidate.last_used).unwrap_or_default();
            let is_old = rules
                .unused_for
                .is_some_and(|unused_for| age > unused_for || unused_for.is_zero());
            if !is_old && rules.bytes_max.is_none_or(|bytes_max| left <= bytes_max) {
                continue;
            }
            if self.evict(&candidate.thing, &mut pruned)? {
                left = left.saturating_sub(candidate.bytes);
                pruned.bytes += candidate.bytes;
            } else {
                pruned.in_use += 1;
            }
        }
        self.empty_trash()?;
        Ok(pruned)
    }

    /// Removes what was evicted; needs time, so it is not done where somebody waits. What cannot be removed keeps nothing
    /// else in the trash.
    pub fn empty_trash(&self) -> Result<(), StoreError> {
        let trash = self.trash()?;
        // Two at once would take folders from each other.
        let _lock = Lock::exclusive(&self.root.join("trash.lock"))?;
        let discarded = entries(&trash)?.into_iter();
        let removed: Vec<_> = discarded.map(|(path, _)| removal::remove_tree(&path)).collect();
        removed.into_iter().collect()
    }

    fn evict(&self, thing: &Thing, pruned: &mut Pruned) -> Result<bool, StoreError> {
        let (is_gone, count) = match thing {
            Thing::Cache(cache) => (self.caches()?.evict(cache)?, &mut pruned.caches),
            Thing::Layer(layer) => (self.unpacked()?.evict(layer)?, &mut pruned.layers),
            Thing::Blob(path) => (remove(path)?, &mut pruned.blobs),
            Thing::Record(path) => (remove(path)?, &mut pruned.records),
        };
        *count += u64::from(is_gone);
        Ok(is_gone)
    }

    fn candidates(&self, with_blobs: bool, spared: &BTreeSet<Digest>) -> Result<Vec<Candidate>, StoreError> {
        let mut candidates = Vec::new();
        let mut named: BTreeSet<Digest> = spared.clone();
        for cache in self.caches()?.list()? {
            named.extend(&cache.blobs);
            let (last_used, bytes) = (cache.last_used, cache.bytes);
            candidates.push(Candidate {
                thing: Thing::Cache(Box::new(cache)),
                last_used,
                bytes,
            });
        }
        for (layer, path) in self.unpacked()?.list()? {
            // Whoever uses a layer shares its lock, which notes the time.
            let last_used = used(&path.with_extension("lock")).or_else(|| used(&path));
            let last_used = last_used.unwrap_or(SystemTime::UNIX_EPOCH);
            let bytes = removal::bytes_on_disk(&path);
            candidates.push(Candidate {
                thing: Thing::Layer(layer),
                last_used,
                bytes,
            });
        }
        if with_blobs {
            for (path, metadata) in entries(self.blobs()?.directory())? {
                let digest = path
                    .file_name()
                    .and_then(|name| format!("sha256:{}", name.to_str()?).parse().ok());
                // A blob of a cached layer goes when its cache has gone.
                if digest.is_some_and(|digest: Digest| !named.contains(&digest)) {
                    let last_used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    candidates.push(Candidate {
                        thing: Thing::Blob(path),
                        last_used,
                        bytes: metadata.len(),
                    });
                }
            }
        }
        let mut folders = vec![self.folder("stat-cache")?];
        for kind in ["receipts", "pushed"] {
            let of_kind = entries(&self.folder(kind)?)?;
            folders.extend(of_kind.into_iter().map(|(path, _)| path));
        }
        for folder in folders {
            for (path, metadata) in entries(&folder)? {
                let last_used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                candidates.push(Candidate {
                    thing: Thing::Record(path),
                    last_used,
                    bytes: metadata.len(),
                });
            }
        }
        Ok(candidates)
    }
}

fn used(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn remove(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        other => other.map(|()| true).map_err(StoreError::file("remove", path)),
    }
}

fn entries(folder: &Path) -> Result<Vec<(PathBuf, fs::Metadata)>, StoreError> {
    let found = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let found = found.map_err(StoreError::file("read", folder))?;
    // What vanishes meanwhile is not there.
    Ok(found
        .iter()
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::descriptor::CONFIG;
    use crate::oci::manifest::describe;

    #[test]
    fn the_longest_unused_goes_first_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let blobs = store.blobs().unwrap();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let kept: Vec<_> = (0..4_u8)
            .map(|number| {
                let blob = describe(CONFIG, &[number; 100]);
                let path = blobs.write(&blob, &mut &[number; 100][..]).unwrap();
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_modified(start + minutes(u64::from(number))).unwrap();
                blob
            })
            .collect();
        let rules = PruneRules {
            now: start + minutes(10),
            unused_for: None,
            bytes_max: None,
            spared: BTreeSet::new(),
        };
        assert_eq!(store.prune(&rules).unwrap(), Pruned::default());

        let in_use = blobs.use_all().unwrap();
        let aged = PruneRules {
            unused_for: Some(minutes(9)),
            ..rules
        };
        assert_eq!(store.prune(&aged).unwrap().blobs, 0);
        drop(in_use);
        assert_eq!(
            store.prune(&aged).unwrap(),
            Pruned {
                blobs: 1,
                bytes: 100,
                ..Pruned::default()
            }
        );
        assert!(!blobs.contains(&kept[0]) && blobs.contains(&kept[1]));

        let small = PruneRules {
            bytes_max: Some(150),
            spared: BTreeSet::new(),
            ..rules
        };
        assert_eq!(store.prune(&small).unwrap().blobs, 2);
        assert!(!blobs.contains(&kept[2]) && blobs.contains(&kept[3]));
    }

    #[test]
    fn a_cache_goes_whole_and_a_leased_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let cache = store.caches().unwrap().cache("app", "protected").unwrap();
        let pending = cache.begin(None).unwrap();
        fs::create_dir_all(pending.upper().join("bp/layer")).unwrap();
        cache.commit(pending, Vec::new()).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        let rules = PruneRules {
            now,
            unused_for: Some(Duration::from_secs(1)),
            bytes_max: None,
            spared: BTreeSet::new(),
        };

        let state = cache.open().unwrap().unwrap();
        let pruned = store.prune(&rules).unwrap();
        assert_eq!((pruned.caches, pruned.in_use), (0, 1));
        assert!(state.lowers()[0].join("bp/layer").is_dir());
        drop(state);
        assert_eq!(store.prune(&rules).unwrap().caches, 1);
        assert!(cache.open().unwrap().is_none());
        assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
    }
}
