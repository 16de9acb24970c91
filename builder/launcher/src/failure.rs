//! Every way in which a start can fail, with the words and the exit codes of the reference launcher.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::choose::ChoiceError;
use crate::exec_d::ExecDError;
use crate::layers::LayersError;
use crate::lookup::LookupError;

/// Why the launcher ends without having become the process.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(
        "failed to get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version"
    )]
    NoPlatformApi,
    #[error("failed to parse platform API '{0}'")]
    UnreadablePlatformApi(String),
    #[error("failed to set platform API: platform API version '{0}' is incompatible with the lifecycle")]
    UnsupportedPlatformApi(String),
    #[error("failed to read metadata: open {}: {why}", path.display())]
    OpenMetadata { path: PathBuf, why: String },
    #[error("failed to read metadata: {}: {source}", path.display())]
    ParseMetadata { path: PathBuf, source: toml::de::Error },
    #[error("failed to parse buildpack API '{api}' for buildpack '{id}'")]
    UnreadableBuildpackApi { id: String, api: String },
    #[error(
        "failed to set API for buildpack '{id}': buildpack API version '{api}' is incompatible with the lifecycle"
    )]
    UnsupportedBuildpackApi { id: String, api: String },
    #[error("failed to launch: {0}")]
    Launch(#[from] LaunchError),
}

impl Failure {
    /// The exit code of the launcher (Platform spec, "Launch").
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::OpenMetadata { .. } | Self::ParseMetadata { .. } => 1,
            Self::NoPlatformApi | Self::UnreadablePlatformApi(_) | Self::UnsupportedPlatformApi(_) => 11,
            Self::UnreadableBuildpackApi { .. } | Self::UnsupportedBuildpackApi { .. } => 12,
            Self::Launch(_) => 82,
        }
    }
}

/// Why a process could not be started.
#[derive(Debug, Error)]
pub(crate) enum LaunchError {
    #[error("determine start command: {0}")]
    StartCommand(ChoiceError),
    #[error("change to app directory: chdir {}: {why}", path.display())]
    AppDir { path: PathBuf, why: String },
    #[error("modify env: {0}")]
    ModifyEnv(LayersError),
    #[error("exec.d: {0}")]
    ListExecD(LayersError),
    #[error("exec.d: {0}")]
    ExecD(ExecDError),
    #[error("find profiles: {0}")]
    FindProfiles(LayersError),
    #[error("no command provided for process type \"{0}\"")]
    NoCommand(String),
    #[error("process type '{process_type}' provided by unknown buildpack '{id}'")]
    UnknownBuildpack { process_type: String, id: String },
    #[error("path lookup: {0}")]
    PathLookup(LookupError),
    #[error("change directory: chdir {}: {why}", path.display())]
    WorkingDir { path: PathBuf, why: String },
    #[error("direct exec: {0}")]
    DirectExec(String),
    #[error("bash exec: {0}")]
    BashExec(String),
}

/// What the system said, in the form of the reference: lower case and without the number.
pub(crate) fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_speaks_in_lower_case() {
        assert_eq!(
            io_text(&io::Error::from_raw_os_error(2)),
            "no such file or directory"
        );
        assert_eq!(io_text(&io::Error::from_raw_os_error(8)), "exec format error");
        assert_eq!(io_text(&io::Error::other("Other")), "other");
    }
}
