//! Reads the files of an `env` folder through a job.

use std::path::Path;

use crate::buildpack::allowance::Allowance;
use crate::buildpack::environment::EnvFile;
use crate::sandbox::job::EntryKind;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// The longest value of a variable: more than a Linux program can be given.
const VALUE_BYTES_MAX: u64 = 128 << 10;
/// The most bytes of all files that are read for one buildpack: Linux gives a program less.
const VALUES_BYTES_MAX: u64 = 16 << 20;
/// The most files in one folder.
const FILES_MAX: usize = 10_000;

/// What the variables that one buildpack is given may come to.
pub fn values_allowance() -> Allowance {
    Allowance::new(VALUES_BYTES_MAX)
}

/// The files of `folder`; none if there is no such folder. Folders, and links to folders, are passed by; a link that
/// leads nowhere is an error.
pub fn read_env_files(
    job: &dyn Job,
    folder: &Path,
    allowance: &mut Allowance,
) -> Result<Vec<EnvFile>, JobError> {
    let mut files = Vec::new();
    for entry in job.list(folder, FILES_MAX)? {
        let path = folder.join(&entry.name);
        let is_folder = match entry.kind {
            EntryKind::Directory => true,
            EntryKind::Symlink => job.open_directory(&path).is_ok(),
            EntryKind::File | EntryKind::Other => false,
        };
        if is_folder {
            continue;
        }
        let contents = allowance
            .take(VALUE_BYTES_MAX, |limit| job.read_file(&path, limit))?
            .ok_or_else(|| JobError::File {
                action: "read",
                path: path.display().to_string(),
                why: "it leads nowhere".to_owned(),
            })?;
        files.push(EnvFile {
            name: entry.name,
            contents,
        });
    }
    Ok(files)
}
