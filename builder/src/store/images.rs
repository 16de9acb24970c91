//! Images by name that are kept on this machine: one OCI layout under `images/`.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use crate::model::descriptor::Descriptor;
use crate::model::digest::Digest;
use crate::oci::layout::Layout;
use crate::oci::layout::LayoutError;
use crate::oci::manifest::Document;
use crate::oci::manifest::IndexEntry;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::locks::Lock;

/// The local images.
#[derive(Debug, Clone)]
pub struct Images {
    layout: Layout,
    lock: std::path::PathBuf,
    directory: std::path::PathBuf,
}

/// While this is held, no blob of an image is removed.
#[derive(Debug)]
pub struct ImagesKept {
    _lock: Lock,
}

impl Store {
    /// The local images.
    pub fn images(&self) -> Result<Images, StoreError> {
        let directory = self.folder("images")?;
        let layout = Layout::open_or_create(&directory)?;
        Ok(Images {
            layout,
            lock: self.root().join("images.lock"),
            directory,
        })
    }
}

impl Images {
    /// The layout, for reading.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The image of a name.
    pub fn get(&self, name: &str) -> Result<Option<IndexEntry>, StoreError> {
        Ok(self.layout.find(Some(name))?)
    }

    /// Every image.
    pub fn list(&self) -> Result<Vec<IndexEntry>, StoreError> {
        Ok(self.layout.index()?.manifests)
    }

    /// Keeps every blob, until this is dropped; whoever writes an image holds it, since no name has its blobs yet.
    pub fn keep_all(&self) -> Result<ImagesKept, StoreError> {
        Ok(ImagesKept {
            _lock: Lock::shared(&self.lock)?,
        })
    }

    /// Forgets an image; says whether it was there. Its blobs go with the next sweep.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.layout.remove(name)?)
    }

    /// Removes the blobs that no image has; gives their bytes. Nothing is removed while an image is being written.
    pub(super) fn sweep(&self) -> Result<u64, StoreError> {
        let Some(_lock) = Lock::try_exclusive(&self.lock)? else {
            return Ok(0);
        };
        let mut used = BTreeSet::new();
        for entry in self.layout.index()?.manifests {
            self.mark(&entry.descriptor, &mut used)?;
        }
        let blobs = self.directory.join("blobs/sha256");
        let mut freed = 0;
        for entry in fs::read_dir(&blobs).map_err(StoreError::file("read", &blobs))? {
            let entry = entry.map_err(StoreError::file("read", &blobs))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_used = format!("sha256:{name}")
                .parse()
                .is_ok_and(|digest: Digest| used.contains(&digest));
            if !is_used {
                freed += entry.metadata().map_or(0, |metadata| metadata.len());
                fs::remove_file(entry.path()).map_err(StoreError::file("remove", &entry.path()))?;
            }
        }
        Ok(freed)
    }

    fn mark(&self, image: &Descriptor, used: &mut BTreeSet<Digest>) -> Result<(), StoreError> {
        if !used.insert(image.digest) {
            return Ok(());
        }
        match self.layout.read_document(image) {
            Ok(Document::Manifest(manifest)) => {
                used.insert(manifest.config.digest);
                used.extend(manifest.layers.iter().map(|layer| layer.digest));
                Ok(())
            }
            Ok(Document::Index(index)) => index
                .manifests
                .iter()
                .try_for_each(|entry| self.mark(&entry.descriptor, used)),
            // A name without its manifest keeps nothing alive.
            Err(LayoutError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::descriptor::CONFIG;
    use crate::model::descriptor::LAYER_TAR;
    use crate::model::descriptor::MANIFEST;
    use crate::oci::manifest::Manifest;
    use crate::oci::manifest::describe;

    /// An image of one layer, which all images share.
    fn put(images: &Images, name: &str) {
        let layer = describe(LAYER_TAR, b"shared");
        let config = describe(CONFIG, name.as_bytes());
        let manifest = Manifest::new(name.as_bytes(), [layer.clone()]).to_bytes();
        let described = describe(MANIFEST, &manifest);
        let layout = images.layout();
        for (blob, bytes) in [
            (&layer, &b"shared"[..]),
            (&config, name.as_bytes()),
            (&described, &manifest),
        ] {
            layout.add_bytes(blob, bytes).unwrap();
        }
        layout.set(Some(name), &described, None).unwrap();
    }

    #[test]
    fn a_removed_image_takes_only_its_own_blobs_along() {
        let folder = tempfile::tempdir().unwrap();
        let images = Store::open(&folder.path().join("store"))
            .unwrap()
            .images()
            .unwrap();
        put(&images, "a");
        put(&images, "b");
        assert_eq!(images.sweep().unwrap(), 0);
        assert!(images.remove("a").unwrap());
        assert!(images.sweep().unwrap() > 0);
        assert!(images.get("a").unwrap().is_none());
        let left = images.get("b").unwrap().unwrap();
        let Document::Manifest(manifest) = images.layout().read_document(&left.descriptor).unwrap() else {
            panic!()
        };
        assert!(images.layout().contains(&manifest.layers[0]) && images.layout().contains(&manifest.config));
        assert!(!images.layout().contains(&describe(CONFIG, b"a")));
    }

    #[test]
    fn an_image_that_is_being_written_keeps_its_blobs() {
        let folder = tempfile::tempdir().unwrap();
        let images = Store::open(&folder.path().join("store"))
            .unwrap()
            .images()
            .unwrap();
        let blob = describe(CONFIG, b"new");
        let kept = images.keep_all().unwrap();
        images.layout().add_bytes(&blob, b"new").unwrap();
        assert_eq!(images.sweep().unwrap(), 0);
        assert!(images.layout().contains(&blob));
        drop(kept);
        assert!(images.sweep().unwrap() > 0);
        assert!(!images.layout().contains(&blob));
    }
}
