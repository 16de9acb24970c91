//! The hash of a folder's content, with a stat cache: a file that looks unchanged is not read again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

use crate::model::digest::Digest;
use crate::oci::temporary::write_atomically;
use crate::store::copy::git_mode;
use crate::store::error::StoreError;

/// An entry that is younger than the record less this is read again: its time could have stood still while it changed.
const YOUNG_NS: i128 = 2_000_000_000;
/// The largest stat cache that is read.
const CACHE_BYTES_MAX: u64 = 1 << 30;
/// Folders within folders.
const DEPTH_MAX: usize = 512;

/// What a file looked like when it was read, and what it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    stat: Stat,
    digest: Digest,
}

/// Size, times in nanoseconds, inode and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stat(u64, i128, i128, u64, u64);

impl Stat {
    fn of(metadata: &fs::Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        let modified = ns(metadata.mtime(), metadata.mtime_nsec());
        let changed = ns(metadata.ctime(), metadata.ctime_nsec());
        Self(metadata.size(), modified, changed, metadata.ino(), metadata.dev())
    }

    fn youngest(self) -> i128 {
        self.1.max(self.2)
    }
}

/// The record of one folder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// When it was begun, by the clock of the file system: nanoseconds.
    begun: i128,
    /// By path.
    seen: BTreeMap<String, Seen>,
}

/// The hash of what a build would take from `directory`: names, kinds, modes as git sees them, link targets and
/// contents; no times and no owners. Names at the top that stand in `leave_out` are left out. The record is kept in
/// `cache` and is only ever a short cut.
pub(super) fn hash_directory(directory: &Path, leave_out: &[&str], cache: &Path) -> Result<Digest, StoreError> {
    let old = read_record(cache);
    let mut hashing = Hashing {
        top: directory,
        hasher: Sha256::new(),
        young: old.begun - YOUNG_NS,
        old: old.seen,
        new: Record { begun: file_system_time(cache)?, seen: BTreeMap::new() },
        has_read: false,
    };
    hashing.folder(directory, leave_out, 0)?;
    if hashing.has_read || hashing.new.seen.len() != hashing.old.len() {
        let bytes = serde_json::to_vec(&hashing.new)
            .map_err(|error| StoreError::Record { path: cache.to_owned(), why: error.to_string() })?;
        write_atomically(cache, &bytes).map_err(StoreError::file("write", cache))?;
    }
    Ok(Digest::finish(hashing.hasher))
}

fn read_record(cache: &Path) -> Record {
    let is_small = fs::metadata(cache).is_ok_and(|metadata| metadata.len() <= CACHE_BYTES_MAX);
    let bytes = if is_small { fs::read(cache).unwrap_or_default() } else { Vec::new() };
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// The time that the file system gives to a file made now.
fn file_system_time(beside: &Path) -> Result<i128, StoreError> {
    let probe = beside.with_extension(format!("{}.now", std::process::id()));
    let made = probe.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&probe, b""));
    let time = made.and_then(|()| fs::metadata(&probe)).map(|metadata| Stat::of(&metadata).youngest());
    // What is left of a failed write is harmless, and the write's own failure is the one to tell.
    let _removed = fs::remove_file(&probe);
    time.map_err(StoreError::file("write", &probe))
}

struct Hashing<'a> {
    top: &'a Path,
    hasher: Sha256,
    /// Entries at least this old may be taken from the record.
    young: i128,
    old: BTreeMap<String, Seen>,
    new: Record,
    has_read: bool,
}

