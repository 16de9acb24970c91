//! `packhorse completions`: what a shell needs to complete commands and options.

use clap::CommandFactory as _;

use crate::cli::arguments::Arguments;
use crate::cli::arguments::about::CompletionsArguments;
use crate::cli::failure::CommandError;
use crate::cli::render;

/// Runs the command.
pub fn run(arguments: &CompletionsArguments) -> Result<u8, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "packhorse",
        &mut script,
    );
    render::result(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "packhorse", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Arguments::command().get_subcommands() {
                assert!(
                    script.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
        }
    }
}
