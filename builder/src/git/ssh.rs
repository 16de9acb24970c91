//! Git over the user's own ssh, run as git runs it, so that agents, `known_hosts` and `~/.ssh/config` work.

use std::ffi::OsString;
use std::io;
use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::ChildStderr;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use git2::transport::Service;
use git2::transport::SmartSubtransport;
use git2::transport::SmartSubtransportStream;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;

use crate::git::error::GitError;
use crate::git::program;
use crate::git::transport::Connection;
use crate::model::source::location::GitLocation;

/// Bytes of ssh's messages that an error shows.
const MESSAGE_BYTES_MAX: u64 = 4096;
/// How often a waiting read looks whether the build was cancelled.
const CANCEL_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The transport of one connection.
pub(super) struct Ssh {
    connection: Arc<Connection>,
}

impl Ssh {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }
}

impl SmartSubtransport for Ssh {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        match service {
            Service::UploadPackLs | Service::UploadPack => {}
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(git2::Error::from_str("packhorse does not push"));
            }
        }
        match Session::start(&self.connection) {
            Ok(session) => Ok(Box::new(session)),
            Err(error) => Err(git2::Error::from_str(&self.connection.fail(error))),
        }
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// A running ssh. It ends when this is dropped.
pub(super) struct Session {
    connection: Arc<Connection>,
    child: Child,
    /// None once somebody else writes to it.
    input: Option<ChildStdin>,
    output: ChildStdout,
    messages: Option<JoinHandle<String>>,
    heard: bool,
}

impl Session {
    pub(super) fn start(connection: &Arc<Connection>) -> Result<Self, GitError> {
        let settings = &connection.settings;
        settings
            .http
            .check_offline(&connection.location.to_string())
            .map_err(GitError::Http)?;
        let Some((ssh, options)) = settings.ssh_command.split_first() else {
            return Err(GitError::Program {
                program: "ssh".to_owned(),
                why: "no ssh command is set".to_owned(),
            });
        };
        let wrong = |why: String| GitError::Program {
            program: ssh.to_string_lossy().into_owned(),
            why,
        };
        let mut command = program::command(&settings.user_command, ssh);
        command.args(options).args(arguments(&connection.location));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| wrong(error.to_string()))?;
        let (Some(input), Some(output), Some(messages)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            program::end(&mut child);
            return Err(wrong("it has no pipes".to_owned()));
        };
        let messages = Some(thread::spawn(move || collect(messages)));
        Ok(Self {
            connection: Arc::clone(connection),
            child,
            input: Some(input),
            output,
            messages,
            heard: false,
        })
    }

    /// What is written to ssh, for a thread of its own; once.
    pub(super) fn take_input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// Waits for output; true when there is some or it ended.
    fn wait_for_output(&self) -> Result<(), GitError> {
        let start = Instant::now();
        loop {
            self.connection.check()?;
            let mut waiting = [PollFd::new(&self.output, PollFlags::IN)];
            match poll(&mut waiting, Some(&CANCEL_INTERVAL)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return Ok(()),
            }
            let silence: Duration = self.connection.settings.limits.silence;
            if start.elapsed() > silence {
                let why = format!("it was silent for {} seconds", silence.as_secs());
                return Err(GitError::Unreachable {
                    url: self.connection.location.to_string(),
                    why,
                });
            }
        }
    }

    fn input(&mut self) -> io::Result<&mut ChildStdin> {
        self.input
            .as_mut()
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// What it means that ssh ended before it said anything.
    fn ended_early(&mut self) -> GitError {
        program::end(&mut self.child);
        let messages = self
            .messages
            .take()
            .and_then(|messages| messages.join().ok())
            .unwrap_or_default();
        meaning(&self.connection.location, &messages)
    }
}

impl Read for Session {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(error) = self.wait_for_output() {
            return Err(io::Error::other(self.connection.fail(error)));
        }
        let count = self.output.read(buffer)?;
        if count == 0 && !self.heard {
            let error = self.ended_early();
            return Err(io::Error::other(self.connection.fail(error)));
        }
        self.heard = true;
        Ok(count)
    }
}

impl Write for Session {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input()?.flush()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        program::end(&mut self.child);
    }
}

/// What git passes to ssh. That host, user and path begin with no `-` was checked when they were parsed.
fn arguments(location: &GitLocation) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(port) = location.port() {
        arguments.extend(["-p".into(), port.to_string().into()]);
    }
    let host = location.host().trim_start_matches('[').trim_end_matches(']');
    let account = location.user().map(|user| format!("{user}@")).unwrap_or_default();
    // A home folder: `ssh://host/~user/path` is `~user/path` there.
    let path = location
        .path()
        .strip_prefix('/')
        .filter(|path| path.starts_with('~'))
        .unwrap_or(location.path());
    arguments.extend([
        "--".into(),
        format!("{account}{host}").into(),
        format!("git-upload-pack {}", quoted(path)).into(),
    ]);
    arguments
}

/// As git quotes for the remote's shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''").replace('!', r"'\!'"))
}

fn collect(messages: ChildStderr) -> String {
    let mut bytes = Vec::new();
    let mut messages = messages;
    // What cannot be read is not shown; what is too much is read and dropped, so that ssh never waits for us.
    let _partly = messages.by_ref().take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes);
    let _dropped = io::copy(&mut messages, &mut io::sink());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn meaning(location: &GitLocation, messages: &str) -> GitError {
    let url = location.to_string();
    let shown: Vec<&str> = messages
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let why = if shown.is_empty() {
        "ssh ended without a message".to_owned()
    } else {
        shown.join("; ")
    };
    let says = |texts: &[&str]| texts.iter().any(|text| messages.contains(text));
    if says(&[
        "Host key verification failed",
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
    ]) {
        GitError::Certificate { url, why }
    } else if says(&["Permission denied", "Too many authentication failures"]) {
        GitError::CredentialsNeeded { url, why }
    } else if says(&[
        "not appear to be a git repository",
        "not found",
        "does not exist",
        "access denied",
    ]) {
        GitError::NoRepository { url, why }
    } else {
        GitError::Unreachable { url, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_gets_what_git_would_give_it() {
        for (url, expected) in [
            (
                "git@forge.example:team/app.git",
                vec!["--", "git@forge.example", "git-upload-pack 'team/app.git'"],
            ),
            (
                "ssh://forge.example:2222/a%20b",
                vec!["-p", "2222", "--", "forge.example", "git-upload-pack '/a b'"],
            ),
            (
                "ssh://[::1]/~me/it's!",
                vec!["--", "::1", r"git-upload-pack '~me/it'\''s'\!''"],
            ),
        ] {
            assert_eq!(arguments(&GitLocation::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn what_ssh_says_is_told_apart() {
        use crate::model::failure::Failure as _;
        let location = GitLocation::parse("git@forge.example:app").unwrap();
        for (message, code) in [
            (
                "git@forge.example: Permission denied (publickey).",
                "source_credentials_needed",
            ),
            ("Host key verification failed.", "source_certificate"),
            (
                "fatal: 'app' does not appear to be a git repository",
                "source_not_found",
            ),
            (
                "ssh: connect to host forge.example port 22: Connection refused",
                "source_unreachable",
            ),
            ("", "source_unreachable"),
        ] {
            assert_eq!(meaning(&location, message).facts().code, code, "{message}");
        }
    }
}
