//! From the archive as it is now to a lock: releases, lists of packages, closures of both flavours.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::base::closure::close;
use crate::base::error::BaseError;
use crate::base::flavour::Flavour;
use crate::base::index::Index;
use crate::base::index::Package;
use crate::base::lock::Lock;
use crate::base::lock::LockedPackage;
use crate::base::mirror::Fetcher;
use crate::base::release::Release;
use crate::base::release::SUITES;
use crate::base::release::Suite;
use crate::base::release::date_of;
use crate::base::release::read_release;
use crate::model::timestamp::Timestamp;

/// How long an `InRelease` may be; today they are below 150 KB.
const IN_RELEASE_BYTES_MAX: u64 = 8 << 20;

/// Makes a lock of what the archive has now. `folder` keeps the last `InRelease` of each suite, and none that is older is believed.
pub(super) async fn resolve(
    fetcher: Fetcher<'_>,
    folder: &Path,
    architecture: &str,
    now: Timestamp,
) -> Result<Lock, BaseError> {
    let mut lists = Vec::new();
    let mut date = Timestamp(0);
    for suite in SUITES {
        let release = fetch_release(fetcher, folder, suite, architecture, now).await?;
        let url = format!(
            "{}/dists/{}/{}",
            fetcher.mirrors.root(suite.archive),
            suite.name,
            release.index.path
        );
        let what = format!("package index of {}", suite.name);
        let (digest, size) = (release.index.digest, release.index.size);
        lists.push((suite, fetcher.blob(what, url, digest, size).await?));
        date = date.max(release.date);
    }
    let architecture = architecture.to_owned();
    let cancel = fetcher.cancel.clone();
    let solved = tokio::task::spawn_blocking(move || {
        let open = |(suite, path)| Ok((suite, File::open(&path).map_err(BaseError::file("read", path))?));
        let lists = lists
            .into_iter()
            .map(open)
            .collect::<Result<Vec<_>, BaseError>>()?;
        Ok(Lock::new(
            SUITES[0].name,
            &architecture,
            date,
            choose(&Index::read(lists, &cancel)?)?,
        ))
    });
    solved
        .await
        .map_err(|error| BaseError::BrokeOff(error.to_string()))?
}

async fn fetch_release(
    fetcher: Fetcher<'_>,
    folder: &Path,
    suite: Suite,
    architecture: &str,
    now: Timestamp,
) -> Result<Release, BaseError> {
    let url = format!(
        "{}/dists/{}/InRelease",
        fetcher.mirrors.root(suite.archive),
        suite.name
    );
    let newest = folder.join(format!("{}.InRelease.newest", suite.name));
    fetcher.fetch_unknown(url, IN_RELEASE_BYTES_MAX, &newest).await?;
    let text = std::fs::read_to_string(&newest).map_err(BaseError::file("read", &newest))?;
    let release = read_release(suite, &text, architecture, now)?;
    keep_release(suite, release.date, &newest, folder)?;
    Ok(release)
}

/// Keeps an `InRelease` that is believed, unless an older one takes the place of a newer: a mirror that holds back
/// signed security updates would look like that.
fn keep_release(suite: Suite, date: Timestamp, fetched: &Path, folder: &Path) -> Result<(), BaseError> {
    let path = folder.join(format!("{}.InRelease", suite.name));
    let last = match std::fs::read_to_string(&path) {
        Ok(text) => date_of(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(BaseError::file("read", path)(error)),
    };
    match last {
        Some(last) if date < last => Err(BaseError::ReleaseUntimely {
            suite: suite.name.to_owned(),
            reason: format!("it is of {date}, and the last one that was used is of {last}"),
        }),
        _ => std::fs::rename(fetched, &path).map_err(BaseError::file("rename", fetched)),
    }
}

fn choose(index: &Index) -> Result<Vec<LockedPackage>, BaseError> {
    let mut chosen: BTreeMap<&str, (&Package, Vec<Flavour>)> = BTreeMap::new();
    for flavour in Flavour::ALL {
        for package in close(index, &flavour.packages())? {
            chosen
                .entry(&package.name)
                .or_insert_with(|| (package, Vec::new()))
                .1
                .push(flavour);
        }
    }
    Ok(chosen
        .into_values()
        .map(|(package, flavours)| lock_package(package, flavours))
        .collect())
}

fn lock_package(package: &Package, flavours: Vec<Flavour>) -> LockedPackage {
    LockedPackage {
        name: package.name.clone(),
        version: package.version.to_string(),
        architecture: package.architecture.clone(),
        archive: package.archive,
        filename: package.filename.clone(),
        size: package.size,
        digest: package.digest,
        flavours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::failure::Failure as _;

    #[test]
    fn an_older_release_is_not_believed_after_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../../testdata/base/trixie-security.InRelease");
        let date = date_of(text).unwrap();
        assert_eq!(date.to_string(), "2026-11-21T00:53:03Z");
        let (fetched, kept) = (
            folder.path().join("fetched"),
            folder.path().join("trixie-security.InRelease"),
        );
        for (date, code) in [
            (date, None),
            (date, None),
            (Timestamp(date.0 - 1), Some("base_release_expired")),
            (Timestamp(date.0 + 1), None),
        ] {
            std::fs::write(&fetched, text).unwrap();
            let outcome = keep_release(SUITES[2], date, &fetched, folder.path());
            assert_eq!(outcome.err().map(|error| error.facts().code), code, "{date}");
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), text);
        }
    }
}
