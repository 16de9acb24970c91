//! What every failure can say of itself: whose fault it is, whether trying again helps, and its stable code.

/// Whose fault a failure is. It picks the exit code and the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The source, the options or the buildpack must change.
    User,
    /// The machine, the network or a server must change.
    Platform,
    /// packhorse must change.
    Bug,
}

/// The facts of one failure, for exit codes, retries and `docs/errors.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whose fault it is.
    pub kind: Kind,
    /// Whether the same call may go through later without a change.
    pub temporary: bool,
    /// A short stable name, listed in `docs/errors.md`: `push_unauthorized`.
    pub code: &'static str,
}

impl Facts {
    /// A final failure that the user can mend.
    pub const fn user(code: &'static str) -> Self {
        Self {
            kind: Kind::User,
            temporary: false,
            code,
        }
    }

    /// A final failure of the machine, the network or a server.
    pub const fn platform(code: &'static str) -> Self {
        Self {
            kind: Kind::Platform,
            temporary: false,
            code,
        }
    }

    /// A failure of the machine, the network or a server that may pass by itself.
    pub const fn temporary(code: &'static str) -> Self {
        Self {
            kind: Kind::Platform,
            temporary: true,
            code,
        }
    }

    /// A failure that only a change of packhorse mends.
    pub const fn bug(code: &'static str) -> Self {
        Self {
            kind: Kind::Bug,
            temporary: false,
            code,
        }
    }
}

/// Implemented by every error enum of the library.
pub trait Failure: std::error::Error {
    /// Kind, temporary or final, and code of this failure.
    fn facts(&self) -> Facts;
}
