//! An error of one step of making a sandbox: it names the step and the kernel's words, and can cross a socket.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// The step in which the kernel says how many namespaces there may be.
pub(crate) const MAKE_NAMESPACES: &str = "make the namespaces";

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepError {
    /// What was tried, with the path: `mount /proc`.
    pub(crate) step: String,
    /// The kernel's words.
    pub(crate) why: String,
    /// The error number, if the kernel gave one.
    pub(crate) number: Option<i32>,
}

impl fmt::Display for StepError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {}: {}", self.step, self.why)
    }
}

/// Names the step that an I/O call belongs to.
pub(crate) trait Step<T> {
    /// The value, or the error with what was tried.
    fn step(self, step: impl FnOnce() -> String) -> Result<T, StepError>;
}

impl<T> Step<T> for std::io::Result<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(|source| StepError {
            step: step(),
            why: source.to_string(),
            number: source.raw_os_error(),
        })
    }
}

impl<T> Step<T> for rustix::io::Result<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(std::io::Error::from).step(step)
    }
}
