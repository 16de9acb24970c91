//! Which lock file the app has, and whether npm can read it.

use crate::json::JsonError;
use crate::json::parse_json;
use crate::package_json::DependencyTables;
use crate::package_json::PackageJson;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// How the versions of the app's dependencies are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lockfile {
    Shrinkwrap,
    PackageLock,
    Missing,
}

/// A package manager other than npm that the app is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherPackageManager {
    Yarn,
    Pnpm,
    Bun,
}

/// The app is made for a package manager that this buildpack does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the app has `{}` but no npm lock file", manager.lockfile())]
pub(crate) struct OtherPackageManagerError {
    pub(crate) manager: OtherPackageManager,
}

impl Lockfile {
    /// Its name in the app's folder, if there is one.
    pub(crate) fn file_name(self) -> Option<&'static str> {
        match self {
            Self::Shrinkwrap => Some("npm-shrinkwrap.json"),
            Self::PackageLock => Some("package-lock.json"),
            Self::Missing => None,
        }
    }
}

impl OtherPackageManager {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Yarn => "Yarn",
            Self::Pnpm => "pnpm",
            Self::Bun => "Bun",
        }
    }

    pub(crate) fn lockfile(self) -> &'static str {
        match self {
            Self::Yarn => "yarn.lock",
            Self::Pnpm => "pnpm-lock.yaml",
            Self::Bun => "bun.lock",
        }
    }
}

/// Chooses by the files that are there, in npm's own order: a shrinkwrap goes before a package lock.
pub(crate) fn choose_lockfile(is_there: impl Fn(&str) -> bool) -> Result<Lockfile, OtherPackageManagerError> {
    for lockfile in [Lockfile::Shrinkwrap, Lockfile::PackageLock] {
        if lockfile.file_name().is_some_and(&is_there) {
            return Ok(lockfile);
        }
    }
    for manager in [
        OtherPackageManager::Yarn,
        OtherPackageManager::Pnpm,
        OtherPackageManager::Bun,
    ] {
        if is_there(manager.lockfile()) {
            return Err(OtherPackageManagerError { manager });
        }
    }
    Ok(Lockfile::Missing)
}

/// Whether `text` is JSON at all; npm's own message for a broken lock file names neither line nor column.
pub(crate) fn check_lockfile(file: &'static str, text: &str) -> Result<(), JsonError> {
    #[derive(Deserialize)]
    struct AnyObject {
        #[serde(rename = "lockfileVersion")]
        _lockfile_version: Option<IgnoredAny>,
    }
    parse_json::<AnyObject>(file, text).map(|_| ())
}

/// The packages whose wanted versions differ between `package.json` and the root of a lock file, one line each.
///
/// npm allows such a difference where the locked version still fits, so it explains a failure and is none itself.
pub(crate) fn differences(package: &PackageJson, lockfile_text: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct LockedTree {
        packages: BTreeMap<String, DependencyTables>,
    }
    // Lock files before version 2 (npm 6) have no `packages`.
    let Ok(tree) = serde_json::from_str::<LockedTree>(lockfile_text) else {
        return Vec::new();
    };
    let Some(root) = tree.packages.get("") else {
        return Vec::new();
    };
    let (wanted, locked) = (package.dependencies.wanted(), root.wanted());
    let changed = wanted
        .iter()
        .filter_map(|(name, version)| match locked.get(name) {
            None => Some(format!(
                "{name}: package.json asks for {version}, the lock file does not have it"
            )),
            Some(other) if other != version => Some(format!(
                "{name}: package.json asks for {version}, the lock file was made for {other}"
            )),
            Some(_) => None,
        });
    let gone = locked
        .keys()
        .filter(|name| !wanted.contains_key(*name))
        .map(|name| format!("{name}: the lock file has it, package.json does not"));
    changed.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_lock_files() {
        for (files, expected) in [
            (vec![], Ok(Lockfile::Missing)),
            (vec!["package-lock.json"], Ok(Lockfile::PackageLock)),
            (
                vec!["package-lock.json", "npm-shrinkwrap.json"],
                Ok(Lockfile::Shrinkwrap),
            ),
            (vec!["yarn.lock", "package-lock.json"], Ok(Lockfile::PackageLock)),
            (vec!["yarn.lock"], Err(OtherPackageManager::Yarn)),
            (vec!["pnpm-lock.yaml"], Err(OtherPackageManager::Pnpm)),
            (vec!["bun.lock"], Err(OtherPackageManager::Bun)),
        ] {
            let chosen = choose_lockfile(|name| files.contains(&name));
            assert_eq!(
                chosen,
                expected.map_err(|manager| OtherPackageManagerError { manager }),
                "{files:?}"
            );
        }
    }

    #[test]
    fn conflict_markers_are_found() {
        let error = check_lockfile("package-lock.json", "{\n<<<<<<< HEAD\n}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`package-lock.json`, line 2, column 1: key must be a string"
        );
        assert!(check_lockfile("package-lock.json", r#"{"lockfileVersion": 3, "packages": {}}"#).is_ok());
    }

    #[test]
    fn differences_name_each_package() {
        let package = PackageJson::parse(
            r#"{"dependencies": {"express": "^5.1.0", "new": "1"}, "devDependencies": {"terser": "5"}}"#,
        )
        .unwrap();
        let locked = r#"{"packages": {"": {"dependencies": {"express": "^4.0.0", "old": "2"},
            "devDependencies": {"terser": "5"}}, "node_modules/express": {"version": "4.0.0"}}}"#;
        assert_eq!(
            differences(&package, locked),
            [
                "express: package.json asks for ^5.1.0, the lock file was made for ^4.0.0",
                "new: package.json asks for 1, the lock file does not have it",
                "old: the lock file has it, package.json does not",
            ]
        );
        assert!(differences(&package, r#"{"lockfileVersion": 1, "dependencies": {}}"#).is_empty());
    }
}
