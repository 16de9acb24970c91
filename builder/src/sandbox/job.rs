//! What the engine may ask of a running job, whatever backend runs it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::events::Stream;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::sandbox::attachment::Attachment;
use crate::sandbox::command::Command;
use crate::sandbox::command::Exit;

/// What a name inside the job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// One name in a folder of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without the folder.
    pub name: OsString,
    /// What it is; links are not followed.
    pub kind: EntryKind,
}

/// Takes a command's output as it comes. Called from the thread that waits for the command.
pub type Output<'a> = &'a (dyn Fn(Stream, &[u8]) + Sync);

/// A running job: one sandbox for a whole build, its steps as commands. Blocking; may be called from several
/// threads at once. Dropping it kills everything inside and removes its directory.
///
/// Paths are absolute inside the job. The file calls act as the job's user and resolve inside the job's root, so a
/// link that a buildpack made leads nowhere outside. Reading calls follow links (within the root); `list` names them.
pub trait Job: Send + Sync {
    /// Runs a command to its end. Output over the limit is dropped with a note.
    fn run(&self, command: &Command, output: Output<'_>) -> Result<Exit, JobError>;

    /// Runs a command that a person tries, attached to more than its outputs.
    fn run_attached(
        &self,
        command: &Command,
        attachment: &Attachment<'_>,
        output: Output<'_>,
    ) -> Result<Exit, JobError>;

    /// Kills every process that a step has left.
    fn sweep(&self) -> Result<(), JobError>;

    /// Mounts the layers state at `/layers`; before that it is an empty folder.
    fn attach_layers(&self) -> Result<(), JobError>;

    /// Shows files below `folder`, whose paths are relative to it: on a mount of memory that holds nothing else, 0400 and
    /// the job's user's. An error where nothing can be mounted.
    fn show_secrets(&self, folder: &Path, files: &[(&Path, &[u8])]) -> Result<(), JobError>;

    /// Takes them away for good. Nobody may have them open any more: sweep first.
    fn hide_secrets(&self, folder: &Path) -> Result<(), JobError>;

    /// A regular file's bytes, none if there is no such file. More than `size_bytes_max` is an error, and so is a file
    /// that is not regular.
    fn read_file(&self, path: &Path, size_bytes_max: u64) -> Result<Option<Vec<u8>>, JobError>;

    /// The names in a folder in byte order; empty if there is no such folder. At most `entries_max`.
    fn list(&self, path: &Path, entries_max: usize) -> Result<Vec<Entry>, JobError>;

    /// Writes a file with `mode` (permission bits), replacing what is there.
    fn write_file(&self, path: &Path, contents: &[u8], mode: u32) -> Result<(), JobError>;

    /// Makes a folder and its parents, mode 0755; an existing one is left as it is.
    fn make_directory(&self, path: &Path) -> Result<(), JobError>;

    /// Renames within one folder.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), JobError>;

    /// Removes a file or a whole tree; nothing there is no error.
    fn remove(&self, path: &Path) -> Result<(), JobError>;

    /// A folder of the job, open for reading by the exporter: entries below it are seen with the job's view of the
    /// layers. Use only `openat2` with `RESOLVE_BENEATH` below it.
    fn open_directory(&self, path: &Path) -> Result<OwnedFd, JobError>;
}

/// A call to a job that failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A file call failed.
    #[error("cannot {action} `{path}` in the sandbox: {why}")]
    File {
        /// What was tried: `read`, `write`, `remove`, …
        action: &'static str,
        /// The path inside the job.
        path: String,
        /// The kernel's words, or the limit that was passed.
        why: String,
    },
    /// The job is gone.
    #[error("the sandbox ended while `{during}`: {why}")]
    Ended {
        /// What was under way.
        during: String,
        /// What is known of the cause.
        why: String,
    },
    /// Secrets cannot be shown, or not be taken away.
    #[error("the sandbox cannot give secrets to a build step: {why}")]
    Secrets {
        /// What was tried, and the kernel's words.
        why: String,
    },
    /// The build was cancelled.
    #[error("interrupted")]
    Cancelled,
}

impl Failure for JobError {
    fn facts(&self) -> Facts {
        match self {
            Self::File { .. } => Facts::user("sandbox_file"),
            Self::Ended { .. } => Facts::platform("sandbox_ended"),
            Self::Secrets { .. } => Facts::platform("sandbox_secrets"),
            Self::Cancelled => Facts::user("interrupted"),
        }
    }
}
