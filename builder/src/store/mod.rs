//! What is kept on this machine: blobs, unpacked layers, caches, receipts, images; with locks and eviction.

pub mod error;
pub mod locks;
pub mod blobs;
pub mod directory_layer;
pub mod launcher_layer;
pub mod unpacked;
pub mod caches;
pub mod receipts;
pub mod secret_key;
pub mod pushed;
pub mod stat_cache;
pub mod images;
pub mod prune;
mod leftovers;
pub mod embedded;
pub mod copy;
mod removal;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use crate::model::digest::Digest;
use crate::model::owners::Owners;
use crate::store::error::StoreError;

/// The data directory of one user or service (DESIGN §10).
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    owners: Owners,
}

impl Store {
    /// Opens the data directory, making it if it is missing. It must be the caller's and closed to all others, since
    /// jobs make files in it that are dangerous to run.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(StoreError::file("make", root))?;
        Self::check_place(root)?;
        Ok(Self {
            root: root.to_owned(),
            owners: Owners::Natural,
        })
    }

    /// Fails unless the data directory that is there is the caller's and closed to all others.
    pub fn check_place(root: &Path) -> Result<(), StoreError> {
        let metadata = fs::metadata(root).map_err(StoreError::file("read", root))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Open {
                path: root.to_owned(),
                mode,
            });
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(StoreError::Foreign {
                path: root.to_owned(),
                owner: metadata.uid(),
            });
        }
        Ok(())
    }

    /// The same data directory for a process that keeps owners so.
    #[must_use]
    pub fn with_owners(self, owners: Owners) -> Self {
        Self { owners, ..self }
    }

    /// The data directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder of the data directory, which is made if it is missing.
    fn folder(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).map_err(StoreError::file("make", &path))?;
        Ok(path)
    }

    /// A folder for trees that jobs mount, whose owners are kept in this process's way.
    fn trees(&self, name: &str) -> Result<PathBuf, StoreError> {
        self.folder(&self.owners.folder(name))
    }

    /// Where things are put that are to be deleted: out of the way at once, removed when there is time.
    fn trash(&self) -> Result<PathBuf, StoreError> {
        self.folder("trash")
    }
}

/// A folder's name for any text: readable, and different for different texts.
fn folder_name(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let readable: String = text
        .chars()
        .map(|character| if is_plain(character) { character } else { '_' })
        .collect();
    let start = readable
        .trim_start_matches('.')
        .get(..40.min(readable.trim_start_matches('.').len()));
    format!(
        "{}-{}",
        start.unwrap_or(""),
        &Digest::of(text.as_bytes()).hex()[..16]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/b");
        Store::open(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&root, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(
            Store::open(&root),
            Err(StoreError::Open { mode: 0o750, .. })
        ));
    }

    #[test]
    fn folder_names_are_plain_and_differ() {
        let name = folder_name("registry.example/team/app:1");
        assert!(name.starts_with("registry.example_team_app_1-"), "{name}");
        assert_ne!(folder_name("a/b"), folder_name("a_b"));
        assert!(!folder_name("../..").contains('/') && !folder_name("..").starts_with('.'));
        assert!(folder_name(&"é".repeat(300)).len() < 100);
    }
}
