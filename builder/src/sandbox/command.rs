//! One command of a job, and every way in which it can end.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::limit_reached::LimitReached;

/// Whom a command runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunAs {
    /// The job's user, without capabilities.
    User,
    /// Root of the job, with what it takes to change the image's files; only where the job has a range of ids.
    Root,
}

/// A program to run inside a job. The environment starts empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What to call it in messages: `packhorse/nodejs@0.1.0 bin/build`.
    pub name: String,
    /// The program, an absolute path inside the job, and its arguments.
    pub arguments: Vec<OsString>,
    /// The whole environment; nothing is added but the CA variables of the job.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts; an absolute path inside the job.
    pub working_directory: PathBuf,
    /// Whom it runs as.
    pub run_as: RunAs,
    /// Its own wall clock beside the job's.
    pub timeout: Option<Duration>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It exited with a code; 0 is success.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It was ended, or failed, because it had used up what it may.
    OverLimit(LimitReached),
    /// The build was cancelled.
    Cancelled,
    /// The program could not be started.
    NotStarted {
        /// Why: the kernel's words.
        why: String,
    },
}
