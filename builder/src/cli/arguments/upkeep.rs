//! What `base` and `cache` take: the commands on what packhorse keeps.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use crate::cli::arguments::value::duration;
use crate::cli::arguments::value::size;

/// What to do with the base.
#[derive(Debug, Subcommand)]
pub enum BaseCommand {
    /// Assemble both flavours now
    Create {
        /// Assemble exactly the versions of this lock file
        #[arg(long, value_name = "FILE")]
        lock: Option<PathBuf>,
    },
    /// Take the newest packages of the archive into the base
    Update,
    /// Show what the base is made of
    Inspect {
        /// Print the lock file itself
        #[arg(long)]
        lock: bool,
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to do with what is kept.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show what is kept and how large it is
    List {
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what was not used lately; never what is in use
    Prune {
        /// Remove what was not used for this long: 12h, 30d
        #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration)]
        older_than: Duration,
        /// Then remove the oldest until no more than this is left: 20G
        #[arg(long, value_name = "SIZE", value_parser = size)]
        keep: Option<u64>,
    },
}
