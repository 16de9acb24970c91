//! The image's layers, unpacked once into the store, and what is read from them before the sandbox starts.

use std::fs;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::failure::CommandError;
use crate::cli::inspect::image::FoundImage;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::owners::Owners;
use crate::oci::layout::Layout;
use crate::oci::unpack::UnpackOptions;
use crate::store::Store;
use crate::store::caches::flatten::flatten;
use crate::store::copy::CopyRules;
use crate::store::copy::copy_directory;
use crate::store::unpacked::UnpackedLayer;

/// The most bytes of a file that is read from the layers.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The most files, folders and links of the image's `/workspace`, and its most bytes.
const WORKSPACE_ENTRIES_MAX: u64 = 2_000_000;
const WORKSPACE_BYTES_MAX: u64 = 64 << 30;
/// The folder that every job has of its own.
const WORKSPACE: &str = "workspace";

/// A file or folder for the sandbox that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare `{}` for the sandbox: {source}", path.display())]
pub struct PrepareError {
    /// The file or folder.
    pub path: PathBuf,
    /// Why not.
    pub source: std::io::Error,
}

impl Failure for PrepareError {
    fn facts(&self) -> Facts {
        match self.source.kind() {
            std::io::ErrorKind::StorageFull => Facts::platform("disk_full"),
            _ => Facts::platform("sandbox_preparation"),
        }
    }
}

/// An image's layers on disk, kept as long as this is held.
#[derive(Debug)]
pub(super) struct Layers {
    /// The top one first.
    layers: Vec<UnpackedLayer>,
}

impl Layers {
    /// Unpacks what is not unpacked yet. `owners` is how they are kept.
    pub(super) fn unpack(
        image: &FoundImage,
        layout: &Layout,
        store: &Store,
        owners: Owners,
    ) -> Result<Self, CommandError> {
        let unpacked = store.unpacked()?;
        let options = UnpackOptions {
            owners: Some(owners),
            ..UnpackOptions::default()
        };
        let diff_ids = image.config.diff_ids()?;
        let mut layers = Vec::with_capacity(diff_ids.len());
        for (diff_id, blob) in diff_ids.iter().zip(&image.manifest.layers) {
            let layer = match unpacked.get(diff_id)? {
                Some(layer) => layer,
                None => {
                    unpacked.get_or_unpack(diff_id, blob, &mut layout.open_blob(&blob.digest)?, options)?
                }
            };
            layers.push(layer);
        }
        layers.reverse();
        Ok(Self { layers })
    }

    /// The trees, the top one first.
    pub(super) fn trees(&self) -> Vec<PathBuf> {
        self.layers.iter().map(|layer| layer.path().to_owned()).collect()
    }

    /// A regular file of the image, from the topmost layer that has it; empty if none has.
    pub(super) fn file(&self, path: &str) -> Vec<u8> {
        let is_file = |path: &PathBuf| {
            fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() <= FILE_BYTES_MAX)
        };
        let found = self
            .layers
            .iter()
            .map(|layer| layer.path().join(path))
            .find(is_file);
        found.and_then(|path| fs::read(path).ok()).unwrap_or_default()
    }

    /// Lays the image's `/workspace` out as a folder of its own, since the sandbox mounts one there.
    pub(super) fn lay_out_workspace(
        &self,
        destination: &Path,
        owner: u32,
        room: &Path,
    ) -> Result<(), CommandError> {
        let of_layers = self.layers.iter().map(|layer| layer.path().join(WORKSPACE));
        let trees: Vec<PathBuf> = of_layers.filter(|tree| tree.is_dir()).collect();
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| PrepareError { path, source }
        };
        if trees.is_empty() {
            fs::create_dir(destination).map_err(failed(destination))?;
            return Ok(lchown(destination, Some(owner), Some(owner)).map_err(failed(destination))?);
        }
        // Hard links, so that one view of all layers is at hand for the copy.
        let merged = room.join("merged");
        fs::create_dir(&merged).map_err(failed(&merged))?;
        flatten(&trees, &merged)?;
        let rules = CopyRules {
            leave_out: &[],
            owner,
            entries_max: WORKSPACE_ENTRIES_MAX,
            bytes_max: WORKSPACE_BYTES_MAX,
        };
        copy_directory(&merged, destination, rules)?;
        Ok(fs::remove_dir_all(&merged).map_err(failed(&merged))?)
    }
}
