//! Writes a buildpack's layers while the next buildpack runs.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use packhorse_spec::identifier::escape_id;

use crate::buildpack::layers::LayerOnDisk;
use crate::oci::overlay::marks::touches;
use crate::oci::tree::append_layer_directory;
use crate::phases::build::RunError;
use crate::phases::handover::EarlyLayer;
use crate::phases::handover::FileTime;
use crate::phases::handover::Guard;
use crate::phases::handover::USER_ID;
use crate::store::blobs::Blobs;
use crate::store::directory_layer::tree_of_user;

/// How often the file system's clock is looked at until it has moved on.
const TICK: Duration = Duration::from_micros(500);

/// A layer that is final unless a later buildpack reaches into it.
pub(super) struct Ready {
    layer: LayerOnDisk,
    exited: FileTime,
}

/// Picks of a finished buildpack's layers those that must be written: the ones for launch that have contents of their
/// own in `upper`.
pub(super) fn ready(layers: &[LayerOnDisk], upper: &Path, exited: FileTime) -> Vec<Ready> {
    let is_new = |layer: &&LayerOnDisk| {
        layer.types.launch && layer.has_directory && touches(upper, &place(layer)).unwrap_or(true)
    };
    layers
        .iter()
        .filter(is_new)
        .map(|layer| Ready {
            layer: layer.clone(),
            exited,
        })
        .collect()
}

/// Writes what comes until nothing more can come. One that cannot be written now is written by the export, whose
/// failure then counts.
pub(super) fn write_all(
    ready: &Receiver<Ready>,
    blobs: &Blobs,
    layers: &OwnedFd,
    path: &Path,
    guard: &Guard,
    stop: &AtomicBool,
) -> Vec<EarlyLayer> {
    let tree = tree_of_user(layers.as_fd(), path, USER_ID, stop);
    let mut written = Vec::new();
    while let Ok(Ready { layer, exited }) = ready.recv() {
        let written_now = blobs.write_layer(&mut |_| {}, |tar| {
            guard.watch(tar);
            append_layer_directory(tar, &tree, &place(&layer))
        });
        match written_now {
            Ok(descriptor) => {
                written.push(EarlyLayer {
                    buildpack: layer.buildpack,
                    name: layer.name,
                    descriptor,
                    exited,
                });
            }
            Err(error) => {
                tracing::debug!(layer = layer.name, %error, "the layer is written again at the end");
            }
        }
    }
    written
}

/// The time that the file system of `folder` gives to changes now; returns when later changes get a later one.
pub(super) fn turn_of_time(folder: &Path) -> Result<FileTime, RunError> {
    let probe = folder.join("clock");
    let now = time_of_change(&probe)?;
    while time_of_change(&probe)? == now {
        std::thread::sleep(TICK);
    }
    Ok(now)
}

fn time_of_change(probe: &Path) -> Result<FileTime, RunError> {
    let written = fs::write(probe, b"").and_then(|()| fs::symlink_metadata(probe));
    let metadata = written.map_err(|source| RunError::Clock {
        path: probe.to_owned(),
        source,
    })?;
    Ok(FileTime(metadata.ctime(), metadata.ctime_nsec()))
}

fn place(layer: &LayerOnDisk) -> PathBuf {
    Path::new(&escape_id(&layer.buildpack)).join(&layer.name)
}
