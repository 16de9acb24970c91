//! Runs a program as the user, with a bound on its time and output.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::sync_channel;
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
    let deadline = Instant::now() + timeout;
    let (stdin, stdout, input) = (child.stdin.take(), child.stdout.take(), input.to_vec());
    let (sender, output) = sync_channel(1);
    // Not joined: whatever the program leaves behind may hold its ends of the pipes for as long as it likes.
    thread::spawn(move || {
        // Whoever waits no longer does not care.
        let _unheard = sender.send(converse(stdin, stdout, &input));
    });
    if wait(&mut child, deadline, cancel)? {
        receive(&output, deadline, cancel)
    } else {
        Ok(None)
    }
}

fn converse(stdin: Option<ChildStdin>, stdout: Option<ChildStdout>, input: &[u8]) -> io::Result<Vec<u8>> {
    if let Some(mut stdin) = stdin {
        // A program that does not read its input says what it thinks of it by its exit status.
        let _unread = stdin.write_all(input);
    }
    let mut output = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut output)?;
    }
    Ok(output)
}

/// Waits, and kills what takes too long.
fn wait(child: &mut Child, deadline: Instant, cancel: &Cancel) -> io::Result<bool> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() > deadline || cancel.is_cancelled() {
            end(child);
            return Ok(false);
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// The output once it has ended; none if that takes too long.
fn receive(
    output: &Receiver<io::Result<Vec<u8>>>,
    deadline: Instant,
    cancel: &Cancel,
) -> io::Result<Option<Vec<u8>>> {
    loop {
        match output.recv_timeout(LOOK_INTERVAL) {
            Ok(output) => return output.map(Some),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if Instant::now() > deadline || cancel.is_cancelled() => {
                return Ok(None);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
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

    #[test]
    fn what_a_program_leaves_behind_is_not_waited_for() {
        // It ends well at once, while another holds its output, and its input, which is more than a pipe takes.
        let leaves = || {
            let mut leaves = command(&[], OsStr::new("sh"));
            leaves.args(["-c", "exec 3<&0; sleep 5 & exit 0"]);
            leaves
        };
        let (input, cancel) = (vec![b'x'; 1 << 20], Cancel::default());
        let timeout = Duration::from_millis(500);
        assert_eq!(run(leaves(), &input, timeout, &cancel).unwrap(), None);
        cancel.cancel();
        assert_eq!(
            run(leaves(), b"", Duration::from_secs(60), &cancel).unwrap(),
            None
        );
    }
}
