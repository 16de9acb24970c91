//! The digest of all that makes the program what it is, as far as `PACKHORSE_EMBEDDED_DIGEST` does not have it: part of
//! the build key, so that another program never answers from a receipt.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use sha2::Digest as _;
use sha2::Sha256;

/// Files and folders of the workspace that the program is made of.
pub(crate) const INPUTS: [&str; 6] = [
    "Cargo.lock",
    "Cargo.toml",
    "builder/Cargo.toml",
    "builder/data",
    "builder/spec",
    "builder/src",
];

/// The digest of the inputs below `workspace`, and of what the compiler says of itself.
pub(crate) fn program_digest(workspace: &Path, compiler: &[u8]) -> io::Result<[u8; 32]> {
    let mut waiting: Vec<PathBuf> = INPUTS.iter().map(|input| workspace.join(input)).collect();
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        } else {
            files.push(path);
        }
    }
    files.sort();
    let mut hasher = Sha256::new();
    hasher.update(Sha256::digest(compiler));
    for file in files {
        let name = file.strip_prefix(workspace).unwrap_or(&file);
        hasher.update(name.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(Sha256::digest(fs::read(&file)?));
    }
    Ok(hasher.finalize().into())
}
