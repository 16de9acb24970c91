//! The image's layers, unpacked once into the store, and what is read from them before the sandbox starts.

use std::fs;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::failure::CommandError;
use crate::cli::inspect::image::FoundImage;
use crate::events::Cancel;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::owners::Owners;
use crate::oci::layout::Layout;
use crate::oci::overlay::merge::Files;
use crate::oci::overlay::merge::merge;
use crate::oci::overlay::view::Seen;
use crate::oci::overlay::view::look_up;
use crate::oci::unpack::UnpackOptions;
use crate::store::Store;
use crate::store::copy::CopyRules;
use crate::store::copy::copy_directory;
use crate::store::error::StoreError;
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

    /// A regular file of the image, as the sandbox will see it; empty if there is none.
    pub(super) fn file(&self, path: &str) -> Result<Vec<u8>, PrepareError> {
        let Seen::File(path) = self.look_up(path)? else {
            return Ok(Vec::new());
        };
        let read = fs::symlink_metadata(&path).and_then(|found| {
            if found.is_file() && found.len() <= FILE_BYTES_MAX {
                fs::read(&path)
            } else {
                Ok(Vec::new())
            }
        });
        read.map_err(|source| PrepareError { path, source })
    }

    /// What the image has at `path`; nothing of this machine, whatever its links say.
    fn look_up(&self, path: &str) -> Result<Seen, PrepareError> {
        look_up(&self.trees(), Path::new(path)).map_err(|source| PrepareError {
            path: path.into(),
            source,
        })
    }

    /// Lays the image's `/workspace` out as a folder of its own, since the sandbox mounts one there.
    pub(super) fn lay_out_workspace(
        &self,
        destination: &Path,
        owner: u32,
        room: &Path,
        cancel: &Cancel,
    ) -> Result<(), CommandError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| PrepareError { path, source }
        };
        let Seen::Folder(trees) = self.look_up(WORKSPACE)? else {
            fs::create_dir(destination).map_err(failed(destination))?;
            return Ok(lchown(destination, Some(owner), Some(owner)).map_err(failed(destination))?);
        };
        // Hard links, so that one view of all layers is at hand for the copy.
        let merged = room.join("merged");
        fs::create_dir(&merged).map_err(failed(&merged))?;
        merge(&trees, &merged, Files::Shared).map_err(StoreError::from)?;
        let rules = CopyRules {
            leave_out: &[],
            owner,
            entries_max: WORKSPACE_ENTRIES_MAX,
            bytes_max: WORKSPACE_BYTES_MAX,
            stop: cancel.flag(),
        };
        copy_directory(&merged, destination, rules)?;
        Ok(fs::remove_dir_all(&merged).map_err(failed(&merged))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::descriptor::LAYER_TAR;
    use crate::model::digest::DiffId;
    use crate::model::digest::Digest;
    use crate::model::timestamp::Timestamp;
    use crate::oci::manifest::describe;
    use crate::oci::tar::header::Header;
    use crate::oci::tar::header::Kind;
    use crate::oci::tar::writer::TarWriter;

    /// Layers of one entry each, the top one first.
    fn layers(store: &Store, entries: &[(&str, Kind)]) -> Layers {
        let layer = |(path, kind): &(&str, Kind)| {
            let header = Header {
                path: (*path).into(),
                kind: kind.clone(),
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: Timestamp::BUILDPACKS,
            };
            let mut tar = TarWriter::new(Vec::new());
            let mut contents = if *kind == file() { &b"inside"[..] } else { b"" };
            tar.append(&header, &mut contents).unwrap();
            let tar = tar.finish().unwrap();
            let (diff_id, blob) = (DiffId(Digest::of(&tar)), describe(LAYER_TAR, &tar));
            let options = UnpackOptions::default();
            let unpacked = store.unpacked().unwrap();
            unpacked
                .get_or_unpack(&diff_id, &blob, &mut &tar[..], options)
                .unwrap()
        };
        Layers {
            layers: entries.iter().map(layer).collect(),
        }
    }

    fn file() -> Kind {
        Kind::File { size: 6 }
    }

    fn link_to(target: &Path) -> Kind {
        Kind::Symlink {
            target: target.to_str().unwrap().into(),
        }
    }

    /// The names in the workspace that these layers give.
    fn workspace_of(layers: &Layers, room: &Path) -> Vec<std::ffi::OsString> {
        let destination = room.join("workspace");
        let owner = rustix::process::getuid().as_raw();
        layers
            .lay_out_workspace(&destination, owner, room, &Cancel::default())
            .unwrap();
        let entries = fs::read_dir(destination).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn an_image_gets_no_file_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(home.join("ssl/certs")).unwrap();
        for file in ["passwd", "ssl/certs/ca-certificates.crt"] {
            fs::write(home.join(file), "outside").unwrap();
        }
        let hostile = layers(
            &store,
            &[("/workspace", link_to(&home)), ("/etc", link_to(&home))],
        );
        assert_eq!(workspace_of(&hostile, folder.path()), Vec::<&str>::new());
        for path in ["etc/passwd", "etc/ssl/certs/ca-certificates.crt"] {
            assert_eq!(hostile.file(path).unwrap(), b"", "{path}");
        }
    }

    #[test]
    fn an_image_gets_its_own_files_but_those_that_its_layers_hide() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let empty = || Kind::File { size: 0 };
        let image = layers(
            &store,
            &[
                ("/etc/.wh.group", empty()),
                ("/workspace/.wh.old", empty()),
                ("/workspace/new", file()),
                ("/workspace/old", file()),
                ("/etc/group", file()),
                ("/etc/passwd", file()),
            ],
        );
        assert_eq!(workspace_of(&image, folder.path()), ["new"]);
        assert_eq!(image.file("etc/passwd").unwrap(), b"inside");
        assert_eq!(image.file("etc/group").unwrap(), b"");
    }
}
