//! A step that failed, with everything still in its place, and who may look at it before it is cleared away.

use std::fmt;

use crate::sandbox::command::Command;
use crate::sandbox::job::Job;

/// A step that failed.
pub struct FailedStep<'a> {
    /// The sandbox, as the step left it.
    pub job: &'a dyn Job,
    /// What was run: surroundings for another command in its place.
    pub command: &'a Command,
    /// What failed and how, as the build's failure says it.
    pub how: String,
}

/// Who looks at a step that failed. The build goes on to fail when they have seen enough, whatever they did.
pub trait Visitor: fmt::Debug + Send + Sync {
    /// Looks at it.
    fn visit(&self, step: &FailedStep<'_>);
}
