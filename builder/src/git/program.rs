//! Runs a program as the user, with a bound on its time and output.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::events::Cancel;

/// Bytes of a program's output that are read.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;
/// How often a waiting caller looks at the clock and the cancel token.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A command line behind the prefix that makes it the user's.
pub(super) fn command(user_command: &[OsString], program: &OsStr) -> Command {
    let (first, rest) = match user_command.split_first() {
        Some((first, rest)) => (first.as_os_str(), rest),
        None => (program, &[][..]),
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "git owns the user's ssh and credential helpers"
    )]
    let mut command = Command::new(first);
    if !user_command.is_empty() {
        command.args(rest).arg(program);
    }
    // Nothing of the folder we happen to be in may have a say.
    command.current_dir("/");
    command
}

/// Runs a command with `input` and gives what it wrote, or none if it failed, was too slow or was cancelled.
pub(super) fn run(
    mut command: Command,
    input: &[u8],
    timeout: Duration,
    cancel: &Cancel,
) -> io::Result<Option<Vec<u8>>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input says what it thinks of it by its exit status.
        let _unread = stdin.write_all(input);
    }
    let reader = child.stdout.take().map(|stdout| {
        thread::spawn(move || {
            let mut output = Vec::new();
            stdout
                .take(OUTPUT_BYTES_MAX)
                .read_to_end(&mut output)
                .map(|_| output)
        })
    });
    let ended_well = wait(&mut child, timeout, cancel)?;
    let Some(reader) = reader.filter(|_| ended_well) else {
        return Ok(None);
    };
    match reader.join() {
        Ok(output) => output.map(Some),
        Err(_) => Ok(None),
    }
}

/// Waits, and kills what takes too long.
fn wait(child: &mut Child, timeout: Duration, cancel: &Cancel) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if start.elapsed() > timeout || cancel.is_cancelled() {
            end(child);
            return Ok(false);
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Kills and reaps a child.
pub(super) fn end(child: &mut Child) {
    // Both fail only when it has ended already.
    let _ended = child.kill();
    let _reaped = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_bounded_and_prefixed() {
        let cancel = Cancel::default();
        let prefix = [OsString::from("env"), OsString::from("PREFIXED=yes")];
        let mut prefixed = command(&prefix, OsStr::new("sh"));
        prefixed.args(["-c", "cat; echo $PREFIXED"]);
        let output = run(prefixed, b"in ", Duration::from_secs(20), &cancel).unwrap();
        assert_eq!(output.as_deref(), Some(&b"in yes\n"[..]));
        let mut slow = command(&[], OsStr::new("sleep"));
        slow.arg("60");
        let start = Instant::now();
        assert_eq!(run(slow, b"", Duration::from_millis(50), &cancel).unwrap(), None);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
