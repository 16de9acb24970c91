//! Writes a folder of `/layers` as a layer into the blob store.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::model::descriptor::LayerDescriptor;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::layer::LayerError;
use crate::oci::layer::LayerTar;
use crate::oci::layer::compression::Compression;
use crate::oci::layer::write_layer;
use crate::oci::tree::Owner;
use crate::oci::tree::Tree;
use crate::oci::tree::TreeError;
use crate::oci::tree::TreeLimits;
use crate::oci::tree::append_layer_directory;
use crate::store::blobs::Blobs;
use crate::store::error::StoreError;

/// Why a layer is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It could not be read or compressed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Its blob could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure for WriteError {
    fn facts(&self) -> Facts {
        match self {
            Self::Layer(error) => error.facts(),
            Self::Store(error) => error.facts(),
        }
    }
}

impl Blobs {
    /// Keeps the layer whose entries `produce` gives, compressed on all cores. `passed` hears the bytes of its tar so far.
    pub fn write_layer(
        &self,
        passed: &mut dyn FnMut(u64),
        produce: impl FnOnce(&mut LayerTar<'_>) -> Result<(), TreeError>,
    ) -> Result<LayerDescriptor, WriteError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let written = write_layer(self.directory(), Compression::default(), threads, passed, produce)?;
        self.commit(written.blob, &written.descriptor.blob)?;
        Ok(written.descriptor)
    }

    /// Keeps the folder `place` (relative: `ESC/NAME`) of the opened `/layers`.
    pub fn write_directory(
        &self,
        layers: &Tree<'_>,
        place: &Path,
        passed: &mut dyn FnMut(u64),
    ) -> Result<LayerDescriptor, WriteError> {
        self.write_layer(passed, |tar| append_layer_directory(tar, layers, place))
    }
}

/// A folder of a job, all of which becomes the job's user's. Reading ends once `stop` is set.
pub fn tree_of_user<'a>(
    root: BorrowedFd<'a>,
    image_path: &'a Path,
    id: u32,
    stop: &'a AtomicBool,
) -> Tree<'a> {
    let owner = Owner { uid: id, gid: id };
    Tree {
        root,
        image_path,
        parent_owner: owner,
        owner,
        limits: TreeLimits::default(),
        stop: Some(stop),
    }
}
