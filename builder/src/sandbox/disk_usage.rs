//! What a job has on disk: allocated blocks and names of the trees that it writes to, counted by a bounded walk that starts
//! when the file system's own counts say that it may be worth it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;

use crate::model::limit_reached::Limit;
use crate::model::limit_reached::LimitReached;
use crate::model::limits::Limits;
use crate::sandbox::command_line;
use crate::sandbox::mount::JOB_FILES;
use crate::sandbox::mount::ROOT_COPY;
use crate::sandbox::spec::JobSpec;

/// How many directories are named.
const NAMED: usize = 5;
/// How deep below a tree the directories lie that are named.
const NAMED_DEPTH: usize = 2;
/// Names of one walk. A job that has more has reached any sensible limit; where it has not, this many are counted.
const NAMES_MAX: u64 = 4_000_000;
/// How long one walk may take.
const WALK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the file systems are asked.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// After this a walk is due whatever the file systems say: others may have made room meanwhile.
const WALK_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// A walk takes at most one part in this many of the time.
const WALK_SHARE: u32 = 10;
/// Bytes of one block of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The trees that a job writes to, and what was in them at its start.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    trees: Vec<(PathBuf, &'static str)>,
    bytes_max: Option<u64>,
    files_max: Option<u64>,
    /// What the worker itself has laid out.
    at_start: Amount,
    last: Walked,
}

/// When a walk was, and what there was then.
#[derive(Debug)]
struct Walked {
    ended: Instant,
    took: Duration,
    amount: Amount,
    taken: Amount,
}

/// Bytes and names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    bytes: u64,
    files: u64,
}

/// What a walk has counted.
#[derive(Debug, Default)]
struct Usage {
    all: Amount,
    by_directory: BTreeMap<PathBuf, Amount>,
    linked: BTreeSet<(u64, u64)>,
}

impl DiskWatch {
    /// Counts what is there now; none where nothing is limited.
    pub(crate) fn begin(spec: &JobSpec) -> Option<Self> {
        let Limits {
            disk_bytes_max,
            disk_files_max,
            ..
        } = spec.limits;
        disk_bytes_max.or(disk_files_max)?;
        let files = spec.directory.path().join(JOB_FILES);
        let trees = vec![
            (files.join("upper"), "/"),
            (files.join(ROOT_COPY), "/"),
            (files.join("tmp"), "/tmp"),
            (spec.workspace.clone(), "/workspace"),
            (spec.layers.directory.join("upper"), "/layers"),
        ];
        let mut watch = Self {
            trees,
            bytes_max: disk_bytes_max,
            files_max: disk_files_max,
            at_start: Amount::default(),
            last: Walked {
                ended: Instant::now(),
                took: Duration::ZERO,
                amount: Amount::default(),
                taken: Amount::default(),
            },
        };
        watch.walk();
        watch.at_start = watch.last.amount;
        Some(watch)
    }

    /// Looks, if it is worth it; says which limit is reached.
    pub(crate) fn look(&mut self) -> Option<LimitReached> {
        let left = Amount {
            bytes: self
                .bytes_max
                .map_or(u64::MAX, |max| max.saturating_sub(self.written().bytes)),
            files: self
                .files_max
                .map_or(u64::MAX, |max| max.saturating_sub(self.written().files)),
        };
        let taken = self.taken();
        let grown = Amount {
            bytes: taken.bytes.saturating_sub(self.last.taken.bytes),
            files: taken.files.saturating_sub(self.last.taken.files),
        };
        if !is_due(self.last.ended.elapsed(), self.last.took, grown, left) {
            return None;
        }
        let usage = self.walk();
        let written = self.written();
        let over = |limit: Option<u64>, amount: u64| limit.filter(|limit| amount > *limit);
        let (limit, used_by) = if let Some(limit) = over(self.bytes_max, written.bytes) {
            (
                Limit::DiskBytes(limit),
                usage.largest(|amount| amount.bytes, mebibytes),
            )
        } else {
            let limit = over(self.files_max, written.files)?;
            let words = |count: u64| format!("{count} files");
            (
                Limit::DiskFiles(limit),
                usage.largest(|amount| amount.files, words),
            )
        };
        Some(LimitReached { limit, used_by })
    }

    fn written(&self) -> Amount {
        Amount {
            bytes: self.last.amount.bytes.saturating_sub(self.at_start.bytes),
            files: self.last.amount.files.saturating_sub(self.at_start.files),
        }
    }

    fn walk(&mut self) -> Usage {
        let begun = Instant::now();
        let taken = self.taken();
        let mut usage = Usage::default();
        for (tree, shown) in &self.trees {
            usage.count(tree, Path::new(shown), begun + WALK_TIMEOUT);
        }
        self.last = Walked {
            ended: Instant::now(),
            took: begun.elapsed(),
            amount: usage.all,
            taken,
        };
        usage
    }

    /// What is taken on the file systems of the trees, by this job and everybody else. One that two trees are on counts
    /// twice, now as before.
    fn taken(&self) -> Amount {
        let mut taken = Amount::default();
        for (tree, _) in &self.trees {
            if let Ok(status) = rustix::fs::statvfs(tree) {
                let blocks = status.f_blocks.saturating_sub(status.f_bfree);
                taken.bytes = taken.bytes.saturating_add(blocks.saturating_mul(status.f_frsize));
                taken.files = taken
                    .files
                    .saturating_add(status.f_files.saturating_sub(status.f_ffree));
            }
        }
        taken
    }
}

