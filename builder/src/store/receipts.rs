//! Receipts by build key: what a build with the same input made.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::model::build_key::BuildKey;
use crate::model::receipt::Receipt;
use crate::oci::temporary::write_atomically;
use crate::store::error::StoreError;

/// A receipt is a few kilobytes; a longer file is none.
const RECEIPT_BYTES_MAX: u64 = 4 << 20;

/// The receipts of one store: `receipts/<key>.json`.
#[derive(Debug, Clone)]
pub struct Receipts {
    directory: PathBuf,
}

impl Receipts {
    /// The receipts in `directory`.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The receipt of a key. One that is damaged or of another version counts as none.
    pub fn get(&self, key: BuildKey) -> Result<Option<Receipt>, StoreError> {
        let path = self.path(key);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() <= RECEIPT_BYTES_MAX => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::file("read", &path)(error)),
        }
        let bytes = fs::read(&path).map_err(StoreError::file("read", &path))?;
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// Keeps a receipt under a key.
    pub fn put(&self, key: BuildKey, receipt: &Receipt) -> Result<(), StoreError> {
        let path = self.path(key);
        fs::create_dir_all(&self.directory).map_err(StoreError::file("make", &self.directory))?;
        let bytes = serde_json::to_vec(receipt).map_err(|error| unwritable(&path, &error))?;
        write_atomically(&path, &bytes).map_err(StoreError::file("write", &path))
    }

    fn path(&self, key: BuildKey) -> PathBuf {
        self.directory.join(key.0.hex()).with_extension("json")
    }
}

fn unwritable(path: &Path, error: &serde_json::Error) -> StoreError {
    StoreError::Record { path: path.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;

    #[test]
    fn a_receipt_is_found_by_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let receipts = Receipts::new(folder.path().join("receipts"));
        let key = BuildKey(Digest::of(b"key"));
        assert_eq!(receipts.get(key).unwrap(), None);
        let receipt = Receipt {
            digest: Digest::of(b"image"),
            manifest_size: 5,
            outputs: vec!["registry.example/app:1".to_owned()],
            layers: Vec::new(),
            buildpacks: vec!["a/b@1".to_owned()],
            rung: "full".to_owned(),
            unchanged: false,
            phases: Vec::new(),
        };
        receipts.put(key, &receipt).unwrap();
        assert_eq!(receipts.get(key).unwrap(), Some(receipt));
        assert_eq!(receipts.get(BuildKey(Digest::of(b"other"))).unwrap(), None);
        fs::write(receipts.path(key), "{").unwrap();
        assert_eq!(receipts.get(key).unwrap(), None);
    }
}
