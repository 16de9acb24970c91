//! Why something that is kept on this machine could not be read or written.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// The store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the store could not be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        /// What was tried: `read`, `write`, `lock`, …
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory is open to others.
    #[error("the data directory `{}` must not be open to others (mode {mode:04o}): run `chmod 700 {}`", path.display(), path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A blob is not what its name says.
    #[error("`{}` is damaged: its digest is {found}", path.display())]
    Damaged {
        /// The blob.
        path: PathBuf,
        /// What it is.
        found: Digest,
    },
    /// A record cannot be understood.
    #[error("cannot understand `{}`: {why}", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl StoreError {
    /// For `map_err` after a call on `path`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

impl Failure for StoreError {
    fn facts(&self) -> Facts {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => Facts::platform("disk_full"),
            Self::File { .. } => Facts::platform("store_unusable"),
            Self::Open { .. } => Facts::platform("store_open_to_others"),
            Self::Damaged { .. } | Self::Record { .. } => Facts::platform("store_damaged"),
        }
    }
}
