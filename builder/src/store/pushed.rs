//! Where blobs were sent: by registry and blob a repository that has it, so that it can be mounted into another one
//! (OCI distribution spec, "Mounting a blob from another repository").

use std::fs;
use std::path::PathBuf;

use crate::model::digest::Digest;
use crate::oci::temporary::write_expendable;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::folder_name;

/// A longer file is no record: it holds a repository's name, which has at most 255 bytes.
const RECORD_BYTES_MAX: u64 = 1024;

/// What was sent to one registry from one trust scope: what another scope has sent tells this one nothing.
#[derive(Debug, Clone)]
pub struct Pushed {
    directory: PathBuf,
}

impl Store {
    /// What was sent to `registry`.
    pub fn pushed(&self, scope: &str, registry: &str) -> Result<Pushed, StoreError> {
        Ok(Pushed {
            directory: self.folder(&format!("pushed/{}", folder_name(&format!("{registry} {scope}"))))?,
        })
    }
}

impl Pushed {
    /// A repository that had the blob. A record that cannot be read costs an upload, and is none.
    pub fn repository(&self, blob: &Digest) -> Option<String> {
        let path = self.path(blob);
        let is_short = fs::metadata(&path).is_ok_and(|found| found.len() <= RECORD_BYTES_MAX);
        let bytes = is_short.then(|| fs::read(&path).ok())??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers a repository that has the blob, in place of another one.
    pub fn remember(&self, blob: &Digest, repository: &str) -> Result<(), StoreError> {
        let path = self.path(blob);
        let record = serde_json::Value::from(repository).to_string();
        write_expendable(&path, record.as_bytes()).map_err(StoreError::file("write", &path))
    }

    fn path(&self, blob: &Digest) -> PathBuf {
        self.directory.join(format!("{}.json", blob.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_found_for_its_own_registry_and_scope_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let pushed = store.pushed("default", "registry.example").unwrap();
        let blob = Digest::of(b"blob");
        assert_eq!(pushed.repository(&blob), None);
        pushed.remember(&blob, "team/one").unwrap();
        pushed.remember(&blob, "team/two").unwrap();
        assert_eq!(pushed.repository(&blob).as_deref(), Some("team/two"));
        for (scope, registry) in [("default", "other.example"), ("pull/1", "registry.example")] {
            assert_eq!(store.pushed(scope, registry).unwrap().repository(&blob), None);
        }
        fs::write(pushed.path(&blob), "\"team/").unwrap();
        assert_eq!(pushed.repository(&blob), None);
    }
}
