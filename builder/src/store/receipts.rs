//! Receipts by build key: what a build of the same input made (DESIGN §2, "Nothing changed is free").

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::model::digest::Digest;
use crate::oci::temporary::write_expendable;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::folder_name;

/// A receipt is a few kilobytes; a longer file is none.
const RECEIPT_BYTES_MAX: u64 = 4 << 20;

/// The receipts of one trust scope.
#[derive(Debug, Clone)]
pub struct Receipts {
    directory: PathBuf,
}

impl Store {
    /// The receipts of a trust scope.
    pub fn receipts(&self, scope: &str) -> Result<Receipts, StoreError> {
        Ok(Receipts {
            directory: self.folder(&format!("receipts/{}", folder_name(scope)))?,
        })
    }
}

impl Receipts {
    /// The receipt of a build key, as JSON.
    pub fn get(&self, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(key);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > RECEIPT_BYTES_MAX => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::file("read", &path)(error)),
        }
        fs::read(&path).map(Some).map_err(StoreError::file("read", &path))
    }

    /// Keeps the receipt of a build key; an older one of the key is replaced. One that a crash of the machine has cut is
    /// no JSON, and costs a build.
    pub fn put(&self, key: &Digest, receipt: &[u8]) -> Result<(), StoreError> {
        let path = self.path(key);
        write_expendable(&path, receipt).map_err(StoreError::file("write", &path))
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.directory.join(format!("{}.json", key.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_found_in_its_own_scope_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let receipts = store.receipts("protected").unwrap();
        let key = Digest::of(b"key");
        assert_eq!(receipts.get(&key).unwrap(), None);
        receipts.put(&key, b"{}").unwrap();
        receipts.put(&key, b"{\"a\":1}").unwrap();
        assert_eq!(receipts.get(&key).unwrap().as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(store.receipts("pull/1").unwrap().get(&key).unwrap(), None);
        assert_eq!(receipts.get(&Digest::of(b"other")).unwrap(), None);
    }
}
