//! What `build` and `plan` take.

use std::path::PathBuf;

use clap::Args;

use crate::cli::arguments::limits::LimitArguments;
use crate::cli::arguments::network::NetworkArguments;

/// Where a source is and how it is read.
#[derive(Debug, Args)]
pub struct SourceArguments {
    /// A directory, or a git URL with `#REVISION[:SUBDIRECTORY]`
    #[arg(default_value = ".")]
    pub source: String,

    /// Fetch the submodules of a git source too
    #[arg(long)]
    pub submodules: bool,

    /// A buildpack's directory, in place of the built-in order; several make one group
    #[arg(long, short, value_name = "DIRECTORY")]
    pub buildpack: Vec<PathBuf>,

    /// A variable for the buildpacks: NAME=VALUE, or NAME alone for the value it has here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
}

/// Arguments of `build`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
pub struct BuildArguments {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help's heading")]
    pub source: SourceArguments,

    /// The image's name: REGISTRY/APP:TAG
    #[arg(long, short, value_name = "REFERENCE")]
    pub tag: Vec<String>,

    /// Where the image goes: `registry` (default with --tag) or `oci:DIRECTORY`; without --tag and --output, the local
    /// store
    #[arg(long, short, value_name = "OUTPUT")]
    pub output: Vec<String>,

    /// A secret for build steps, as a service binding: from the variable NAME, a file, or another variable. `@BUILDPACK`
    /// gives it to that one alone
    #[arg(long, value_name = "NAME[@BUILDPACK][=FILE|=env:VARIABLE]")]
    pub secret: Vec<String>,

    /// A secret for one buildpack's build step, as the variable NAME
    #[arg(long, value_name = "NAME@BUILDPACK[=FILE|=env:VARIABLE]")]
    pub secret_env: Vec<String>,

    /// Search for secrets in layers that only the cache keeps, too
    #[arg(long)]
    pub check_secrets: bool,

    /// Open a shell in the sandbox of a buildpack's step that fails; leaving it ends the build
    #[arg(long)]
    pub shell_on_failure: bool,

    /// Build even if nothing changed
    #[arg(long)]
    pub force: bool,

    /// Keep the `.git` of a source directory in the workspace
    #[arg(long)]
    pub keep_git: bool,

    /// The image's time of creation, in seconds since 1970 [default: the commit's time, else 1980]
    #[arg(
        long,
        env = "SOURCE_DATE_EPOCH",
        value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..=253_402_300_799),
        hide_env_values = true
    )]
    pub creation_time: Option<i64>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help's heading")]
    pub limits: LimitArguments,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help's heading")]
    pub network: NetworkArguments,

    /// A registry that may be spoken to without TLS (loopback always may)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,

    /// Where report.toml and report.json go
    #[arg(long, value_name = "DIRECTORY")]
    pub report_output_dir: Option<PathBuf>,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help's heading")]
    pub source: SourceArguments,

    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
}
