//! How making a base can fail.

use std::io;
use std::path::PathBuf;

use crate::events::Cancelled;
use crate::http::error::HttpError;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// A base image could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// Something could not be fetched from the archive, or came damaged.
    #[error("cannot fetch {what} for the Debian base: {source}")]
    Fetch {
        /// What.
        what: String,
        /// Why.
        source: Box<HttpError>,
    },
    /// The archive has another version by now.
    #[error(
        "the package archive has {package} {version} no more; `packhorse base update` takes the newer one, a snapshot mirror keeps the old: {source}"
    )]
    Superseded {
        /// The package.
        package: String,
        /// The version that was asked for.
        version: String,
        /// What the last place that was asked said.
        source: Box<HttpError>,
    },
    /// A suite's `InRelease` is not signed by Debian's keys.
    #[error("the signature of {suite}'s InRelease is not one of Debian's keys: {reason}")]
    SignatureInvalid {
        /// The suite.
        suite: String,
        /// Why.
        reason: String,
    },
    /// A suite's `InRelease` says something else than it must.
    #[error("{suite}'s InRelease cannot be used: {reason}")]
    ReleaseInvalid {
        /// The suite.
        suite: String,
        /// Why.
        reason: String,
    },
    /// A suite's `InRelease` is out of date, or from the future.
    #[error(
        "{suite}'s InRelease is not valid now: {reason}; the mirror is stale, or this machine's clock is wrong"
    )]
    ReleaseUntimely {
        /// The suite.
        suite: String,
        /// Why.
        reason: String,
    },
    /// A list of packages cannot be read.
    #[error("the list of packages of {suite} cannot be read: {reason}")]
    IndexInvalid {
        /// The suite.
        suite: String,
        /// Why.
        reason: String,
    },
    /// A package that the base needs is not in the archive.
    #[error("the package archive has no package `{name}`, which the base needs")]
    PackageMissing {
        /// The package.
        name: String,
    },
    /// A dependency has no answer.
    #[error("package {package} needs `{relation}`, which the package archive does not have")]
    DependencyUnmet {
        /// Who needs it.
        package: String,
        /// What.
        relation: String,
    },
    /// Two of the packages exclude each other.
    #[error("packages {package} and {other} exclude each other: {package} says `{relation}`")]
    Conflict {
        /// Who says so.
        package: String,
        /// Whom it excludes.
        other: String,
        /// How.
        relation: String,
    },
    /// A lock file cannot be read.
    #[error("the base's lock file cannot be used: {reason}")]
    LockInvalid {
        /// Why.
        reason: String,
    },
    /// Which lock is in force cannot be read.
    #[error("which packages the Debian base is made of cannot be read: `{}`: {reason}", path.display())]
    CurrentInvalid {
        /// The file that says so.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A `.deb` is not as it must be.
    #[error("package {package} cannot be unpacked: {reason}")]
    PackageInvalid {
        /// The package.
        package: String,
        /// Why.
        reason: String,
    },
    /// Two packages have the same file.
    #[error("packages {first} and {second} both have /{path}, and neither says that it replaces the other")]
    FileClash {
        /// The file.
        path: String,
        /// One package.
        first: String,
        /// The other.
        second: String,
    },
    /// A file could not be read or written.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// `read`, `write`, …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread or task ended without an answer.
    #[error("the work on the base broke off: {0}")]
    BrokeOff(String),
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl BaseError {
    /// For `map_err`: a file operation that failed.
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

impl Failure for BaseError {
    fn facts(&self) -> Facts {
        match self {
            Self::Fetch { source, .. } => match &**source {
                HttpError::DigestMismatch { .. } | HttpError::SizeMismatch { .. } => {
                    Facts::temporary("base_hash_mismatch")
                }
                HttpError::Cancelled(_)
                | HttpError::File { .. }
                | HttpError::Offline { .. }
                | HttpError::ProxyUnauthorized { .. } => source.facts(),
                error => Facts {
                    code: "base_mirror_unreachable",
                    ..error.facts()
                },
            },
            Self::Superseded { .. } => Facts::platform("base_package_superseded"),
            Self::SignatureInvalid { .. } => Facts::platform("base_signature_invalid"),
            Self::ReleaseInvalid { .. } | Self::IndexInvalid { .. } => {
                Facts::platform("base_archive_invalid")
            }
            Self::ReleaseUntimely { .. } => Facts::platform("base_release_expired"),
            Self::PackageMissing { .. } => Facts::platform("base_package_missing"),
            Self::DependencyUnmet { .. } | Self::Conflict { .. } => {
                Facts::platform("base_dependencies_unmet")
            }
            Self::LockInvalid { .. } => Facts::user("base_lock_invalid"),
            Self::CurrentInvalid { .. } => Facts::platform("base_record_invalid"),
            Self::PackageInvalid { .. } | Self::FileClash { .. } => Facts::platform("base_package_invalid"),
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::File { .. } => Facts::platform("file_failed"),
            Self::BrokeOff(_) => Facts::bug("base_broke_off"),
            Self::Cancelled(error) => error.facts(),
        }
    }
}
