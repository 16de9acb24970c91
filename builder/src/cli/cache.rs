//! `packhorse cache`: what is kept on this machine and how large it is; and removing what was not used lately.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use serde::Serialize;

use crate::base::ensure::blobs_in_force;
use crate::cli::arguments::upkeep::CacheCommand;
use crate::cli::config::Config;
use crate::cli::failure::CommandError;
use crate::cli::render;
use crate::cli::tools::Toolbox;
use crate::cli::words;
use crate::events::Silence;
use crate::model::timestamp::Timestamp;
use crate::phases::handover::ARCHITECTURE;
use crate::store::Store;
use crate::store::caches::eviction::CacheSummary;
use crate::store::prune::PruneRules;
use crate::store::prune::Pruned;

/// What the data directory has, by folder: name, folder, and what it is for.
const KINDS: [(&str, &str, &str); 8] = [
    ("images", "images", "images without an output of their own"),
    ("blobs", "blobs", "layers and packages as they are stored"),
    ("layers", "layers", "unpacked layers of images"),
    ("caches", "caches", "layers that buildpacks keep between builds"),
    ("bases", "bases", "unpacked Debian bases"),
    ("git", "git", "mirrors of git repositories"),
    ("receipts", "receipts", "what earlier builds made"),
    ("jobs", "jobs", "what is being built now"),
];
/// A size of disk that `stat` counts in.
const BLOCK_BYTES: u64 = 512;

/// Runs the command.
pub fn run(command: &CacheCommand, config: &Config) -> Result<u8, CommandError> {
    let toolbox = Toolbox::open(config, &[], Arc::new(Silence))?;
    let now = toolbox.builder.now;
    match command {
        CacheCommand::List { json } => {
            let listing = Listing::of(&toolbox.store)?;
            if *json {
                render::json(&listing);
            } else {
                render::result(&listing.text(now))?;
            }
        }
        CacheCommand::Prune { older_than, keep } => {
            toolbox.clean_up();
            let rules = PruneRules {
                now: system_time(now),
                unused_for: Some(*older_than),
                bytes_max: *keep,
                spared: blobs_in_force(toolbox.store.root(), ARCHITECTURE)?,
            };
            render::result(&freed(&toolbox.store.prune(&rules)?))?;
        }
    }
    Ok(0)
}

/// What is kept. The keys of its JSON are stable.
#[derive(Debug, Serialize)]
struct Listing {
    home: String,
    /// Bytes on disk in all; a file that two kinds share counts once.
    bytes: u64,
    kinds: Vec<Kind>,
    images: Vec<String>,
    caches: Vec<Cache>,
}

#[derive(Debug, Serialize)]
struct Kind {
    name: &'static str,
    entries: usize,
    /// Bytes on disk that no kind above has already.
    bytes: u64,
    #[serde(skip)]
    purpose: &'static str,
}

#[derive(Debug, Serialize)]
struct Cache {
    app: String,
    scope: String,
    layers: usize,
    bytes: u64,
    /// Seconds since 1970.
    last_used: i64,
}

impl Listing {
    fn of(store: &Store) -> Result<Self, CommandError> {
        let mut seen = BTreeSet::new();
        let kind = |(name, folder, purpose): (&'static str, &str, &'static str)| {
            let folder = store.root().join(folder);
            Kind {
                name,
                entries: entries(&folder),
                bytes: bytes_on_disk(&folder, &mut seen),
                purpose,
            }
        };
        let kinds: Vec<Kind> = KINDS.into_iter().map(kind).collect();
        let named = store.images()?.list()?;
        Ok(Self {
            home: store.root().display().to_string(),
            bytes: kinds.iter().map(|kind| kind.bytes).sum(),
            kinds,
            images: named
                .iter()
                .filter_map(|entry| entry.name().map(str::to_owned))
                .collect(),
            caches: store.caches()?.list()?.iter().map(Cache::of).collect(),
        })
    }

    fn text(&self, now: Timestamp) -> String {
        let mut text = format!("{} in {}\n", words::bytes(self.bytes), self.home);
        for kind in self.kinds.iter().filter(|kind| kind.bytes > 0) {
            line(
                &mut text,
                &format!(
                    "  {:>9}  {:<8}  {}",
                    words::bytes(kind.bytes),
                    kind.name,
                    kind.purpose
                ),
            );
        }
        if !self.images.is_empty() {
            line(&mut text, "images");
        }
        for image in &self.images {
            line(&mut text, &format!("  {image}"));
        }
        if !self.caches.is_empty() {
            line(&mut text, "caches");
        }
        for cache in &self.caches {
            let layers = if cache.layers == 1 { "layer" } else { "layers" };
            let age = age(Duration::from_secs(
                u64::try_from(now.0 - cache.last_used).unwrap_or(0),
            ));
            let (bytes, count) = (words::bytes(cache.bytes), cache.layers);
            line(
                &mut text,
                &format!("  {bytes:>9}  {}  {count} {layers}, used {age} ago", cache.app),
            );
        }
        text
    }
}

