//! From the archive as it is now to a lock: releases, lists of packages, closures of both flavours.

use std::collections::BTreeMap;
use std::fs::File;
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
use crate::base::release::read_release;
use crate::model::timestamp::Timestamp;

/// How long an `InRelease` may be; today they are below 150 KB.
const IN_RELEASE_BYTES_MAX: u64 = 8 << 20;

/// Makes a lock of what the archive has now. `folder` keeps the last `InRelease` of each suite, for people to look at.
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
    let path = folder.join(format!("{}.InRelease", suite.name));
    fetcher.fetch_unknown(url, IN_RELEASE_BYTES_MAX, &path).await?;
    let text = std::fs::read_to_string(&path).map_err(BaseError::file("read", path))?;
    read_release(suite, &text, architecture, now)
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
