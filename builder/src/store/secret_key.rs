//! This machine's key, with which the presence of secrets in a build key is hashed: nobody can try guesses without it.

use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;

use ring::hmac;
use ring::rand::SecureRandom as _;
use ring::rand::SystemRandom;

use crate::oci::temporary::TemporaryFile;
use crate::store::Store;
use crate::store::error::StoreError;

/// The key's length in bytes: that of the hash.
const KEY_BYTES: usize = 32;

/// The key. It is made once, and lost it costs a build of every app that has secrets.
pub struct SecretKey(hmac::Key);

impl Store {
    /// The key of this data directory, in a file that only its owner can read.
    pub fn secret_key(&self) -> Result<SecretKey, StoreError> {
        let path = self.root().join("secret-key");
        loop {
            match fs::read(&path) {
                Ok(bytes) if bytes.len() == KEY_BYTES => {
                    return Ok(SecretKey(hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
                }
                Ok(_) => fs::remove_file(&path).map_err(StoreError::file("remove", &path))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::file("read", &path)(error)),
            }
            make(self.root(), &path).map_err(StoreError::file("write", &path))?;
        }
    }
}

impl SecretKey {
    /// A hash of `bytes` that says nothing without the key: 64 hex digits.
    pub fn hash(&self, bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        let tag = hmac::sign(&self.0, bytes);
        tag.as_ref().iter().fold(String::new(), |mut text, byte| {
            // Writing to a text cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Makes a new key, unless another process is sooner.
fn make(directory: &Path, path: &Path) -> io::Result<()> {
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    let (mut file, temporary) = TemporaryFile::create(directory)?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    match fs::hard_link(temporary.path(), path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let first = store.secret_key().unwrap().hash(b"value");
        assert_eq!(first, store.secret_key().unwrap().hash(b"value"));
        assert_ne!(first, store.secret_key().unwrap().hash(b"other"));
        let path = store.root().join("secret-key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"cut").unwrap();
        assert_ne!(first, store.secret_key().unwrap().hash(b"value"));
        assert_eq!(fs::read_dir(store.root()).unwrap().count(), 1);
        let other = Store::open(&folder.path().join("other")).unwrap();
        assert_ne!(
            other.secret_key().unwrap().hash(b"value"),
            store.secret_key().unwrap().hash(b"value")
        );
    }
}
