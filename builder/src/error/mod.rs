//! Why a build failed: one variant a phase, with its exit code and what to do about it.

pub mod hint;

use crate::buildpack::build;
use crate::events::Cancelled;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::failure::Kind;
use crate::phases::build::RunError;
use crate::phases::detect::DetectError;
use crate::phases::export::ExportError;
use crate::phases::publish::PublishError;
use crate::phases::restore::RestoreError;
use crate::phases::source::SourceError;

/// A build that failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The source could not be fetched, or an output may not be written.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No buildpacks could be chosen.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The last build's layers could not be brought back.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A buildpack failed.
    #[error(transparent)]
    Build(#[from] RunError),
    /// The image could not be assembled.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The image could not be sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Failure for BuildError {
    fn facts(&self) -> Facts {
        match self {
            Self::Source(error) => error.facts(),
            Self::Detect(error) => error.facts(),
            Self::Restore(error) => error.facts(),
            Self::Build(error) => error.facts(),
            Self::Export(error) => error.facts(),
            Self::Publish(error) => error.facts(),
            Self::Cancelled(error) => error.facts(),
        }
    }
}

impl BuildError {
    /// The process's exit code (DESIGN §9).
    pub fn exit_code(&self) -> u8 {
        let of_phase = match self {
            Self::Source(_) => 10,
            Self::Detect(_) => 22,
            Self::Restore(_) => 42,
            Self::Build(_) => 52,
            Self::Export(_) => 62,
            Self::Publish(_) => 65,
            Self::Cancelled(_) => 130,
        };
        exit_code(self.facts(), of_phase)
    }
}

impl BuildError {
    /// `id@version` of the buildpack whose `bin/build` said that it failed.
    pub fn failed_buildpack(&self) -> Option<&str> {
        match self {
            Self::Build(RunError::Buildpack(build::BuildError::Failed { buildpack, .. })) => Some(buildpack),
            _ => None,
        }
    }
}

/// The exit code of a failure; `otherwise` where its code has none of its own.
pub fn exit_code(facts: Facts, otherwise: u8) -> u8 {
    match (facts.code, facts.kind) {
        ("interrupted", _) => 130,
        _ if facts.temporary => 75,
        (_, Kind::Bug) => 70,
        ("reference_invalid" | "output_invalid", _) => 2,
        ("buildpack_api_unsupported", _) => 12,
        ("source_not_found", _) => 10,
        ("buildpack_missing", _) => 1,
        ("no_buildpack_detected", _) => 20,
        ("detect_errored", _) => 21,
        (
            "buildpack_failed"
            | "buildpack_offline"
            | "buildpack_timed_out"
            | "buildpack_idle"
            | "buildpack_processes_limit"
            | "buildpack_disk_limit"
            | "buildpack_out_of_memory"
            | "buildpack_output_limit",
            _,
        ) => 51,
        ("sandbox_forbidden", _) => 77,
        (code, _) if code.starts_with("push_") || code.starts_with("registry_") => 65,
        _ => otherwise,
    }
}

#[cfg(test)]
mod codes;
