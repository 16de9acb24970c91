//! Runs one `exec.d` program: a program of a buildpack that sets variables at each start (Buildpack spec, "exec.d").

use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::IntoRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

use rustix::pipe::PipeFlags;
use thiserror::Error;

use crate::environment::Environment;
use crate::failure::io_text;

/// The descriptor on which the program writes its variables.
const OUTPUT_DESCRIPTOR: i32 = 3;

/// The most that it may write there, in bytes.
const OUTPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a program's variables could not be had.
#[derive(Debug, Error)]
pub(crate) enum ExecDError {
    #[error("failed to create pipe: {0}")]
    Pipe(String),
    #[error("failed to execute exec.d file at path '{}': {why}", path.display())]
    Execute { path: PathBuf, why: String },
    #[error("failed to read output from exec.d file at path '{}': {why}", path.display())]
    Read { path: PathBuf, why: String },
    #[error("failed to decode output from exec.d file at path '{}': toml: {why}", path.display())]
    Decode { path: PathBuf, why: String },
}

/// Runs the program in the current folder, with the environment, and sets there what it wrote.
pub(crate) fn run(path: &Path, environment: &mut Environment) -> Result<(), ExecDError> {
    let (output, status) = run_program(path, environment)?;
    if let Some(why) = failure_of(status) {
        return Err(ExecDError::Execute {
            path: path.to_owned(),
            why,
        });
    }
    let output = output.map_err(|source| ExecDError::Read {
        path: path.to_owned(),
        why: io_text(&source),
    })?;
    let variables = decode(&output).map_err(|why| ExecDError::Decode {
        path: path.to_owned(),
        why,
    })?;
    for (name, value) in variables {
        environment.set(name.into(), value.into());
    }
    Ok(())
}

/// Runs it to its end, whether its output could be read or not. A process that it leaves behind with the descriptor
/// open keeps the launcher waiting, as the reference does.
fn run_program(
    path: &Path,
    environment: &Environment,
) -> Result<(io::Result<Vec<u8>>, ExitStatus), ExecDError> {
    let execute = |source: io::Error| ExecDError::Execute {
        path: path.to_owned(),
        why: format!("fork/exec {}: {}", path.display(), io_text(&source)),
    };
    let (reader, writer) = open_pipe().map_err(|errno| ExecDError::Pipe(io_text(&errno.into())))?;

    let mut child = command(path, environment, &writer).spawn().map_err(execute)?;
    drop(writer);
    let output = read_output(reader);
    let status = child.wait().map_err(execute)?;
    Ok((output, status))
}

/// A pipe whose writing end is above the descriptor that it will have in the child, so that giving it that number
/// always makes a copy.
fn open_pipe() -> Result<(OwnedFd, OwnedFd), rustix::io::Errno> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let raised = rustix::io::fcntl_dupfd_cloexec(&writer, OUTPUT_DESCRIPTOR + 1)?;
    Ok((reader, raised))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, and this is where it starts others"
)]
#[expect(
    unsafe_code,
    reason = "the standard library has no safe way to give a child a descriptor by number"
)]
fn command(path: &Path, environment: &Environment, writer: &OwnedFd) -> Command {
    let writer = writer.as_raw_fd();
    let mut command = Command::new(path);
    command
        .stdin(Stdio::null())
        .env_clear()
        .envs(environment.variables());
    // SAFETY: the closure runs in the child between fork and exec. It calls only `dup2`, which is async-signal-safe,
    // and allocates nothing. `writer` is open there, since the parent keeps it until `spawn` is back. Descriptor 3
    // is in use in the parent (by the pipe's own reader, if by nothing else), so what is closed here is no
    // descriptor that the standard library opened for `spawn` itself.
    unsafe {
        command.pre_exec(move || {
            let borrowed = std::os::fd::BorrowedFd::borrow_raw(writer);
            let mut target = OwnedFd::from_raw_fd(OUTPUT_DESCRIPTOR);
            let result = rustix::io::dup2(borrowed, &mut target);
            let _stays_open = target.into_raw_fd();
            result.map_err(io::Error::from)
        });
    }
    command
}

fn read_output(reader: OwnedFd) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    std::fs::File::from(reader)
        .take(OUTPUT_BYTES_MAX + 1)
        .read_to_end(&mut output)?;
    if output.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it is longer than {OUTPUT_BYTES_MAX} bytes"
        )));
    }
    Ok(output)
}

fn failure_of(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit status {code}")),
        (None, signal) => Some(format!("signal: {}", signal.unwrap_or_default())),
    }
}

/// The variables in the output: TOML of nothing but texts.
fn decode(output: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let text = std::str::from_utf8(output).map_err(|error| error.to_string())?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.message().to_owned())?;
    let variables = table.into_iter().map(|(name, value)| match value {
        toml::Value::String(value) => Ok((name, value)),
        other => Err(format!(
            "the value of `{name}` should be a text but is of type {}",
            other.type_str()
        )),
    });
    variables.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_toml_of_texts() {
        assert_eq!(decode(b"").unwrap(), BTreeMap::new());
        let variables = decode(b"A = \"x\\\"y\"\nB = ''\n").unwrap();
        assert_eq!(
            variables,
            BTreeMap::from([("A".into(), "x\"y".into()), ("B".into(), String::new())])
        );
        for output in [
            "N = 1\n",
            "[table]\nA = 'b'\n",
            "B = true\n",
            "L = ['a']\n",
            "this is = = not toml\n",
        ] {
            assert!(decode(output.as_bytes()).is_err(), "{output}");
        }
        assert!(decode(b"A = '\xff'\n").is_err());
    }
}
