//! Lays the source's files out for the job: a checkout, or a copy that shares its blocks where the file system can.

use std::fs;
use std::os::unix::fs::lchown;
use std::path::Path;

use crate::git::checkout::Submodules;
use crate::model::request::BuildRequest;
use crate::phases::detect::DetectError;
use crate::phases::handover::Origin;
use crate::phases::handover::Tools;
use crate::store::copy::CopyRules;
use crate::store::copy::copy_directory;

/// The most files, folders and links of a source folder.
const ENTRIES_MAX: u64 = 2_000_000;
/// The most bytes of a source folder.
const BYTES_MAX: u64 = 64 << 30;

/// Lays out the source at `destination`, all of it owned by `owner`.
pub(super) fn lay_out(
    origin: &Origin,
    destination: &Path,
    owner: u32,
    request: &BuildRequest,
    tools: &Tools<'_>,
) -> Result<(), DetectError> {
    match origin {
        Origin::Directory { path, leave_out } => {
            let rules = CopyRules {
                leave_out,
                owner,
                entries_max: ENTRIES_MAX,
                bytes_max: BYTES_MAX,
                stop: tools.cancel.flag(),
            };
            copy_directory(path, destination, rules)?;
        }
        Origin::Git(resolved) => {
            let submodules = if request.submodules {
                Submodules::Fetch
            } else {
                Submodules::Skip
            };
            // Git's client blocks and must not see the runtime, so it gets a thread of its own.
            std::thread::scope(|scope| {
                let checkout = || {
                    tools.git.checkout(
                        resolved,
                        destination,
                        submodules,
                        tools.watcher.as_ref(),
                        tools.cancel,
                    )
                };
                scope
                    .spawn(checkout)
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?;
            give(destination, owner)?;
        }
    }
    Ok(())
}

/// Gives a whole tree to `owner`.
fn give(path: &Path, owner: u32) -> Result<(), DetectError> {
    let failed = |source| DetectError::Prepare {
        path: path.to_owned(),
        source,
    };
    lchown(path, Some(owner), Some(owner)).map_err(failed)?;
    if fs::symlink_metadata(path).map_err(failed)?.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            give(&entry.map_err(failed)?.path(), owner)?;
        }
    }
    Ok(())
}
