//! The hash of a folder's content, with a stat cache: a file that looks unchanged is not read again, and a file that
//! was young when it was recorded is (DESIGN §2).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use sha2::Digest as _;
use sha2::Sha256;

use crate::model::digest::Digest;
use crate::oci::temporary::write_expendable;
use crate::oci::tree::walker::open_beneath;
use crate::oci::tree::walker::sorted_names;
use crate::store::Store;
use crate::store::copy::git_mode;
use crate::store::error::StoreError;
use crate::store::folder_name;

const MAGIC: &[u8] = b"packhorse stat cache 1\n";
const RECORD_BYTES_MAX: u64 = 1 << 30;
/// An entry this much younger than the record may have changed without a trace.
const YOUNG: Duration = Duration::from_secs(2);
const DEPTH_MAX: usize = 256;
/// Size, modification and change time in nanoseconds, inode, device: 8 + 16 + 16 + 8 + 8 bytes.
const LOOKS_BYTES: usize = 56;

/// How a folder is hashed.
#[derive(Debug, Clone, Copy)]
pub struct HashRules<'a> {
    /// Names at the top that are left out: `.git`.
    pub leave_out: &'a [PathBuf],
    /// When this begins.
    pub now: SystemTime,
    /// Set once the build is to end.
    pub stop: &'a AtomicBool,
}

/// What files of one folder looked like when they were hashed.
#[derive(Debug)]
pub struct StatCache {
    path: PathBuf,
    /// When the hashing began that recorded them, in nanoseconds since 1970.
    begun: i128,
    files: HashMap<Vec<u8>, (Looks, Digest)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looks {
    bytes: [u8; LOOKS_BYTES],
    changed: i128,
}

impl Store {
    /// The stat cache of a folder, which is named by its absolute path. One that is damaged is empty.
    pub fn stat_cache(&self, folder: &Path) -> Result<StatCache, StoreError> {
        let name = folder_name(&folder.as_os_str().as_bytes().escape_ascii().to_string());
        let path = self.folder("stat-cache")?.join(name);
        let is_small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= RECORD_BYTES_MAX);
        let bytes = if is_small {
            fs::read(&path).unwrap_or_default()
        } else {
            Vec::new()
        };
        let (begun, files) = parse(&bytes).unwrap_or_default();
        Ok(StatCache { path, begun, files })
    }
}

impl Store {
    /// The hash of what a build would take from a folder. What did not change since the last time is not read again;
    /// `passed` hears the bytes read so far.
    pub fn hash_folder(
        &self,
        folder: &Path,
        rules: HashRules<'_>,
        passed: &mut dyn FnMut(u64),
    ) -> Result<Digest, StoreError> {
        let mut cache = self.stat_cache(folder)?;
        let digest = hash_directory(folder, &mut cache, rules, passed)?;
        cache.save()?;
        Ok(digest)
    }
}

impl StatCache {
    /// Keeps what was recorded.
    pub fn save(&self) -> Result<(), StoreError> {
        let mut bytes = [MAGIC, &self.begun.to_le_bytes()].concat();
        for (path, (looks, digest)) in &self.files {
            let Ok(length) = u32::try_from(path.len()) else {
                continue;
            };
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(path);
            bytes.extend_from_slice(&looks.bytes);
            bytes.extend_from_slice(digest.hex().as_bytes());
        }
        write_expendable(&self.path, &bytes).map_err(StoreError::file("write", &self.path))
    }

    fn known(&self, path: &[u8], looks: &Looks) -> Option<Digest> {
        let young = i128::try_from(YOUNG.as_nanos()).unwrap_or(i128::MAX);
        let (old, digest) = self.files.get(path)?;
        (old == looks && looks.changed < self.begun - young).then_some(*digest)
    }
}

/// The hash of names, kinds, modes as git sees them, link targets and contents below `root`; times and owners do not
/// count, sockets neither. `passed` hears the bytes read so far. The cache is brought up to date.
pub fn hash_directory(
    root: &Path,
    cache: &mut StatCache,
    rules: HashRules<'_>,
    passed: &mut dyn FnMut(u64),
) -> Result<Digest, StoreError> {
    let folder = File::open(root).map_err(StoreError::file("read", root))?;
    let begun = rules
        .now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let files = HashMap::with_capacity(cache.files.len());
    let mut hashing = Hashing {
        root,
        rules,
        hasher: Sha256::new(),
        old: cache,
        files,
        buffer: vec![0; 128 << 10],
        read: 0,
        passed,
    };
    hashing.walk(folder.into())?;
    let (digest, files) = (Digest::finish(hashing.hasher), hashing.files);
    cache.files = files;
    cache.begun = i128::try_from(begun).unwrap_or(0);
    Ok(digest)
}

