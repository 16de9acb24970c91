//! Parses the command line, runs one command, and gives its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    packhorse::cli::main()
}
