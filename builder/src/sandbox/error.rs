//! Why a sandbox could not be made, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::model::failure::Facts;
use crate::model::failure::Failure;

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
            Self::Directory { .. } => Facts::platform("sandbox_directory"),
            Self::Spec(_) => Facts::bug("sandbox_spec"),
        }
    }
}
