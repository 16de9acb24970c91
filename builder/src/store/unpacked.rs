//! Layers unpacked once and mounted ever after: `layers/<diffID>/fs`.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;

use crate::model::descriptor::Descriptor;
use crate::model::digest::DiffId;
use crate::oci::decode::DecodeLimits;
use crate::oci::decode::LayerReader;
use crate::oci::temporary::TemporaryFolder;
use crate::oci::unpack;
use crate::oci::unpack::UnpackOptions;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::locks::Lock;
use crate::store::removal;

/// The unpacked layers of a store.
#[derive(Debug, Clone)]
pub struct UnpackedLayers {
    directory: PathBuf,
    trash: PathBuf,
}

/// An unpacked layer that is kept as long as this is held.
#[derive(Debug)]
pub struct UnpackedLayer {
    path: PathBuf,
    _lock: Lock,
}

impl UnpackedLayer {
    /// The tree, which must not be written to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store {
    /// The unpacked layers.
    pub fn unpacked(&self) -> Result<UnpackedLayers, StoreError> {
        Ok(UnpackedLayers {
            directory: self.trees("layers")?,
            trash: self.trash()?,
        })
    }
}

impl UnpackedLayers {
    /// The layer, if it is unpacked.
    pub fn get(&self, layer: &DiffId) -> Result<Option<UnpackedLayer>, StoreError> {
        let path = self.tree(layer);
        if !path.is_dir() {
            return Ok(None);
        }
        let lock = Lock::shared(&self.lock(layer))?;
        // Eviction may have come between.
        Ok(path.is_dir().then_some(UnpackedLayer { path, _lock: lock }))
    }

    /// The layer; it is unpacked from `blob` if it is not there yet, and verified on the way. Two callers at once may
    /// both unpack it; the first to finish is kept.
    pub fn get_or_unpack(
        &self,
        layer: &DiffId,
        descriptor: &Descriptor,
        blob: &mut dyn Read,
        options: UnpackOptions,
    ) -> Result<UnpackedLayer, StoreError> {
        if let Some(unpacked) = self.get(layer)? {
            return Ok(unpacked);
        }
        let temporary = TemporaryFolder::create(&self.directory)
            .map_err(StoreError::file("write in", &self.directory))?;
        let lock = Lock::shared(&self.lock(layer))?;
        let outcome = unpack_verified(layer, descriptor, blob, temporary.path(), options)
            .and_then(|()| self.keep(layer, temporary.path()));
        if outcome.is_err() {
            removal::discard(temporary.path(), &self.trash)?;
        }
        outcome.map(|path| UnpackedLayer { path, _lock: lock })
    }

    /// Evicts a layer unless it is in use; says whether it is gone.
    pub(super) fn evict(&self, layer: &DiffId) -> Result<bool, StoreError> {
        let Some(_lock) = Lock::try_exclusive(&self.lock(layer))? else {
            return Ok(false);
        };
        removal::discard(&self.directory.join(layer.0.hex()), &self.trash)?;
        Ok(true)
    }

    /// Every unpacked layer with its folder.
    pub(super) fn list(&self) -> Result<Vec<(DiffId, PathBuf)>, StoreError> {
        let failed = StoreError::file("read", &self.directory);
        let entries = fs::read_dir(&self.directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let named = |entry: &fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            Some((format!("sha256:{name}").parse().ok()?, entry.path()))
        };
        Ok(entries.map_err(failed)?.iter().filter_map(named).collect())
    }

    fn keep(&self, layer: &DiffId, temporary: &Path) -> Result<PathBuf, StoreError> {
        let folder = self.directory.join(layer.0.hex());
        match fs::rename(temporary, &folder) {
            Ok(()) => {}
            Err(_) if self.tree(layer).is_dir() => removal::discard(temporary, &self.trash)?,
            Err(error) => return Err(StoreError::file("write", &folder)(error)),
        }
        Ok(self.tree(layer))
    }

    fn tree(&self, layer: &DiffId) -> PathBuf {
        self.directory.join(layer.0.hex()).join("fs")
    }

    /// Beside the folder, so that the lock outlives it.
    fn lock(&self, layer: &DiffId) -> PathBuf {
        self.directory.join(format!("{}.lock", layer.0.hex()))
    }
}

fn unpack_verified(
    layer: &DiffId,
    descriptor: &Descriptor,
    blob: &mut dyn Read,
    folder: &Path,
    options: UnpackOptions,
) -> Result<(), StoreError> {
    let tree = folder.join("fs");
    fs::create_dir(&tree).map_err(StoreError::file("make", &tree))?;
    let root = File::open(&tree).map_err(StoreError::file("read", &tree))?;
    let mut reader = LayerReader::new(blob, descriptor, DecodeLimits::default())?;
    let unpacked = unpack::unpack(&mut reader, root.as_fd(), options);
    // A broken blob is told before the broken tar that it makes.
    let (found, _) = reader.finish()?;
    unpacked?;
    if found == *layer {
        Ok(())
    } else {
        Err(StoreError::DiffId {
            expected: *layer,
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::descriptor::LAYER_TAR;
    use crate::model::digest::Digest;
    use crate::model::timestamp::Timestamp;
    use crate::oci::manifest::describe;
    use crate::oci::tar::header::Header;
    use crate::oci::tar::header::Kind;
    use crate::oci::tar::writer::TarWriter;

    #[test]
    fn a_layer_is_unpacked_once_and_kept_while_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let layers = Store::open(&folder.path().join("store"))
            .unwrap()
            .unpacked()
            .unwrap();
        let mut tar = TarWriter::new(Vec::new());
        let mtime = Timestamp::BUILDPACKS;
        let header = Header {
            path: b"/a/b".to_vec(),
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime,
        };
        tar.append_empty(&header).unwrap();
        let tar = tar.finish().unwrap();
        let (layer, blob) = (DiffId(Digest::of(&tar)), describe(LAYER_TAR, &tar));
        let options = UnpackOptions::default();

        let wrong = DiffId(Digest::of(b"other"));
        let outcome = layers.get_or_unpack(&wrong, &blob, &mut &tar[..], options);
        assert!(matches!(outcome, Err(StoreError::DiffId { .. })));
        assert!(layers.get(&wrong).unwrap().is_none() && layers.list().unwrap().is_empty());

        let first = layers
            .get_or_unpack(&layer, &blob, &mut &tar[..], options)
            .unwrap();
        assert!(first.path().join("a/b").is_dir());
        // No blob is needed any more.
        let second = layers
            .get_or_unpack(&layer, &blob, &mut io::empty(), options)
            .unwrap();
        assert!(!layers.evict(&layer).unwrap());
        drop((first, second));
        assert!(layers.evict(&layer).unwrap());
        assert!(layers.get(&layer).unwrap().is_none());
    }
}
