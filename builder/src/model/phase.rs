//! The six phases of a build.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// The six phases of a build, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The source is fetched.
    Source,
    /// The base is made ready and the buildpacks are chosen.
    Detect,
    /// Cached layers are brought back.
    Restore,
    /// The buildpacks run.
    Build,
    /// The image is assembled.
    Export,
    /// The image is sent to its outputs.
    Publish,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Source => "source",
            Self::Detect => "detect",
            Self::Restore => "restore",
            Self::Build => "build",
            Self::Export => "export",
            Self::Publish => "publish",
        })
    }
}
