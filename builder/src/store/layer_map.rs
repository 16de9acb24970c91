//! Which blobs hold a layer: pairs of diffID and blob that this machine made, or decompressed and verified.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::model::descriptor::LayerDescriptor;
use crate::model::digest::DiffId;
use crate::oci::temporary::write_atomically;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::folder_name;
use crate::store::locks::Lock;

/// The most blobs that are remembered for one layer.
const BLOBS_MAX: usize = 16;
/// The most bytes of a record that is read.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// The map of one tenant.
#[derive(Debug, Clone)]
pub struct LayerMap {
    directory: PathBuf,
}

/// A blob that holds a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBlob {
    /// The layer and its blob.
    pub layer: LayerDescriptor,
    /// What made the blob (`Compression::compressor`), or nothing if it came from outside.
    pub compressor: Option<String>,
}

impl Store {
    /// The map of a tenant: what one has built tells another nothing.
    pub fn layer_map(&self, tenant: &str) -> Result<LayerMap, StoreError> {
        Ok(LayerMap {
            directory: self.folder(&format!("layer-map/{}", folder_name(tenant)))?,
        })
    }
}

impl LayerMap {
    /// The blobs that hold a layer, the newest first.
    pub fn get(&self, layer: &DiffId) -> Result<Vec<KnownBlob>, StoreError> {
        let path = self.path(layer);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > RECORD_BYTES_MAX => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::file("read", &path)(error)),
        }
        let bytes = fs::read(&path).map_err(StoreError::file("read", &path))?;
        let mut known: Vec<KnownBlob> = serde_json::from_slice(&bytes).unwrap_or_default();
        // A record that was put under another name must not pass one layer for another.
        known.retain(|blob| blob.layer.diff_id == *layer);
        Ok(known)
    }

    /// Remembers a pair. The caller has made the blob, or has decompressed it and found the diffID.
    pub fn insert(&self, blob: KnownBlob) -> Result<(), StoreError> {
        let path = self.path(&blob.layer.diff_id);
        let _lock = Lock::exclusive(&self.directory.join("lock"))?;
        let mut known = self.get(&blob.layer.diff_id)?;
        known.retain(|old| old.layer.blob.digest != blob.layer.blob.digest);
        known.insert(0, blob);
        known.truncate(BLOBS_MAX);
        let bytes = serde_json::to_vec(&known).map_err(|error| StoreError::Record {
            path: path.clone(),
            why: error.to_string(),
        })?;
        write_atomically(&path, &bytes).map_err(StoreError::file("write", &path))
    }

    fn path(&self, layer: &DiffId) -> PathBuf {
        self.directory.join(format!("{}.json", layer.0.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::descriptor::LAYER_GZIP;
    use crate::model::digest::Digest;
    use crate::oci::manifest::describe;

    #[test]
    fn pairs_are_kept_for_each_tenant_and_never_mixed_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let map = store.layer_map("a").unwrap();
        let (one, two) = (DiffId(Digest::of(b"1")), DiffId(Digest::of(b"2")));
        let known = |blob: &[u8]| KnownBlob {
            layer: LayerDescriptor {
                blob: describe(LAYER_GZIP, blob),
                diff_id: one,
                tar_size: 9,
            },
            compressor: Some("gzip".to_owned()),
        };
        map.insert(known(b"x")).unwrap();
        map.insert(known(b"y")).unwrap();
        map.insert(known(b"x")).unwrap();
        assert_eq!(map.get(&one).unwrap(), [known(b"x"), known(b"y")]);
        fs::copy(map.path(&one), map.path(&two)).unwrap();
        assert!(map.get(&two).unwrap().is_empty());
        assert!(store.layer_map("b").unwrap().get(&one).unwrap().is_empty());
    }
}
