//! Which blob holds the launcher's layer, so that the same program compresses it once.

use std::fs;
use std::path::PathBuf;

use crate::model::descriptor::LayerDescriptor;
use crate::oci::temporary::write_expendable;
use crate::store::Store;
use crate::store::embedded::PROGRAM;
use crate::store::error::StoreError;

impl Store {
    /// The layer, if this very program has written it and its blob is still here.
    pub fn launcher_layer(&self) -> Result<Option<LayerDescriptor>, StoreError> {
        let record = fs::read(self.launcher_record()?).unwrap_or_default();
        // What is damaged is written again.
        let known = serde_json::from_slice::<LayerDescriptor>(&record).ok();
        let blobs = self.blobs()?;
        Ok(known.filter(|layer| blobs.contains(&layer.blob)))
    }

    /// Remembers the layer.
    pub fn keep_launcher_layer(&self, layer: &LayerDescriptor) -> Result<(), StoreError> {
        let path = self.launcher_record()?;
        let written = serde_json::to_vec(layer)
            .map_err(std::io::Error::from)
            .and_then(|bytes| write_expendable(&path, &bytes));
        written.map_err(StoreError::file("write", &path))
    }

    /// Another program may carry another launcher, or write its layer otherwise.
    fn launcher_record(&self) -> Result<PathBuf, StoreError> {
        Ok(self.folder("launcher-layer")?.join(&PROGRAM[..32]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_is_known_as_long_as_its_blob_is_here() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        assert_eq!(store.launcher_layer().unwrap(), None);
        let blobs = store.blobs().unwrap();
        let layer = blobs.write_layer(&mut |_| {}, |_| Ok(())).unwrap();
        store.keep_launcher_layer(&layer).unwrap();
        assert_eq!(store.launcher_layer().unwrap(), Some(layer.clone()));
        fs::write(store.launcher_record().unwrap(), "{").unwrap();
        assert_eq!(store.launcher_layer().unwrap(), None);
        store.keep_launcher_layer(&layer).unwrap();
        blobs.discard(&layer.blob.digest).unwrap();
        assert_eq!(store.launcher_layer().unwrap(), None);
    }
}
