//! Blobs by digest: `blobs/sha256/<hex>`.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use sha2::Digest as _;
use sha2::Sha256;

use crate::model::descriptor::Descriptor;
use crate::model::digest::Digest;
use crate::oci::temporary::TemporaryFile;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::locks::Lock;

/// The blobs of a store.
#[derive(Debug, Clone)]
pub struct Blobs {
    directory: PathBuf,
    lock: PathBuf,
}

/// While this is held, no blob is evicted.
#[derive(Debug)]
pub struct BlobsInUse {
    _lock: Lock,
}

impl Store {
    /// The blobs.
    pub fn blobs(&self) -> Result<Blobs, StoreError> {
        Ok(Blobs {
            directory: self.folder("blobs/sha256")?,
            lock: self.folder("blobs")?.join("lock"),
        })
    }
}

impl Blobs {
    /// The folder of the blobs; temporary files for [`Blobs::commit`] are made here.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keeps every blob, until this is dropped; a build holds it.
    pub fn use_all(&self) -> Result<BlobsInUse, StoreError> {
        Ok(BlobsInUse {
            _lock: Lock::shared(&self.lock)?,
        })
    }

    /// The lock that eviction takes, or none while blobs are in use.
    pub(super) fn try_own_all(&self) -> Result<Option<Lock>, StoreError> {
        Lock::try_exclusive(&self.lock)
    }

    /// Where a blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Whether a blob of this digest and size is there. The size tells a file that a crash has cut.
    pub fn contains(&self, blob: &Descriptor) -> bool {
        fs::metadata(self.path(&blob.digest)).is_ok_and(|found| found.is_file() && found.len() == blob.size)
    }

    /// Removes a blob whose bytes are not what its digest says, so that it is made again.
    pub fn discard(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(StoreError::file("remove", &path)),
        }
    }

    /// Gives a temporary file its place. Its bytes must be known to be the blob's: they were hashed when they were
    /// written, as `oci::layer` does.
    pub fn commit(&self, temporary: TemporaryFile, blob: &Descriptor) -> Result<PathBuf, StoreError> {
        let path = self.path(&blob.digest);
        let found = fs::metadata(temporary.path())
            .map_err(StoreError::file("read", temporary.path()))?
            .len();
        if found != blob.size {
            return Err(StoreError::Broken {
                path,
                found: blob.digest,
                found_size: found,
            });
        }
        temporary
            .persist(&path)
            .map_err(StoreError::file("write", &path))?;
        Ok(path)
    }

    /// Keeps what `input` gives, if it is the blob: every byte is hashed, and no more than its size is read.
    pub fn write(&self, blob: &Descriptor, input: &mut dyn Read) -> Result<PathBuf, StoreError> {
        let path = self.path(&blob.digest);
        let (mut file, temporary) =
            TemporaryFile::create(&self.directory).map_err(StoreError::file("write in", &self.directory))?;
        let mut hashing = Hashing {
            input: input.take(blob.size.saturating_add(1)),
            hasher: Sha256::new(),
        };
        let size = io::copy(&mut hashing, &mut file).map_err(StoreError::file("write", &path))?;
        let found = Digest::finish(hashing.hasher);
        if size != blob.size || found != blob.digest {
            return Err(StoreError::Broken {
                path,
                found,
                found_size: size,
            });
        }
        self.commit(temporary, blob)
    }

    /// Opens a blob; its bytes are not verified.
    pub fn open(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.path(digest);
        let file = File::open(&path).map_err(StoreError::file("read", &path))?;
        // The time of last use, by which eviction goes; without it the blob is only evicted earlier.
        let _untouched = rustix::fs::futimens(&file, &now());
        Ok(file)
    }

    /// Reads a small blob whole and verifies it.
    pub fn read(&self, blob: &Descriptor, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(&blob.digest);
        let mut bytes = Vec::new();
        let file = self.open(&blob.digest)?;
        file.take(bytes_max.min(blob.size) + 1)
            .read_to_end(&mut bytes)
            .map_err(StoreError::file("read", &path))?;
        let found = Digest::of(&bytes);
        if found != blob.digest {
            return Err(StoreError::Broken {
                path,
                found,
                found_size: bytes.len() as u64,
            });
        }
        Ok(bytes)
    }
}

/// The kernel's own time, for both times of a file.
pub(super) fn now() -> rustix::fs::Timestamps {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    rustix::fs::Timestamps {
        last_access: now,
        last_modification: now,
    }
}

struct Hashing<R> {
    input: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::descriptor::CONFIG;
    use crate::oci::manifest::describe;

    #[test]
    fn only_the_right_bytes_become_a_blob() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Store::open(&folder.path().join("store"))
            .unwrap()
            .blobs()
            .unwrap();
        let blob = describe(CONFIG, b"contents");
        for wrong in [&b"content"[..], b"contentz", b"contents and more"] {
            assert!(matches!(
                blobs.write(&blob, &mut &wrong[..]),
                Err(StoreError::Broken { .. })
            ));
        }
        assert!(!blobs.contains(&blob));
        assert_eq!(fs::read_dir(blobs.directory()).unwrap().count(), 0);
        let path = blobs.write(&blob, &mut &b"contents"[..]).unwrap();
        assert!(blobs.contains(&blob));
        assert_eq!(blobs.read(&blob, 100).unwrap(), b"contents");
        fs::write(&path, b"contentz").unwrap();
        assert!(matches!(blobs.read(&blob, 100), Err(StoreError::Broken { .. })));
        fs::write(&path, b"cut").unwrap();
        assert!(!blobs.contains(&blob));
    }
}