/// Whether to walk: the file systems have grown by a good part of what is left, or it is long ago; but never all the time.
fn is_due(since: Duration, took: Duration, grown: Amount, left: Amount) -> bool {
    if since < took * WALK_SHARE {
        return false;
    }
    since >= WALK_INTERVAL_MAX || grown.bytes > left.bytes / 4 || grown.files > left.files / 4
}

impl Usage {
    /// Counts a tree. Every folder is opened from the tree's own, without a link on the way: the job changes it meanwhile.
    fn count(&mut self, tree: &Path, shown: &Path, until: Instant) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // One that is not there has nothing in it.
        let Ok(top) = rustix::fs::open(tree, flags, Mode::empty()) else {
            return;
        };
        let mut waiting = vec![PathBuf::from(".")];
        while let Some(folder) = waiting.pop() {
            if self.all.files >= NAMES_MAX || Instant::now() > until {
                return;
            }
            let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            if let Ok(opened) = rustix::fs::openat2(&top, &folder, flags, Mode::empty(), inside) {
                self.count_folder(&opened, &folder, shown, &mut waiting);
            }
        }
    }

    fn count_folder(&mut self, opened: &OwnedFd, folder: &Path, shown: &Path, waiting: &mut Vec<PathBuf>) {
        let Ok(entries) = Dir::read_from(opened) else {
            return;
        };
        let place = place(folder, shown);
        let mut here = Amount::default();
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || self.all.files + here.files >= NAMES_MAX {
                continue;
            }
            let Ok(status) = rustix::fs::statat(opened.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let is_folder = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
            if !is_folder && status.st_nlink > 1 && !self.linked.insert((status.st_dev, status.st_ino)) {
                continue;
            }
            here.files += 1;
            here.bytes += u64::try_from(status.st_blocks).unwrap_or(0) * BLOCK_BYTES;
            if is_folder {
                waiting.push(folder.join(OsStr::from_bytes(name.to_bytes())));
            }
        }
        self.all.add(here);
        self.by_directory.entry(place).or_default().add(here);
    }

    fn largest(&self, amount: impl Fn(&Amount) -> u64, words: impl Fn(u64) -> String) -> Vec<String> {
        let mut sorted: Vec<_> = self
            .by_directory
            .iter()
            .map(|(path, found)| (amount(found), path))
            .filter(|(amount, _)| *amount > 0)
            .collect();
        sorted.sort_by_key(|(amount, path)| (std::cmp::Reverse(*amount), *path));
        let line = |(amount, path): &(u64, &PathBuf)| {
            format!(
                "{}  {}",
                words(*amount),
                command_line::plain(&path.to_string_lossy())
            )
        };
        sorted.iter().take(NAMED).map(line).collect()
    }
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.files += other.files;
    }
}

/// The directory under whose name a folder's files are counted, as the job calls it.
fn place(folder: &Path, shown: &Path) -> PathBuf {
    let parts = folder.components().filter(|part| part.as_os_str() != ".");
    parts
        .take(NAMED_DEPTH)
        .fold(shown.to_owned(), |path, part| path.join(part))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_walk_is_due_when_much_was_written_or_long_ago_but_not_all_the_time() {
        let amount = |bytes, files| Amount { bytes, files };
        let second = Duration::from_secs(1);
        let left = amount(1000, u64::MAX);
        assert!(!is_due(second, Duration::ZERO, amount(100, 9), left));
        assert!(is_due(second, Duration::ZERO, amount(300, 9), left));
        assert!(
            !is_due(second, second, amount(300, 9), left),
            "it would walk all the time"
        );
        assert!(is_due(30 * second, second, amount(0, 0), left));
        assert!(is_due(
            second,
            Duration::ZERO,
            amount(0, 30),
            amount(u64::MAX, 100)
        ));
        assert!(
            is_due(second, Duration::ZERO, amount(1, 0), amount(0, 0)),
            "it is over already"
        );
    }

    #[test]
    fn blocks_are_counted_and_not_lengths_and_links_once() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c/d");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("full"), vec![1; 300 << 10]).unwrap();
        fs::hard_link(deep.join("full"), folder.path().join("again")).unwrap();
        fs::File::create(folder.path().join("hole"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("out")).unwrap();
        let mut usage = Usage::default();
        usage.count(folder.path(), Path::new("/layers"), Instant::now() + WALK_TIMEOUT);
        // Four folders, the file, the hole, the link.
        assert_eq!(usage.all.files, 7);
        assert!(
            (300 << 10..2 << 20).contains(&usage.all.bytes),
            "{}",
            usage.all.bytes
        );
        let lines = usage.largest(|amount| amount.files, |count| count.to_string());
        assert_eq!(lines[0], "4  /layers", "{lines:?}");
        assert!(
            lines.iter().any(|line| line.ends_with("  /layers/a/b")),
            "{lines:?}"
        );
    }

    #[test]
    fn a_tree_that_is_not_there_is_empty() {
        let mut usage = Usage::default();
        usage.count(
            Path::new("/no/such/tree"),
            Path::new("/"),
            Instant::now() + WALK_TIMEOUT,
        );
        assert_eq!(usage.all, Amount::default());
    }
}
