//! What `build` takes to say what it may use up. Without it, `[limits]` of `packhorse.toml` says so.

use std::time::Duration;

use clap::Args;

use crate::cli::arguments::value::memory;
use crate::cli::arguments::value::positive_duration;
use crate::cli::arguments::value::processors;
use crate::cli::arguments::value::size;

/// Limits of a build.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitArguments {
    /// How long the build may take: 90s, 20m [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub timeout: Option<Duration>,

    /// How long a step may write nothing before it is ended [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub idle_timeout: Option<Duration>,

    /// How much memory the build may use: 512M, 4G [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<u64>,

    /// How many processes and threads the build may have at once [default: 32768]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(8..=4_194_304))]
    pub processes: Option<u64>,

    /// How many processors the build may use: 2, 0.5 [default: all]
    #[arg(long, value_name = "NUMBER", value_parser = processors)]
    pub cpus: Option<u64>,

    /// How much room on disk the build may take [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub disk: Option<u64>,

    /// How many files and folders the build may make [default: no limit]
    #[arg(long, value_name = "NUMBER")]
    pub disk_files: Option<u64>,

    /// How much output one step may write before it is ended [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub output_limit: Option<u64>,
}
