//! What is kept on this machine: blobs, unpacked layers, caches, receipts; with locks and eviction.

pub mod error;
pub mod receipts;
pub mod embedded;
pub mod copy;
mod directory_hash;

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::model::digest::Digest;
use crate::store::error::StoreError;
use crate::store::receipts::Receipts;

/// A data directory (DESIGN §10).
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the data directory `root`, making it if it is missing. It must be closed to others, since a job may have
    /// made files in it that are dangerous to run.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(root).map_err(StoreError::file("make", root))?;
        let mode = fs::metadata(root).map_err(StoreError::file("read", root))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Open { path: root.to_owned(), mode });
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The receipts of earlier builds.
    pub fn receipts(&self) -> Receipts {
        Receipts::new(self.root.join("receipts"))
    }

    /// Where images without an output of their own are kept, as one OCI layout.
    pub fn images_directory(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The hash of what a build would take from `directory` (an absolute path): names, kinds, modes as git sees them,
    /// link targets and contents. Names at the top that stand in `leave_out` are left out.
    pub fn hash_directory(&self, directory: &Path, leave_out: &[&str]) -> Result<Digest, StoreError> {
        let cache = directory_hash::cache_path(directory, &self.root.join("stat"));
        directory_hash::hash_directory(directory, leave_out, &cache)
    }
}
