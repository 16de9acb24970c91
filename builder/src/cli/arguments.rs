//! What can be typed; the doc comments are the help.
#![expect(
    rustdoc::broken_intra_doc_links,
    reason = "the brackets are those of a help text"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;

use crate::model::rung::NoRung;
use crate::model::rung::Rung;

/// The heading of the options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// Source code in, a layered OCI image out: with Cloud Native Buildpacks, and without a daemon, root or Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "packhorse", version, max_term_width = 100, propagate_version = true)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,

    /// Where packhorse keeps what it keeps [default: ~/.local/share/packhorse]
    #[arg(
        long,
        env = "PACKHORSE_HOME",
        global = true,
        value_name = "DIRECTORY",
        hide_env_values = true,
        help_heading = EVERYWHERE
    )]
    pub home: Option<PathBuf>,

    /// The rung of the sandbox's ladder: `auto` for the strongest that this machine allows, or full, rootless, single-id,
    /// outer-proc, no-user-namespace
    #[arg(
        long,
        env = "PACKHORSE_SANDBOX",
        global = true,
        value_name = "RUNG",
        hide_env_values = true,
        value_parser = rung,
        help_heading = EVERYWHERE
    )]
    pub sandbox: Option<WantedRung>,

    /// How progress is shown
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = Progress::Auto,
        value_name = "HOW",
        help_heading = EVERYWHERE
    )]
    pub progress: Progress,

    /// Print only the result
    #[arg(long, short, global = true, help_heading = EVERYWHERE)]
    pub quiet: bool,
}

/// Which rung `--sandbox` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedRung {
    /// The strongest that there is.
    Auto,
    /// This one and no other.
    Exactly(Rung),
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Moving lines on a terminal, plain ones elsewhere
    Auto,
    /// Plain lines
    Plain,
    /// One JSON object a line, on standard output
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from source code
    Build(BuildArguments),
    /// Show which buildpacks would build a source, and why the others would not
    Plan(PlanArguments),
    /// Try an image in the sandbox
    Run(RunArguments),
    /// Show what is in an image
    Inspect(InspectArguments),
    /// Make or show the built-in Debian base
    #[command(subcommand)]
    Base(BaseCommand),
    /// Show or prune what is kept on this machine
    #[command(subcommand)]
    Cache(CacheCommand),
}

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

    /// How long the build may take: 90s, 20m, 1h
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = positive_duration)]
    pub timeout: Duration,

    /// How much memory the build may use: 512M, 4G [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<u64>,

    /// How much output one step may write before it is ended
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size)]
    pub output_limit: u64,

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

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// A name in the local store, or oci:DIRECTORY[:NAME]
    pub image: String,

    /// Publish a port of the image on this machine's loopback: [LOCAL:]PORT
    #[arg(long, short, value_name = "[LOCAL:]PORT")]
    pub publish: Vec<String>,

    /// A variable for the process: NAME=VALUE, or NAME alone for the value it has here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,

    /// The process type to start [default: the image's own]
    #[arg(long, value_name = "TYPE")]
    pub process: Option<String>,

    /// Arguments for the image's entrypoint
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// A name in the local store, oci:DIRECTORY[:NAME], or REGISTRY/APP:TAG
    pub image: String,

    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,

    /// A registry that may be spoken to without TLS (loopback always may)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
}

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

fn rung(text: &str) -> Result<WantedRung, NoRung> {
    if text == "auto" {
        Ok(WantedRung::Auto)
    } else {
        text.parse().map(WantedRung::Exactly)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let seconds_each = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(format!("`{unit}` is no unit of time: use s, m, h or d")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a duration is a whole number and a unit: 90s, 20m, 1h".to_owned())?;
    number
        .checked_mul(seconds_each)
        .map(Duration::from_secs)
        .ok_or_else(|| "too long".to_owned())
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|found| {
        if found.is_zero() {
            Err("it must be longer than nothing".to_owned())
        } else {
            Ok(found)
        }
    })
}

/// A build's own processes need some memory before anything runs.
fn memory(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 16 << 20;
    size(text).and_then(|found| {
        if found < LEAST {
            Err("it must be at least 16M".to_owned())
        } else {
            Ok(found)
        }
    })
}

fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return Err(format!("`{unit}` is no unit of size: use K, M, G or T")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a size is a whole number and a unit: 512M, 4G".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too large".to_owned())
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    /// The help of a subcommand as a terminal of 80 columns shows it.
    fn help(path: &[&str]) -> String {
        let mut command = Arguments::command().term_width(80);
        command.build();
        let mut found = &mut command;
        for name in path {
            found = found.find_subcommand_mut(name).unwrap();
        }
        let name = ["packhorse", path.join(" ").as_str()].join(" ");
        let mut found = found.clone().term_width(80).bin_name(name.trim_end());
        found.render_long_help().to_string()
    }

    #[test]
    fn the_help_reads_well_at_80_columns() {
        let paths: [&[&str]; 11] = [
            &[],
            &["build"],
            &["plan"],
            &["run"],
            &["inspect"],
            &["base"],
            &["base", "create"],
            &["base", "inspect"],
            &["cache"],
            &["cache", "list"],
            &["cache", "prune"],
        ];
        for path in paths {
            let text = help(path);
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(longest <= 80, "{path:?}: a line has {longest} columns\n{text}");
            insta::assert_snapshot!(
                format!("help {}", path.join(" ")).trim_end().replace(' ', "_"),
                text
            );
        }
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("20m"), Ok(Duration::from_secs(1200)));
        assert!(
            duration("1w").is_err() && duration("m").is_err() && duration("99999999999999999999s").is_err()
        );
        assert_eq!(size("4G"), Ok(4 << 30));
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert!(size("1X").is_err() && size("").is_err() && size("99999999T").is_err());
    }
}