impl Cache {
    fn of(cache: &CacheSummary) -> Self {
        let since = cache
            .last_used
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            app: cache.app.clone(),
            scope: cache.scope.clone(),
            layers: cache.layers,
            bytes: cache.bytes,
            last_used: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        }
    }
}

/// What a prune has removed, in one sentence.
fn freed(pruned: &Pruned) -> String {
    let counted = [
        (pruned.caches, "cache", "caches"),
        (pruned.layers, "unpacked layer", "unpacked layers"),
        (pruned.blobs, "blob", "blobs"),
        (pruned.records, "record", "records"),
    ];
    let parts: Vec<String> = counted
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }))
        .collect();
    let what = if parts.is_empty() {
        String::new()
    } else {
        format!(": {}", parts.join(", "))
    };
    let kept = if pruned.in_use == 0 {
        String::new()
    } else {
        format!("; {} more in use", pruned.in_use)
    };
    format!("freed {}{what}{kept}", words::bytes(pruned.bytes))
}

/// The entries of a folder that are not temporary; none if there is no such folder.
fn entries(folder: &Path) -> usize {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .count()
}

/// Bytes on disk below `path`, without files that were `seen` (device and inode). What vanishes meanwhile counts as
/// nothing, and so does what cannot be read.
fn bytes_on_disk(path: &Path, seen: &mut BTreeSet<(u64, u64)>) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    let is_shared = metadata.nlink() > 1 && !metadata.is_dir();
    if is_shared && !seen.insert((metadata.dev(), metadata.ino())) {
        return 0;
    }
    let mut bytes = metadata.blocks() * BLOCK_BYTES;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            bytes += bytes_on_disk(&entry.path(), seen);
        }
    }
    bytes
}

/// `3 days`, `5 hours`, `less than an hour`.
fn age(age: Duration) -> String {
    let hours = age.as_secs() / 3600;
    match hours {
        0 => "less than an hour".to_owned(),
        1 => "1 hour".to_owned(),
        2..48 => format!("{hours} hours"),
        _ => format!("{} days", hours / 24),
    }
}

fn system_time(now: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(now.0).unwrap_or(0))
}

fn line(text: &mut String, content: &str) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_counts_every_byte_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("home")).unwrap();
        let blobs = store.blobs().unwrap();
        let blob = blobs.directory().join("a");
        fs::write(&blob, vec![1; 100_000]).unwrap();
        let before = Listing::of(&store).unwrap();
        fs::create_dir_all(store.root().join("images/blobs/sha256")).unwrap();
        fs::hard_link(&blob, store.root().join("images/blobs/sha256/a")).unwrap();
        let after = Listing::of(&store).unwrap();
        assert!(before.bytes >= 100_000);
        assert!(
            after.bytes < before.bytes + 50_000,
            "{} {}",
            before.bytes,
            after.bytes
        );
        assert_eq!(
            after.kinds.iter().map(|kind| kind.name).collect::<Vec<_>>()[..2],
            ["images", "blobs"]
        );
    }

    #[test]
    fn a_listing_reads_well() {
        let listing = Listing {
            home: "/home/anna/.local/share/packhorse".to_owned(),
            bytes: 1_234_567_890,
            kinds: vec![
                Kind {
                    name: "blobs",
                    entries: 3,
                    bytes: 1_200_000_000,
                    purpose: "layers and packages as they are stored",
                },
                Kind {
                    name: "git",
                    entries: 0,
                    bytes: 0,
                    purpose: "mirrors of git repositories",
                },
            ],
            images: vec!["shop".to_owned()],
            caches: vec![Cache {
                app: "registry.example/shop".to_owned(),
                scope: "default".to_owned(),
                layers: 1,
                bytes: 34_567_890,
                last_used: 1000,
            }],
        };
        insta::assert_snapshot!(listing.text(Timestamp(1000 + 3 * 86_400)), @r"
        1.2 GB in /home/anna/.local/share/packhorse
             1.2 GB  blobs     layers and packages as they are stored
        images
          shop
        caches
            34.6 MB  registry.example/shop  1 layer, used 3 days ago
        ");
    }

    #[test]
    fn what_was_freed_is_told_by_kind() {
        let pruned = Pruned {
            caches: 1,
            layers: 2,
            bytes: 5_000_000,
            in_use: 1,
            ..Pruned::default()
        };
        assert_eq!(
            freed(&pruned),
            "freed 5.0 MB: 1 cache, 2 unpacked layers; 1 more in use"
        );
        assert_eq!(freed(&Pruned::default()), "freed 0 B");
    }
}
