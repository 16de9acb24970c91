//! Why something that is kept on this machine could not be read, written or used.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::model::digest::DiffId;
use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::decode::DecodeError;
use crate::oci::layout::LayoutError;
use crate::oci::overlay::merge::MergeError;
use crate::oci::unpack::UnpackError;

/// The store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        /// What was tried: `read`, `write`, `lock`.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory can be read by others.
    #[error("the data directory `{}` is open to others (mode {mode:04o}): run `chmod 700` on it", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The data directory is somebody else's.
    #[error("the data directory `{}` belongs to user {owner}: choose another", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A blob is not what its descriptor says.
    #[error("the blob `{}` is broken: it has {found_size} bytes and the digest {found}", path.display())]
    Broken {
        /// The blob's file.
        path: PathBuf,
        /// The digest of its bytes.
        found: Digest,
        /// How many there are.
        found_size: u64,
    },
    /// A record is malformed.
    #[error("`{}` is malformed: {why}", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A layer's blob could not be decompressed or is another.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A layer could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Trees could not be made one.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// A layer is another than it should be.
    #[error("the layer {expected} is broken: its blob holds {found}")]
    DiffId {
        /// The layer that was wanted.
        expected: DiffId,
        /// The layer that was there.
        found: DiffId,
    },
    /// The local images could not be read or written.
    #[error(transparent)]
    Images(#[from] LayoutError),
    /// The build is to end.
    #[error("interrupted")]
    Stopped,
}

impl StoreError {
    /// For `map_err` after a call on `path`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    /// For `map_err` after a system call on `path`.
    pub(crate) fn call(action: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source: source.into(),
        }
    }
}

impl Failure for StoreError {
    fn facts(&self) -> Facts {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::Merge(error) if error.source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::File { .. } | Self::Merge(_) => Facts::platform("store_unusable"),
            Self::Open { .. } | Self::Foreign { .. } => Facts::platform("store_open_to_others"),
            Self::Broken { .. } | Self::DiffId { .. } => Facts::platform("blob_broken"),
            Self::Record { .. } => Facts::platform("store_record_malformed"),
            Self::Decode(error) => error.facts(),
            Self::Unpack(error) => error.facts(),
            Self::Images(error) => error.facts(),
            Self::Stopped => Facts::user("interrupted"),
        }
    }
}
