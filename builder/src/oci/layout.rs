//! An OCI image layout on disk: blobs by digest, and `index.json`, which is written last and under a lock.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use crate::model::descriptor::Descriptor;
use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::json::DOCUMENT_BYTES_MAX;
use crate::oci::manifest::Document;
use crate::oci::manifest::Index;
use crate::oci::manifest::IndexEntry;
use crate::oci::manifest::ManifestError;
use crate::oci::manifest::Platform;
use crate::oci::manifest::REFERENCE_NAME;
use crate::oci::temporary;
use crate::oci::temporary::TEMPORARY_PREFIX;
use crate::oci::temporary::TemporaryFile;
use crate::oci::temporary::write_atomically;

const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A layout in a folder.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

/// Why a layout could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file of it could not be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder is no layout.
    #[error("`{}` is no OCI layout: {why}", path.display())]
    NoLayout {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// A document in it is malformed.
    #[error("`{}`: {source}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// A blob is not what its name says.
    #[error("`{}` is broken: its bytes have the digest {found}", path.display())]
    Blob {
        /// The blob's file.
        path: PathBuf,
        /// The digest of its bytes.
        found: Digest,
    },
}

impl Failure for LayoutError {
    fn facts(&self) -> Facts {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::File { .. } => Facts::platform("layout_file_failed"),
            Self::NoLayout { .. } => Facts::user("layout_invalid"),
            Self::Document { source, .. } => source.facts(),
            Self::Blob { .. } => Facts::platform("blob_broken"),
        }
    }
}

impl Layout {
    /// Opens a layout that is there.
    pub fn open(root: &Path) -> Result<Self, LayoutError> {
        let layout = Self {
            root: root.to_owned(),
        };
        let marker = layout.read_file(&root.join("oci-layout"))?;
        let version = serde_json::from_slice::<serde_json::Value>(&marker).ok();
        let version = version.and_then(|marker| Some(marker.get("imageLayoutVersion")?.as_str()?.to_owned()));
        if !version
            .as_deref()
            .is_some_and(|version| version.starts_with("1."))
        {
            let why = "its `oci-layout` file does not say version 1".to_owned();
            return Err(LayoutError::NoLayout {
                path: root.to_owned(),
                why,
            });
        }
        Ok(layout)
    }

    /// Fails where a folder has contents of another kind, in which a layout would be strewn.
    pub fn check_place(root: &Path) -> Result<(), LayoutError> {
        if holds_something_else(root) {
            return Err(LayoutError::NoLayout {
                path: root.to_owned(),
                why: "it holds other files; name a folder that is missing or empty".to_owned(),
            });
        }
        Ok(())
    }