impl Hashing<'_> {
    fn folder(&mut self, folder: &Path, leave_out: &[&str], depth: usize) -> Result<(), StoreError> {
        if depth > DEPTH_MAX {
            let why = format!("more than {DEPTH_MAX} folders within folders");
            return Err(StoreError::Record { path: folder.to_owned(), why });
        }
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(StoreError::file("read", folder))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if !leave_out.iter().any(|name| entry.file_name() == *name) {
                self.entry(&entry, depth)?;
            }
        }
        self.part(b"end", &[]);
        Ok(())
    }

    fn entry(&mut self, entry: &fs::DirEntry, depth: usize) -> Result<(), StoreError> {
        let path = entry.path();
        let metadata = entry.metadata().map_err(StoreError::file("read", &path))?;
        let name = entry.file_name();
        if metadata.is_dir() {
            self.part(b"folder", name.as_bytes());
            return self.folder(&path, &[], depth + 1);
        }
        if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(StoreError::file("read", &path))?;
            self.part(b"link", name.as_bytes());
            self.part(b"to", target.as_os_str().as_bytes());
        } else if metadata.is_file() {
            self.part(if git_mode(metadata.mode()) == 0o755 { b"program" } else { b"file" }, name.as_bytes());
            let digest = self.contents(&path, &metadata)?;
            self.part(b"holds", digest.hex().as_bytes());
        }
        Ok(())
    }

    fn contents(&mut self, path: &Path, metadata: &fs::Metadata) -> Result<Digest, StoreError> {
        let stat = Stat::of(metadata);
        // Names that are not UTF-8 are read each time.
        let name = path.strip_prefix(self.top).ok().and_then(Path::to_str).map(str::to_owned);
        let known = name.as_ref().and_then(|name| self.old.get(name)).copied();
        let seen = match known.filter(|seen| seen.stat == stat && stat.youngest() < self.young) {
            Some(seen) => seen,
            None => {
                self.has_read = true;
                Seen { stat, digest: read_digest(path)? }
            }
        };
        if let Some(name) = name {
            self.new.seen.insert(name, seen);
        }
        Ok(seen.digest)
    }

    fn part(&mut self, kind: &[u8], bytes: &[u8]) {
        self.hasher.update((kind.len() as u64).to_le_bytes());
        self.hasher.update(kind);
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }
}

fn read_digest(path: &Path) -> Result<Digest, StoreError> {
    let mut hasher = Sha256::new();
    let copied = fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
    copied.map_err(StoreError::file("read", path))?;
    Ok(Digest::finish(hasher))
}

/// Where the record of a folder is kept.
pub(super) fn cache_path(directory: &Path, caches: &Path) -> PathBuf {
    caches.join(Digest::of(directory.as_os_str().as_bytes()).hex()).with_extension("json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;
    use std::time::SystemTime;

    fn set_age(path: &Path, age: Duration) {
        let file = fs::File::options().write(true).open(path).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the test makes a file look old")]
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn the_hash_follows_content_and_not_times() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache/record.json");
        let top = folder.path().join("app");
        fs::create_dir_all(top.join("sub/.git")).unwrap();
        fs::create_dir_all(top.join(".git")).unwrap();
        fs::write(top.join("a"), "1").unwrap();
        fs::write(top.join("sub/b"), "2").unwrap();
        let hash = || hash_directory(&top, &[".git"], &cache).unwrap();
        let first = hash();
        assert_eq!(hash(), first);

        set_age(&top.join("a"), Duration::from_secs(1000));
        fs::write(top.join(".git/HEAD"), "x").unwrap();
        assert_eq!(hash(), first, "times and what is left out do not count");

        fs::write(top.join("a"), "3").unwrap();
        let second = hash();
        assert_ne!(second, first, "same size, other content");
        fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(hash(), second, "executable now");
        fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(hash(), second, "only what git sees of modes counts");
        fs::rename(top.join("sub/b"), top.join("b")).unwrap();
        assert_ne!(hash(), second, "moved");
    }

    #[test]
    fn a_young_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("record.json");
        let top = folder.path().join("app");
        fs::create_dir(&top).unwrap();
        fs::write(top.join("a"), "1").unwrap();
        let first = hash_directory(&top, &[], &cache).unwrap();
        // The record claims other content for the very same file: only an old file would be believed.
        let text = fs::read_to_string(&cache).unwrap();
        let lie = Digest::of(b"lie").to_string();
        fs::write(&cache, text.replace(&Digest::of(b"1").to_string(), &lie)).unwrap();
        assert_eq!(hash_directory(&top, &[], &cache).unwrap(), first);
    }
}
