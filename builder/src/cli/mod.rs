//! The command line: one file a command, one that reads the environment, one that prints.

pub mod arguments;
pub mod config;
pub mod words;
pub mod render;
pub mod recorder;
pub mod tools;
pub mod failure;
pub mod interrupt;

pub mod base;
pub mod build;
pub mod cache;
pub mod inspect;
pub mod plan;
pub mod report;
pub mod run;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::arguments::Arguments;
use crate::cli::arguments::Command;
use crate::cli::config::Config;
use crate::cli::failure::CommandError;
use crate::cli::render::Manner;
use crate::sandbox;

/// The whole program, but for the process itself.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // The program starts itself again for these; no user types them.
    match words.get(1).and_then(|word| word.to_str()) {
        Some("__monitor") => return exit_with(sandbox::monitor::main()),
        Some("__as-user") => return exit_with(sandbox::identity::as_user_main(&words[2..])),
        _ => {}
    }
    let arguments = Arguments::parse_from(words);
    let manner = Manner::of(arguments.progress, arguments.quiet);
    match run(arguments, manner) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            render::failure(manner, &error);
            ExitCode::from(error.exit_code)
        }
    }
}

fn run(arguments: Arguments, manner: Manner) -> Result<u8, CommandError> {
    trace();
    let config = Config::read(arguments.home.as_deref(), arguments.sandbox)?;
    match arguments.command {
        Command::Build(command) => build::run(command, &config, manner),
        Command::Plan(command) => plan::run(command, &config, manner),
        Command::Run(command) => run::run(&command, &config),
        Command::Inspect(command) => inspect::run(&command, &config),
        Command::Base(command) => base::run(command, &config, manner),
        Command::Cache(command) => cache::run(&command, &config),
    }
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