struct Hashing<'hashing> {
    root: &'hashing Path,
    rules: HashRules<'hashing>,
    hasher: Sha256,
    old: &'hashing StatCache,
    files: HashMap<Vec<u8>, (Looks, Digest)>,
    buffer: Vec<u8>,
    read: u64,
    passed: &'hashing mut dyn FnMut(u64),
}

impl Hashing<'_> {
    fn walk(&mut self, root: OwnedFd) -> Result<(), StoreError> {
        let mut path = PathBuf::new();
        let mut levels = vec![(self.names(&root, &path)?, root)];
        while let Some((names, folder)) = levels.last_mut() {
            self.check()?;
            let Some((name, _)) = names.next() else {
                levels.pop();
                path.pop();
                self.part(b"end");
                continue;
            };
            let name = OsStr::from_bytes(&name);
            path.push(name);
            let mut is_folder = false;
            if !self.rules.leave_out.contains(&path) {
                let stat = rustix::fs::statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.map_err(|source| self.failed(&path, source))?;
                is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                self.entry(folder, name, &path, &stat)?;
            }
            if is_folder {
                let below = open_beneath(folder.as_fd(), name, OFlags::DIRECTORY);
                let below = below.map_err(|source| self.failed(&path, source))?;
                if levels.len() >= DEPTH_MAX {
                    return Err(self.failed(&path, rustix::io::Errno::NAMETOOLONG));
                }
                levels.push((self.names(&below, &path)?, below));
            } else {
                path.pop();
            }
        }
        Ok(())
    }

    fn names(
        &self,
        folder: &OwnedFd,
        path: &Path,
    ) -> Result<std::vec::IntoIter<(Vec<u8>, FileType)>, StoreError> {
        let names = sorted_names(folder.as_fd()).map_err(|source| self.failed(path, source))?;
        Ok(names.into_iter())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &OsStr, path: &Path, stat: &Stat) -> Result<(), StoreError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket {
            return Ok(());
        }
        self.part(name.as_bytes());
        self.part(&(stat.st_mode & 0o170_000).to_le_bytes());
        // A link's own mode is never used.
        if kind != FileType::Symlink {
            self.part(&git_mode(stat.st_mode).to_le_bytes());
        }
        match kind {
            FileType::RegularFile => {
                let digest = self.contents(folder, name, path, stat)?;
                self.part(digest.hex().as_bytes());
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new());
                let target = target.map_err(|source| self.failed(path, source))?;
                self.part(target.as_bytes());
            }
            FileType::CharacterDevice | FileType::BlockDevice => self.part(&stat.st_rdev.to_le_bytes()),
            _ => {}
        }
        Ok(())
    }

    fn contents(
        &mut self,
        folder: &OwnedFd,
        name: &OsStr,
        path: &Path,
        stat: &Stat,
    ) -> Result<Digest, StoreError> {
        let looks = Looks::of(stat);
        let key = path.as_os_str().as_bytes();
        let digest = match self.old.known(key, &looks) {
            Some(digest) => digest,
            None => self.read(folder, name, path)?,
        };
        self.files.insert(key.to_vec(), (looks, digest));
        Ok(digest)
    }

    fn read(&mut self, folder: &OwnedFd, name: &OsStr, path: &Path) -> Result<Digest, StoreError> {
        let file = open_beneath(folder.as_fd(), name, OFlags::NONBLOCK);
        let mut file = File::from(file.map_err(|source| self.failed(path, source))?);
        let mut hasher = Sha256::new();
        loop {
            self.check()?;
            match file.read(&mut self.buffer) {
                Ok(0) => return Ok(Digest::finish(hasher)),
                Ok(count) => {
                    hasher.update(&self.buffer[..count]);
                    self.read += count as u64;
                    (self.passed)(self.read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::file("read", &self.root.join(path))(error)),
            }
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.rules.stop.load(Ordering::Relaxed) {
            Err(StoreError::Stopped)
        } else {
            Ok(())
        }
    }

    /// Each part with its length, so that no two folders give the same bytes.
    fn part(&mut self, bytes: &[u8]) {
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    fn failed(&self, path: &Path, source: rustix::io::Errno) -> StoreError {
        StoreError::call("read", &self.root.join(path))(source)
    }
}

impl Looks {
    fn of(stat: &Stat) -> Self {
        let time =
            |seconds: i64, nanoseconds: u64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let changed = time(stat.st_ctime, stat.st_ctime_nsec);
        let modified = time(stat.st_mtime, stat.st_mtime_nsec);
        let mut bytes = [0; LOOKS_BYTES];
        bytes[..8].copy_from_slice(&stat.st_size.to_le_bytes());
        bytes[8..24].copy_from_slice(&modified.to_le_bytes());
        bytes[24..40].copy_from_slice(&changed.to_le_bytes());
        bytes[40..48].copy_from_slice(&stat.st_ino.to_le_bytes());
        bytes[48..].copy_from_slice(&stat.st_dev.to_le_bytes());
        Self { bytes, changed }
    }
}

type Record = (i128, HashMap<Vec<u8>, (Looks, Digest)>);

/// The record of a file, or none if it is damaged anywhere.
fn parse(bytes: &[u8]) -> Option<Record> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(taken)
    };
    let begun = i128::from_le_bytes(take(16)?.try_into().ok()?);
    let mut files = HashMap::new();
    while let Some(length) = take(4) {
        let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
        let path = take(length)?.to_vec();
        let looks: [u8; LOOKS_BYTES] = take(LOOKS_BYTES)?.try_into().ok()?;
        let changed = i128::from_le_bytes(looks[24..40].try_into().ok()?);
        let digest = std::str::from_utf8(take(64)?).ok()?;
        let digest = format!("sha256:{digest}").parse().ok()?;
        files.insert(
            path,
            (
                Looks {
                    bytes: looks,
                    changed,
                },
                digest,
            ),
        );
    }
    Some((begun, files))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::failure::Failure as _;

    struct Case {
        folder: tempfile::TempDir,
        store: Store,
        now: SystemTime,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("app/sub/.git")).unwrap();
            fs::create_dir_all(folder.path().join("app/.git")).unwrap();
            fs::write(folder.path().join("app/a"), "1").unwrap();
            fs::write(folder.path().join("app/sub/b"), "2").unwrap();
            let store = Store::open(&folder.path().join("store")).unwrap();
            let now = fs::metadata(folder.path().join("app/sub/b"))
                .unwrap()
                .modified()
                .unwrap();
            Self { folder, store, now }
        }

        fn app(&self) -> PathBuf {
            self.folder.path().join("app")
        }

        fn hash_at(&self, now: SystemTime) -> Digest {
            let mut cache = self.store.stat_cache(&self.app()).unwrap();
            let rules = HashRules {
                leave_out: &[".git".into()],
                now,
                stop: &AtomicBool::new(false),
            };
            let digest = hash_directory(&self.app(), &mut cache, rules, &mut |_| {}).unwrap();
            cache.save().unwrap();
            digest
        }

        /// Makes every digest of the record a lie, which is told again only if it is believed.
        fn lie(&self) {
            let mut cache = self.store.stat_cache(&self.app()).unwrap();
            cache
                .files
                .values_mut()
                .for_each(|(_, digest)| *digest = Digest::of(b"lie"));
            cache.save().unwrap();
        }
    }

    #[test]
    fn the_hash_follows_names_modes_and_contents() {
        let case = Case::new();
        let hash = || case.hash_at(case.now);
        let first = hash();
        fs::write(case.app().join(".git/HEAD"), "x").unwrap();
        fs::write(case.app().join("a"), "1").unwrap();
        assert_eq!(hash(), first, "times and what is left out do not count");
        fs::write(case.app().join("a"), "3").unwrap();
        let second = hash();
        assert_ne!(second, first, "same size, other contents");
        fs::set_permissions(case.app().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        let third = hash();
        assert_ne!(third, second, "another mode");
        fs::rename(case.app().join("sub/b"), case.app().join("b")).unwrap();
        let fourth = hash();
        assert_ne!(fourth, third, "moved");
        fs::write(case.app().join("sub/.git/x"), "x").unwrap();
        assert_ne!(hash(), fourth, "only the topmost .git is left out here");
    }

    #[test]
    fn only_what_was_old_when_it_was_recorded_is_believed() {
        let case = Case::new();
        let young = case.hash_at(case.now + Duration::from_millis(1500));
        case.lie();
        assert_eq!(
            case.hash_at(case.now + Duration::from_secs(100)),
            young,
            "recorded young: read again"
        );
        case.lie();
        assert_ne!(
            case.hash_at(case.now + Duration::from_secs(200)),
            young,
            "recorded old: believed"
        );
        fs::write(case.app().join("a"), "1").unwrap();
        fs::write(case.app().join("sub/b"), "2").unwrap();
        assert_eq!(
            case.hash_at(case.now + Duration::from_secs(300)),
            young,
            "touched: read again"
        );
    }

    #[test]
    fn a_damaged_record_is_no_record() {
        let case = Case::new();
        let digest = case.hash_at(case.now + Duration::from_secs(100));
        let path = case.store.stat_cache(&case.app()).unwrap().path;
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            // A cut between two entries is a shorter record, any other none; neither may panic.
            parse(&whole[..length]);
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(case.hash_at(case.now), digest);
    }

    #[test]
    fn a_build_that_is_to_end_reads_nothing_more() {
        let case = Case::new();
        let stop = AtomicBool::new(false);
        let rules = HashRules {
            leave_out: &[],
            now: case.now,
            stop: &stop,
        };
        // Asked for while the first file is read.
        let mut passed = |_| stop.store(true, Ordering::Relaxed);
        let error = case
            .store
            .hash_folder(&case.app(), rules, &mut passed)
            .unwrap_err();
        assert_eq!(error.facts().code, "interrupted");
    }
}
