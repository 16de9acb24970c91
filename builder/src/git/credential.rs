//! Credentials for HTTP from the user's own git: `git credential fill`, `approve` and `reject` (gitcredentials(7)).

use std::ffi::OsStr;
use std::fmt;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::events::Cancel;
use crate::git::program;
use crate::git::settings::Settings;
use crate::model::source::location::GitLocation;
use crate::model::source::location::Scheme;

/// A user and a password. Its `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) user: String,
    pub(super) password: String,
}

impl Credential {
    /// The user and password that stand in a URL, if both do.
    pub(super) fn of(location: &GitLocation) -> Option<Self> {
        let user = location.user()?.to_owned();
        let password = location.password()?.to_owned();
        Some(Self { user, password })
    }

    /// A user alone in a URL, which may be a token: the forges take one with an empty password.
    pub(super) fn token(location: &GitLocation) -> Option<Self> {
        let user = location
            .user()
            .filter(|_| location.password().is_none())?
            .to_owned();
        Some(Self {
            user,
            password: String::new(),
        })
    }

    /// The `Authorization` header.
    pub(super) fn header(&self) -> String {
        format!(
            "Basic {}",
            STANDARD.encode(format!("{}:{}", self.user, self.password))
        )
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credential(…)")
    }
}

/// Asks the user's credential helpers; never on the terminal.
pub(super) fn fill(settings: &Settings, location: &GitLocation, cancel: &Cancel) -> Option<Credential> {
    let answer = ask(settings, "fill", &description(location, None), cancel)?;
    let value = |name: &str| {
        let lines = answer.lines().filter_map(|line| line.split_once('='));
        lines
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
            .next_back()
    };
    let credential = Credential {
        user: value("username")?,
        password: value("password")?,
    };
    // A helper may answer for another host or protocol: that would be an answer to another question.
    let is_ours = value("host").is_none_or(|host| host == authority(location))
        && value("protocol").is_none_or(|protocol| protocol == scheme(location));
    Some(credential).filter(|_| is_ours)
}

/// Tells the helpers that a credential of theirs was good, so that they may keep it.
pub(super) fn approve(settings: &Settings, location: &GitLocation, credential: &Credential, cancel: &Cancel) {
    let _kept = ask(
        settings,
        "approve",
        &description(location, Some(credential)),
        cancel,
    );
}

/// Tells the helpers that a credential of theirs was refused, so that they forget it.
pub(super) fn reject(settings: &Settings, location: &GitLocation, credential: &Credential, cancel: &Cancel) {
    let _forgotten = ask(
        settings,
        "reject",
        &description(location, Some(credential)),
        cancel,
    );
}

fn ask(settings: &Settings, operation: &str, input: &str, cancel: &Cancel) -> Option<String> {
    let mut command = program::command(&settings.user_command, &settings.git_program);
    command.args([OsStr::new("credential"), OsStr::new(operation)]);
    // An empty GIT_ASKPASS keeps git from core.askPass and SSH_ASKPASS too.
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "");
    let output = program::run(
        command,
        input.as_bytes(),
        settings.limits.credential_timeout,
        cancel,
    );
    match output {
        Ok(output) => output.and_then(|output| String::from_utf8(output).ok()),
        Err(error) => {
            tracing::debug!(%error, "git's credential helpers cannot be asked");
            None
        }
    }
}

/// The key=value lines of gitcredentials(7). A location holds no line break, so no line can be smuggled in.
fn description(location: &GitLocation, credential: Option<&Credential>) -> String {
    let mut text = format!("protocol={}\nhost={}\n", scheme(location), authority(location));
    let path = location.path().trim_start_matches('/');
    let mut line = |key: &str, value: &str| {
        if !value.contains(['\n', '\r', '\0']) {
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "{key}={value}");
        }
    };
    line("path", path);
    match (credential, location.user()) {
        (Some(credential), _) => {
            line("username", &credential.user);
            line("password", &credential.password);
        }
        (None, Some(user)) => line("username", user),
        (None, None) => {}
    }
    text.push('\n');
    text
}

fn scheme(location: &GitLocation) -> &'static str {
    if location.scheme() == Scheme::Http {
        "http"
    } else {
        "https"
    }
}

fn authority(location: &GitLocation) -> String {
    match location.port() {
        Some(port) => format!("{}:{port}", location.host()),
        None => location.host().to_owned(),
    }
}
