//! What a launch did: its streams and its exit code, as recorded in a `run-N.txt`.

use std::fs;
use std::path::Path;

/// What a launch did.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The standard output.
    pub(crate) stdout: String,
    /// The standard error.
    pub(crate) stderr: String,
    /// The exit code.
    pub(crate) exit: i32,
}

/// Reads a `run-N.txt`.
pub(crate) fn read(path: &Path) -> Outcome {
    let text = fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("\n--- stdout\n").unwrap();
    let rest = format!("\n{rest}");
    let (stdout, rest) = rest.split_once("\n--- stderr").unwrap();
    let (stderr, exit) = rest.rsplit_once("\n--- exit ").unwrap();
    Outcome {
        stdout: stdout.trim_start_matches('\n').to_owned(),
        stderr: stderr.to_owned(),
        exit: exit.trim().parse().unwrap(),
    }
}

/// The lines that must be equal: the cause of a TOML error is worded by the parser, all before it is not. Where a shell
/// lists its own files, the far end of the pipe to `ls` is open until the shell comes to close it.
pub(crate) fn comparable(stdout: &str) -> Vec<String> {
    stdout
        .trim_matches('\n')
        .lines()
        .map(|line| match line.split_once(": toml: ") {
            Some((before, _)) => before.to_owned(),
            None if line.contains(" fds: ") => line.trim_end().trim_end_matches(" 5").to_owned(),
            None => line.to_owned(),
        })
        .collect()
}
