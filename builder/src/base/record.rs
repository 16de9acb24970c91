//! What is written down of a base that was made, so that the next build finds it at once.

use std::fs::File;
use std::io;
use std::io::Read as _;
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
use crate::oci::temporary::write_atomically;

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

/// The record in a base's folder, if the base is there. One that does not parse (another version's) counts as absent:
/// the base is made again, of the same packages.
pub(super) fn read_record(folder: &Path) -> Result<Option<Record>, BaseError> {
    let bytes = read(&folder.join(FILE))?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Writes the record into a base's folder.
pub(super) fn write_record(folder: &Path, record: &Record) -> Result<(), BaseError> {
    write_json(&folder.join(FILE), record)
}

/// The lock in force, if one is. One that does not parse is an error: taken for absent, the base would be another one
/// without anybody having asked for it.
pub(super) fn read_current(data_directory: &Path, architecture: &str) -> Result<Option<Current>, BaseError> {
    let path = current_path(data_directory, architecture);
    let Some(bytes) = read(&path)? else {
        return Ok(None);
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| BaseError::CurrentInvalid {
        path,
        reason: error.to_string(),
    })
}

/// Puts a lock in force, and keeps its text.
pub(super) fn write_current(data_directory: &Path, lock: &Lock) -> Result<(), BaseError> {
    keep_lock(data_directory, lock)?;
    let current = Current {
        lock: lock.digest(),
        date: lock.date,
    };
    write_json(&current_path(data_directory, &lock.architecture), &current)
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

fn current_path(data_directory: &Path, architecture: &str) -> PathBuf {
    bases(data_directory).join(format!("{architecture}.{CURRENT}"))
}

fn lock_path(data_directory: &Path, digest: Digest) -> PathBuf {
    lock_folder(data_directory, digest).join("lock.toml")
}

/// At most [`BYTES_MAX`] bytes of a file, if it is there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, BaseError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(BaseError::file("read", path))?,
    };
    let mut bytes = Vec::new();
    let read = file.take(BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(BaseError::file("read", path))?;
    Ok(Some(bytes))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), BaseError> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::from);
    write(path, &text.map_err(BaseError::file("write", path))?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BaseError> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(BaseError::file("make", folder))?;
    write_atomically(path, bytes).map_err(BaseError::file("write", path))
}
