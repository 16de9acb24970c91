//! Where the package archive is, and the fetching of its files into the folder of blobs.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use futures::StreamExt as _;
use futures::TryStreamExt as _;

use crate::base::error::BaseError;
use crate::base::lock::Archive;
use crate::base::lock::LockedPackage;
use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::events::Moving;
use crate::events::Unit;
use crate::http::client::Client;
use crate::http::download::Download;
use crate::http::download::Downloaded;
use crate::http::download::download;
use crate::http::error::HttpError;
use crate::model::digest::Digest;
use crate::model::timestamp::Timestamp;

/// How many files are fetched at once.
const DOWNLOADS_MAX: usize = 6;
/// How long one file of the archive may be.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The places of the package archive. `http` will do: everything is checked against signed hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// The main archive: `http://deb.debian.org/debian`.
    pub main: String,
    /// The security archive: `http://deb.debian.org/debian-security`.
    pub security: String,
    /// Where old versions are kept, as snapshot.debian.org lays them out: `https://snapshot.debian.org/archive`.
    pub snapshot: Option<String>,
}

impl Default for Mirrors {
    fn default() -> Self {
        Self {
            main: "http://deb.debian.org/debian".to_owned(),
            security: "http://deb.debian.org/debian-security".to_owned(),
            snapshot: Some("https://snapshot.debian.org/archive".to_owned()),
        }
    }
}

impl Mirrors {
    /// The root of an archive.
    pub fn root(&self, archive: Archive) -> &str {
        match archive {
            Archive::Main => self.main.trim_end_matches('/'),
            Archive::Security => self.security.trim_end_matches('/'),
        }
    }

    /// Where a file of the archive is kept as it was at `time`.
    fn snapshot_of(&self, archive: Archive, time: Timestamp, filename: &str) -> Option<String> {
        let root = self.snapshot.as_deref()?.trim_end_matches('/');
        let name = match archive {
            Archive::Main => "debian",
            Archive::Security => "debian-security",
        };
        // 2026-11-21T00:53:03Z → 20261121T005303Z
        let compact = time.to_string().replace(['-', ':'], "");
        Some(format!("{root}/{name}/{compact}/{filename}"))
    }
}

/// Fetches files of the archive into a folder of blobs.
#[derive(Clone, Copy)]
pub(super) struct Fetcher<'build> {
    pub(super) client: &'build Client,
    pub(super) mirrors: &'build Mirrors,
    /// `blobs/sha256`.
    pub(super) blobs: &'build Path,
    pub(super) watcher: &'build dyn Events,
    pub(super) cancel: &'build Cancel,
}

impl Fetcher<'_> {
    /// Fetches `url`, of which nothing is known beforehand, to `destination`.
    pub(super) async fn fetch_unknown(
        &self,
        url: String,
        size_bytes_max: u64,
        to: &Path,
    ) -> Result<(), BaseError> {
        let what = url.clone();
        let wanted = Download {
            url,
            digest: None,
            size: None,
            size_bytes_max,
            what: what.clone(),
        };
        let fetched = download(self.client, &wanted, to, self.watcher, self.cancel).await;
        fetched.map(drop).map_err(|source| BaseError::Fetch {
            what,
            source: Box::new(source),
        })
    }

    /// The blob of a digest, fetched from `url` unless it is there. `what` is it in the words of progress and errors.
    pub(super) async fn blob(
        &self,
        what: String,
        url: String,
        digest: Digest,
        size: u64,
    ) -> Result<PathBuf, BaseError> {
        let path = self.blobs.join(digest.hex());
        if has_size(&path, size) {
            return Ok(path);
        }
        let fetched = self
            .try_blob(what.clone(), url, digest, size, &path, self.watcher)
            .await;
        fetched.map(|_| path).map_err(|source| BaseError::Fetch {
            what,
            source: Box::new(source),
        })
    }

    /// The `.deb`s of `packages`, in their order; `date` is when the archive had them.
    pub(super) async fn packages(
        &self,
        packages: &[LockedPackage],
        date: Timestamp,
    ) -> Result<Vec<PathBuf>, BaseError> {
        let missing = packages
            .iter()
            .filter(|package| !has_size(&self.blobs.join(package.digest.hex()), package.size));
        let sum = Sum::new(self.watcher, missing.map(|package| package.size).sum());
        let sum = &sum;
        futures::stream::iter(packages)
            .map(|package| async move {
                let path = self.package(package, date, sum).await?;
                Ok::<_, BaseError>(path)
            })
            .buffered(DOWNLOADS_MAX)
            .try_collect()
            .await
    }

    async fn package(
        &self,
        package: &LockedPackage,
        date: Timestamp,
        sum: &Sum<'_>,
    ) -> Result<PathBuf, BaseError> {
        let path = self.blobs.join(package.digest.hex());
        if has_size(&path, package.size) {
            return Ok(path);
        }
        let url = format!("{}/{}", self.mirrors.root(package.archive), package.filename);
        let what = || format!("package {} {}", package.name, package.version);
        let mut fetched = self
            .try_blob(what(), url, package.digest, package.size, &path, sum)
            .await;
        let is_gone = matches!(&fetched, Err(error) if error.status() == Some(404));
        if is_gone && let Some(url) = self.mirrors.snapshot_of(package.archive, date, &package.filename) {
            fetched = self
                .try_blob(what(), url, package.digest, package.size, &path, sum)
                .await;
        }
        match fetched {
            Ok(_) => Ok(path),
            Err(source) if is_gone => Err(BaseError::Superseded {
                package: package.name.clone(),
                version: package.version.clone(),
                source: Box::new(source),
            }),
            Err(source) => Err(BaseError::Fetch {
                what: what(),
                source: Box::new(source),
            }),
        }
    }

    async fn try_blob(
        &self,
        what: String,
        url: String,
        digest: Digest,
        size: u64,
        path: &Path,
        watcher: &dyn Events,
    ) -> Result<Downloaded, HttpError> {
        let wanted = Download {
            what,
            url,
            digest: Some(digest),
            size: Some(size),
            size_bytes_max: FILE_BYTES_MAX,
        };
        download(self.client, &wanted, path, watcher, self.cancel).await
    }
}

/// A blob's name is its digest and it appears only when it was verified: its length tells a damaged disk apart.
fn has_size(path: &Path, size: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
}

/// Adds the progress of many files up to one.
struct Sum<'watcher> {
    watcher: &'watcher dyn Events,
    state: Mutex<(HashMap<String, u64>, Moving<'watcher>)>,
}

impl<'watcher> Sum<'watcher> {
    fn new(watcher: &'watcher dyn Events, total: u64) -> Self {
        let moving = Moving::new(watcher, "packages of the Debian base", Some(total), Unit::Bytes);
        Self {
            watcher,
            state: Mutex::new((HashMap::new(), moving)),
        }
    }
}

impl Events for Sum<'_> {
    fn tell(&self, event: Event) {
        let Event::Progress { what, done, .. } = event else {
            return self.watcher.tell(event);
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, moving) = &mut *state;
        files.insert(what, done);
        moving.tell(files.values().sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_named_by_archive_and_time() {
        let url = Mirrors::default().snapshot_of(Archive::Security, Timestamp(1_795_222_383), "pool/x.deb");
        assert_eq!(
            url.unwrap(),
            "https://snapshot.debian.org/archive/debian-security/20261121T005303Z/pool/x.deb"
        );
    }
}
