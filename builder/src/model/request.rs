//! What one build is asked to do.

use std::path::PathBuf;

use crate::model::limits::Limits;
use crate::model::output::Output;
use crate::model::secret::SearchWidth;
use crate::model::secret::Secret;
use crate::model::source::SourceSpec;
use crate::model::timestamp::Timestamp;

/// What one build is asked to do; nothing in it is read from the environment later.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Where the source code is.
    pub source: SourceSpec,
    /// Whether a git source's submodules are fetched too.
    pub submodules: bool,
    /// Whether `.git` stays in the workspace.
    pub keep_git: bool,
    /// Where the image goes; at least one.
    pub outputs: Vec<Output>,
    /// Buildpack folders named on the command line: they replace the builder's order by one group.
    pub buildpacks: Vec<PathBuf>,
    /// Variables for the buildpacks, as files of `/platform/env`.
    pub environment: Vec<(String, String)>,
    /// Secrets for build steps; in memory alone.
    pub secrets: Vec<Secret>,
    /// Where they are looked for.
    pub search_width: SearchWidth,
    /// Whether to build although nothing changed.
    pub force: bool,
    /// The image's `created`, if not derived from the source.
    pub created: Option<Timestamp>,
    /// What the build may use up.
    pub limits: Limits,
    /// Where `report.toml` and `report.json` go.
    pub report_directory: Option<PathBuf>,
}