    /// Opens a layout, or makes one in a folder that is missing or empty.
    pub fn open_or_create(root: &Path) -> Result<Self, LayoutError> {
        Self::check_place(root)?;
        let blobs = root.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(failed("make", &blobs))?;
        // What a killed process has left.
        for folder in [root, &blobs] {
            temporary::sweep(folder).map_err(failed("clean", folder))?;
        }
        if root.join("oci-layout").exists() {
            return Self::open(root);
        }
        let index = root.join("index.json");
        if !index.exists() {
            write_atomically(&index, &Index::default().to_bytes()).map_err(failed("write", &index))?;
        }
        let marker = root.join("oci-layout");
        write_atomically(&marker, MARKER).map_err(failed("write", &marker))?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Where a blob is or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Whether a blob of this digest and size is there.
    pub fn contains(&self, blob: &Descriptor) -> bool {
        fs::metadata(self.blob_path(&blob.digest))
            .is_ok_and(|found| found.is_file() && found.len() == blob.size)
    }

    /// Takes a blob from a file of another place: by hard link or shared extents where that can be, else by copying.
    /// The file's bytes must be known to be right.
    pub fn add_blob(&self, blob: &Descriptor, source: &Path) -> Result<(), LayoutError> {
        if self.contains(blob) {
            return Ok(());
        }
        let path = self.blob_path(&blob.digest);
        match fs::hard_link(source, &path) {
            Ok(()) => return Ok(()),
            // A broken one of the same name is replaced below; other errors mean that links cannot be made here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(failed("read", source)(error));
            }
            Err(_) => {}
        }
        let mut from = File::open(source).map_err(failed("read", source))?;
        let directory = self.root.join("blobs/sha256");
        let (mut to, temporary) =
            TemporaryFile::create(&directory).map_err(failed("write in", &directory))?;
        if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
            io::copy(&mut from, &mut to).map_err(failed("write", &path))?;
        }
        temporary.persist(&path).map_err(failed("write", &path))
    }

    /// Writes a blob of a few bytes.
    pub fn add_bytes(&self, blob: &Descriptor, bytes: &[u8]) -> Result<(), LayoutError> {
        if self.contains(blob) {
            return Ok(());
        }
        let path = self.blob_path(&blob.digest);
        write_atomically(&path, bytes).map_err(failed("write", &path))
    }

    /// Opens a blob for reading; its bytes are not verified.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, LayoutError> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(failed("read", &path))
    }

    /// Reads a small blob (at most 4 MiB) and verifies it.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, LayoutError> {
        let path = self.blob_path(digest);
        let bytes = self.read_file(&path)?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(LayoutError::Blob { path, found })
        }
    }

    /// Reads and verifies a manifest or an index that the layout holds.
    pub fn read_document(&self, descriptor: &Descriptor) -> Result<Document, LayoutError> {
        let bytes = self.read_blob(&descriptor.digest)?;
        let path = self.blob_path(&descriptor.digest);
        Document::parse(&bytes, Some(&descriptor.media_type))
            .map_err(|source| LayoutError::Document { path, source })
    }

    /// The layout's index.
    pub fn index(&self) -> Result<Index, LayoutError> {
        let path = self.root.join("index.json");
        let bytes = self.read_file(&path)?;
        match Document::parse(&bytes, None) {
            Ok(Document::Index(index)) => Ok(index),
            Ok(Document::Manifest(_)) => {
                let why = "its `index.json` is no index".to_owned();
                Err(LayoutError::NoLayout {
                    path: self.root.clone(),
                    why,
                })
            }
            Err(source) => Err(LayoutError::Document { path, source }),
        }
    }

    /// The image of a name, or the only image if no name is given.
    pub fn find(&self, name: Option<&str>) -> Result<Option<IndexEntry>, LayoutError> {
        let mut entries = self.index()?.manifests;
        match name {
            Some(name) => Ok(entries.into_iter().find(|entry| entry.name() == Some(name))),
            None if entries.len() == 1 => Ok(entries.pop()),
            None => Ok(None),
        }
    }

    /// Gives an image its name, when all its blobs are there. What had the name before loses it.
    pub fn set(
        &self,
        name: Option<&str>,
        image: &Descriptor,
        platform: Option<Platform>,
    ) -> Result<(), LayoutError> {
        let name = name.map(|name| (REFERENCE_NAME.to_owned(), name.to_owned()));
        let entry = IndexEntry {
            descriptor: image.clone(),
            platform,
            annotations: name.into_iter().collect(),
        };
        self.edit(|entries| {
            // Readers take one image without a name, or several with names; never both.
            entries.retain(|old| match entry.name() {
                Some(name) => old.name().is_some_and(|old| old != name),
                // A reader that is given no name wants exactly one image without one.
                None => old.name().is_some(),
            });
            entries.push(entry);
        })
    }

    /// Takes a name away; its blobs stay. Says whether it was there.
    pub fn remove(&self, name: &str) -> Result<bool, LayoutError> {
        let mut was_there = false;
        self.edit(|entries| {
            entries.retain(|entry| {
                was_there |= entry.name() == Some(name);
                entry.name() != Some(name)
            });
        })?;
        Ok(was_there)
    }

    fn edit(&self, change: impl FnOnce(&mut Vec<IndexEntry>)) -> Result<(), LayoutError> {
        // The folder itself is locked: a lock file would be in every layout that people hand on.
        let lock = File::open(&self.root).map_err(failed("lock", &self.root))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|source| failed("lock", &self.root)(source.into()))?;
        let mut index = self.index()?;
        change(&mut index.manifests);
        let path = self.root.join("index.json");
        write_atomically(&path, &index.to_bytes()).map_err(failed("write", &path))
    }

    fn read_file(&self, path: &Path) -> Result<Vec<u8>, LayoutError> {
        let file = match File::open(path) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && !path.starts_with(self.root.join("blobs")) =>
            {
                let why = format!("`{}` is missing", path.display());
                return Err(LayoutError::NoLayout {
                    path: self.root.clone(),
                    why,
                });
            }
            other => other.map_err(failed("read", path))?,
        };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed("read", path))?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            let source = io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 4 MiB");
            return Err(failed("read", path)(source));
        }
        Ok(bytes)
    }
}

impl IndexEntry {
    /// The image's name in its layout.
    pub fn name(&self) -> Option<&str> {
        self.annotations.get(REFERENCE_NAME).map(String::as_str)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayoutError + use<> {
    let path = path.to_owned();
    move |source| LayoutError::File { action, path, source }
}

/// Whether a folder has contents and none of a layout. One whose first write broke off has `blobs`.
fn holds_something_else(root: &Path) -> bool {
    let Ok(entries) = fs::read_dir(root) else {
        return false;
    };
    // Whoever was killed before there was more has left one of these.
    let is_temporary =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX);
    let mut others = entries.flatten().filter(|entry| !is_temporary(entry));
    let is_begun = ["oci-layout", "index.json", "blobs"]
        .iter()
        .any(|name| root.join(name).exists());
    !is_begun && others.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_files_is_not_made_a_layout() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes"), "mine").unwrap();
        let error = Layout::open_or_create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("it holds other files"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::remove_file(folder.path().join("notes")).unwrap();
        Layout::open_or_create(folder.path()).unwrap();
        Layout::open_or_create(folder.path()).unwrap();
    }

    #[test]
    fn what_a_killed_process_began_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = |place: &str| {
            let file = folder.path().join(place).join(".tmp-77-1");
            fs::write(&file, "half").unwrap();
            file
        };
        // Each is one step further.
        let first = temporary("");
        Layout::open_or_create(folder.path()).unwrap();
        fs::remove_file(folder.path().join("oci-layout")).unwrap();
        let second = temporary("blobs/sha256");
        Layout::open_or_create(folder.path()).unwrap();
        fs::remove_file(folder.path().join("oci-layout")).unwrap();
        fs::remove_file(folder.path().join("index.json")).unwrap();
        Layout::open_or_create(folder.path()).unwrap();
        assert!(!first.exists() && !second.exists());
        Layout::open(folder.path()).unwrap();
    }
}
