//! Why a sandbox could not be made, and what to do about it.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::overlay::merge::MergeError;

/// A sandbox that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The machine forbids what the sandbox needs.
    #[error("the sandbox needs what this machine forbids: {what}: {why}\nhint: {cure}")]
    Forbidden {
        /// What is forbidden.
        what: String,
        /// The kernel's words, or what was looked for.
        why: String,
        /// What to do.
        cure: String,
    },
    /// A step of starting the job failed.
    #[error("cannot start the sandbox: cannot {step}: {why}")]
    Start {
        /// What was tried.
        step: String,
        /// The kernel's words.
        why: String,
    },
    /// A step of starting the job found the disk full.
    #[error("cannot start the sandbox: cannot {step}: {why}")]
    DiskFull {
        /// What was tried.
        step: String,
        /// The kernel's words.
        why: String,
    },
    /// The job directory could not be made, locked or removed.
    #[error("cannot {action} the job directory `{}`: {source}", path.display())]
    Directory {
        /// What was tried.
        action: &'static str,
        /// Which directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another job, or somebody else, has the user of this one.
    #[error("cannot start the sandbox: without namespaces its user must be its own, and {why}")]
    Busy {
        /// Who has it.
        why: String,
    },
    /// A tree for the job could not be copied.
    #[error("cannot start the sandbox: {0}")]
    Copy(#[from] MergeError),
    /// What the caller asked for makes no sense.
    #[error("cannot start the sandbox: {0}")]
    Spec(String),
}

impl Failure for SandboxError {
    fn facts(&self) -> Facts {
        match self {
            Self::Forbidden { .. } => Facts::platform("sandbox_forbidden"),
            Self::Start { .. } => Facts::platform("sandbox_start"),
            Self::DiskFull { .. } => Facts::platform("disk_full"),
            Self::Directory { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::Copy(error) if error.source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::Directory { .. } | Self::Copy(_) => Facts::platform("sandbox_directory"),
            Self::Busy { .. } => Facts::temporary("sandbox_busy"),
            Self::Spec(_) => Facts::bug("sandbox_spec"),
        }
    }
}

/// For `map_err` after a call on a path of the job.
pub(crate) fn start_error_at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SandboxError {
    let path = path.to_owned();
    move |source| SandboxError::Directory { action, path, source }
}
