//! What git asks of whoever can run it in a sandbox. Not: how that is done, which `git_job` knows.

use std::fmt;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::events::Cancel;
use crate::model::failure::Facts;

/// The word by which packhorse starts itself inside a job; no user types it.
pub const ENTRY: &str = "__git";
/// Where the mirror is inside a job.
pub const MIRROR: &str = "/mirror";
/// Where the tree of a checkout is inside a job.
pub const TREE: &str = "/workspace";
/// The port of a job's own loopback at which the worker takes its connections.
pub const ENDPOINT_PORT: u16 = 80;

/// Runs git's work in jobs.
pub trait Isolation: fmt::Debug + Send + Sync {
    /// Runs `packhorse __git TASK` in a job of its own, to its end. Every connection to [`ENDPOINT_PORT`] is handed to
    /// `endpoint`, from a thread of its own; the job reaches nothing else. Its standard output goes to `said` as it comes.
    fn run(
        &self,
        work: &Work<'_>,
        endpoint: Option<&dyn Endpoint>,
        said: &(dyn Fn(Channel, &[u8]) + Sync),
        cancel: &Cancel,
    ) -> Result<Ended, IsolationError>;

    /// The number on disk of whom a job runs as: what it is to read and write must be theirs.
    fn owner(&self) -> u32;
}

/// Takes a job's connections.
pub trait Endpoint: Sync {
    /// Serves one connection to its end.
    fn serve(&self, connection: TcpStream);

    /// Ends all that is served, for the job has ended.
    fn stop(&self);
}

/// One job.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// What it is to do, as its one argument.
    pub task: &'a str,
    /// The bare repository that appears at [`MIRROR`].
    pub mirror: &'a Path,
    /// Whether it may write to it.
    pub writes_mirror: bool,
    /// The folder that appears at [`TREE`] for writing; none: an empty one.
    pub tree: Option<&'a Path>,
    /// Its wall clock.
    pub timeout: Duration,
    /// Memory of all its processes together, in bytes.
    pub memory_bytes_max: u64,
}

/// Where a job wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Its standard output.
    Output,
    /// Its standard error.
    Messages,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The wall clock ended it.
    TimedOut,
    /// The kernel ended it for the memory that it used.
    OutOfMemory,
    /// It wrote too much to its output.
    TooMuchOutput,
    /// The program could not be started; the kernel's words.
    NotStarted(String),
    /// The build was cancelled.
    Cancelled,
}

/// Why there was no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IsolationError {
    /// The sandbox's own message.
    pub message: String,
    /// Its facts.
    pub facts: Facts,
}
