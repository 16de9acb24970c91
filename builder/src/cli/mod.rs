//! The command line: one file a command, one that reads the environment, one that prints.

pub mod arguments;
pub mod variable;
pub mod setting;
pub mod config;
pub mod effective;
pub mod words;
pub mod render;
pub mod recorder;
pub mod tools;
pub mod failure;
pub mod network;
pub mod interrupt;
pub mod terminal;
pub mod limits;

pub mod base;
pub mod build;
pub mod cache;
pub mod completions;
pub mod config_command;
pub mod doctor;
pub mod inspect;
pub mod man;
pub mod plan;
pub mod report;
pub mod run;
pub mod secrets;
pub mod shell;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::parser::ValueSource;

use crate::cli::arguments::Arguments;
use crate::cli::arguments::Command;
use crate::cli::config::Config;
use crate::cli::config_command::Shown;
use crate::cli::failure::CommandError;
use crate::cli::render::Manner;
use crate::cli::setting::Origin;
use crate::cli::setting::Setting;
use crate::cli::variable::Variable;
use crate::git;
use crate::sandbox;

/// The whole program, but for the process itself.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // The program starts itself again for these; no user types them.
    match words.get(1).and_then(|word| word.to_str()) {
        Some("__monitor") => return exit_with(sandbox::monitor::main()),
        Some(git::isolation::ENTRY) => return exit_with(git::inside::main(&words[2..])),
        Some("__as-user") => return exit_with(sandbox::identity::as_user_main(&words[2..])),
        _ => {}
    }
    let matches = Arguments::command().get_matches_from(&words);
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let manner = Manner::of(arguments.progress, arguments.quiet);
    match run(arguments, &matches, manner, &words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            render::failure(manner, &error);
            ExitCode::from(error.exit_code)
        }
    }
}

fn run(
    arguments: Arguments,
    matches: &ArgMatches,
    manner: Manner,
    words: &[OsString],
) -> Result<u8, CommandError> {
    trace();
    let Arguments {
        command,
        home,
        sandbox,
        progress,
        quiet,
    } = arguments;
    // These two need no configuration, and must work where it is broken.
    match &command {
        Command::Completions(command) => return completions::run(command),
        Command::Man(command) => return man::run(command),
        _ => {}
    }
    let home = home.map(|value| typed(matches, "home", value, Variable::PackhorseHome));
    let sandbox = sandbox.map(|value| typed(matches, "sandbox", value, Variable::PackhorseSandbox));
    let config = Config::read(home, sandbox)?;
    let shown = Shown {
        progress: typed_or_default(matches, "progress", progress),
        quiet: typed_or_default(matches, "quiet", quiet),
    };
    match command {
        Command::Build(command) => {
            limits::enter_scope(&command.limits, &config, words);
            build::run(*command, &config, manner)
        }
        Command::Plan(command) => plan::run(command, &config, manner),
        Command::Run(command) => run::run(&command, &config),
        Command::Inspect(command) => inspect::run(&command, &config),
        Command::Base(command) => base::run(command, &config, manner),
        Command::Cache(command) => cache::run(&command, &config),
        Command::Doctor(command) => doctor::run(&command, &config),
        Command::Config(command) => config_command::run(&command, &config, &shown),
        Command::Completions(command) => completions::run(&command),
        Command::Man(command) => man::run(&command),
    }
}

/// A value of the command line, which clap may have taken from `variable`.
fn typed<T>(matches: &ArgMatches, name: &'static str, value: T, variable: Variable) -> Setting<T> {
    let origin = match matches.value_source(name) {
        Some(ValueSource::EnvVariable) => Origin::Variable(variable),
        _ => Origin::Flag(name),
    };
    Setting { value, origin }
}

/// A value of the command line that has a default and no variable.
fn typed_or_default<T>(matches: &ArgMatches, name: &'static str, value: T) -> Setting<T> {
    let origin = match matches.value_source(name) {
        Some(ValueSource::CommandLine) => Origin::Flag(name),
        _ => Origin::Default,
    };
    Setting { value, origin }
}

/// What goes wrong inside is shown on request: `RUST_LOG=packhorse=debug`.
fn trace() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

fn exit_with(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
