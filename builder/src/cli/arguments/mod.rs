//! What can be typed; the doc comments are the help.

pub mod about;
pub mod build;
pub mod image;
pub mod limits;
pub mod network;
pub mod upkeep;

pub(in crate::cli) mod value;

use std::path::PathBuf;

use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;

use crate::cli::arguments::about::CompletionsArguments;
use crate::cli::arguments::about::ConfigArguments;
use crate::cli::arguments::about::DoctorArguments;
use crate::cli::arguments::about::ManArguments;
use crate::cli::arguments::build::BuildArguments;
use crate::cli::arguments::build::PlanArguments;
use crate::cli::arguments::image::InspectArguments;
use crate::cli::arguments::image::RunArguments;
use crate::cli::arguments::upkeep::BaseCommand;
use crate::cli::arguments::upkeep::CacheCommand;
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
    /// outer-proc, no-overlay, no-user-namespace, chroot
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
    Build(Box<BuildArguments>),
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
    /// Show what this machine allows, what is missing, and how to get it
    Doctor(DoctorArguments),
    /// Show every setting that is in force, and where it comes from
    Config(ConfigArguments),
    /// Print the completions of a shell
    Completions(CompletionsArguments),
    /// Print the manual
    Man(ManArguments),
}

fn rung(text: &str) -> Result<WantedRung, NoRung> {
    if text == "auto" {
        Ok(WantedRung::Auto)
    } else {
        text.parse().map(WantedRung::Exactly)
    }
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
        let paths: [&[&str]; 15] = [
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
            &["doctor"],
            &["config"],
            &["completions"],
            &["man"],
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
}
