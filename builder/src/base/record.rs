//! What is written down of a base that was made, so that the next build finds it at once.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::base::error::BaseError;
use crate::base::flavour::Flavour;
use crate::base::lock::Lock;
use crate::model::descriptor::LayerDescriptor;
use crate::model::digest::Digest;
use crate::model::owners::Owners;
use crate::model::timestamp::Timestamp;

/// Where the record is, beside the tree `fs`.
const FILE: &str = "base.json";
/// Which lock is in force.
const CURRENT: &str = "current.json";
/// How long such a file may be.
const BYTES_MAX: u64 = 4 << 20;

/// Raised whenever this program makes something else of the same packages: bases of another number are made again.
pub(super) const LAYOUT: u32 = 1;

/// A base that is on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) layout: u32,
    pub(super) created: Timestamp,
    pub(super) config: serde_json::Value,
    pub(super) layer: Option<LayerDescriptor>,
}

/// The lock that is used when none is named.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Current {
    pub(super) lock: Digest,
    pub(super) date: Timestamp,
}

/// The folder of all bases.
pub(super) fn bases(data_directory: &Path) -> PathBuf {
    data_directory.join("bases")
}

/// The folder of one lock.
pub(super) fn lock_folder(data_directory: &Path, lock: Digest) -> PathBuf {
    bases(data_directory).join(lock.hex())
}

/// The folder of one base whose owners are kept in one way.
pub(super) fn base_folder(data_directory: &Path, lock: Digest, flavour: Flavour, owners: Owners) -> PathBuf {
    lock_folder(data_directory, lock).join(owners.folder(flavour.name()))
}

/// The record in a base's folder, if the base is there.
pub(super) fn read_record(folder: &Path) -> Result<Option<Record>, BaseError> {
    read_json(&folder.join(FILE))
}

/// Writes the record into a base's folder.
pub(super) fn write_record(folder: &Path, record: &Record) -> Result<(), BaseError> {
    write_json(&folder.join(FILE), record)
}

/// The lock in force, if one is.
pub(super) fn read_current(data_directory: &Path, architecture: &str) -> Result<Option<Current>, BaseError> {
    read_json(&bases(data_directory).join(format!("{architecture}.{CURRENT}")))
}

/// Puts a lock in force, and keeps its text.
pub(super) fn write_current(data_directory: &Path, lock: &Lock) -> Result<(), BaseError> {
    keep_lock(data_directory, lock)?;
    let current = Current {
        lock: lock.digest(),
        date: lock.date,
    };
    write_json(
        &bases(data_directory).join(format!("{}.{CURRENT}", lock.architecture)),
        &current,
    )
}

/// Writes a lock's text beside the bases that are made of it.
pub(super) fn keep_lock(data_directory: &Path, lock: &Lock) -> Result<(), BaseError> {
    write(
        &lock_path(data_directory, lock.digest()),
        lock.to_text().as_bytes(),
    )
}

/// The lock of this digest.
pub(super) fn read_lock(data_directory: &Path, digest: Digest) -> Result<Lock, BaseError> {
    let path = lock_path(data_directory, digest);
    let text = std::fs::read_to_string(&path).map_err(BaseError::file("read", path))?;
    Lock::parse(&text)
}

fn lock_path(data_directory: &Path, digest: Digest) -> PathBuf {
    lock_folder(data_directory, digest).join("lock.toml")
}

/// What does not parse (another version's) counts as absent: it is made again.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, BaseError> {
    let is_small = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len() <= BYTES_MAX,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(source) => {
            return Err(BaseError::File {
                what: "read",
                path: path.to_owned(),
                source,
            });
        }
    };
    if !is_small {
        return Ok(None);
    }
    let text = std::fs::read(path).map_err(BaseError::file("read", path))?;
    Ok(serde_json::from_slice(&text).ok())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), BaseError> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::from);
    write(path, &text.map_err(BaseError::file("write", path))?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BaseError> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(BaseError::file("make", folder))?;
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    std::fs::write(&partial, bytes).map_err(BaseError::file("write", &partial))?;
    std::fs::rename(&partial, path).map_err(BaseError::file("rename", partial))
}
