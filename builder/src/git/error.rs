//! How fetching source code can fail.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use crate::events::Cancelled;
use crate::http::error::HttpError;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::source::SourceError;

/// Git could not do what was asked. URLs are without credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// The remote does not answer.
    #[error("cannot reach {url}: {why}")]
    Unreachable {
        /// The repository.
        url: String,
        /// Why.
        why: String,
    },
    /// The remote's certificate is not trusted.
    #[error("cannot trust the server of {url}: {why}")]
    Certificate {
        /// The repository.
        url: String,
        /// Why.
        why: String,
    },
    /// The remote wants credentials, or others.
    #[error("{url} wants credentials: {why}")]
    CredentialsNeeded {
        /// The repository.
        url: String,
        /// What was tried.
        why: String,
    },
    /// There is no such repository, or none that these credentials may see.
    #[error("{url} is not a git repository, or not one that may be read: {why}")]
    NoRepository {
        /// The repository.
        url: String,
        /// What the remote said.
        why: String,
    },
    /// Plain HTTP to another machine.
    #[error("{url} would be fetched without TLS, so anyone on the way could change it")]
    PlainHttp {
        /// The repository.
        url: String,
    },
    /// The remote has no such branch, tag or commit.
    #[error("{url} has no branch, tag or commit `{revision}`{}", list_near(.near))]
    RevisionNotFound {
        /// The repository.
        url: String,
        /// What was asked for.
        revision: String,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// Several commits begin with the same digits.
    #[error("several objects of {url} begin with `{revision}`; give more digits")]
    RevisionAmbiguous {
        /// The repository.
        url: String,
        /// What was asked for.
        revision: String,
    },
    /// The commit has no such folder.
    #[error("{url} has no folder `{subdirectory}` at {commit}")]
    SubdirectoryNotFound {
        /// The repository.
        url: String,
        /// What was asked for.
        subdirectory: String,
        /// Where it was looked for.
        commit: String,
    },
    /// A limit was reached.
    #[error("{url} is too large: more than {limit} {unit}")]
    TooLarge {
        /// The repository.
        url: String,
        /// The limit.
        limit: u64,
        /// Of what.
        unit: Cow<'static, str>,
    },
    /// A name in a tree that no file system may get.
    #[error("{url} has an entry that cannot be checked out, `{path}`: {why}")]
    Entry {
        /// The repository.
        url: String,
        /// Where in the tree.
        path: String,
        /// What is wrong with it.
        why: Cow<'static, str>,
    },
    /// A submodule that is not fetched.
    #[error("the submodule `{path}` ({url}) is not fetched: {why}")]
    Submodule {
        /// Where in the tree.
        path: String,
        /// Its repository.
        url: String,
        /// Why not.
        why: String,
    },
    /// A URL that the source names.
    #[error("the submodule `{path}` has no usable URL: {source}")]
    SubmoduleUrl {
        /// Where in the tree.
        path: String,
        /// What is wrong with it.
        source: SourceError,
    },
    /// A program of the user.
    #[error("cannot run `{program}`: {why}")]
    Program {
        /// Its name.
        program: String,
        /// Why.
        why: String,
    },
    /// The HTTP client's settings.
    #[error(transparent)]
    Http(HttpError),
    /// libgit2 failed.
    #[error("cannot {doing} {url}: {source}")]
    Library {
        /// `read`, `fetch`, …
        doing: Cow<'static, str>,
        /// The repository or mirror.
        url: String,
        /// What libgit2 said.
        source: git2::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// `write`, `lock`, …
        doing: Cow<'static, str>,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The job that reads what the remote sends did not end well.
    #[error("the sandboxed git that reads {url} {why}")]
    Job {
        /// The repository.
        url: String,
        /// What became of it.
        why: String,
    },
    /// That job could not be made: what the sandbox says of it.
    #[error("{message}")]
    Sandbox {
        /// Its message.
        message: String,
        /// Its facts.
        facts: Facts,
    },
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl GitError {
    /// What an error of an HTTP request to `url` means for a fetch.
    pub(super) fn from_http(url: &str, error: HttpError) -> Self {
        let url = url.to_owned();
        match error {
            HttpError::Certificate { reason: why, .. } => Self::Certificate { url, why },
            HttpError::Status {
                status: status @ (401 | 407),
                ..
            } => Self::CredentialsNeeded {
                url,
                why: format!("it answered with status {status}"),
            },
            HttpError::Status {
                status: status @ (403 | 404 | 410),
                ..
            } => Self::NoRepository {
                url,
                why: format!("it answered with status {status}"),
            },
            HttpError::NameUnknown { reason: why, .. } | HttpError::Unreachable { reason: why, .. } => {
                Self::Unreachable { url, why }
            }
            HttpError::Timeout { .. } => Self::Unreachable {
                url,
                why: "it did not answer in time".to_owned(),
            },
            HttpError::Redirect { reason: why, .. } => Self::Unreachable { url, why },
            HttpError::Status { status, .. } => Self::Unreachable {
                url,
                why: format!("it answered with status {status}"),
            },
            HttpError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Http(error),
        }
    }
}

impl Failure for GitError {
    fn facts(&self) -> Facts {
        match self {
            Self::Unreachable { .. } => Facts::temporary("source_unreachable"),
            Self::Certificate { .. } => Facts::platform("source_certificate"),
            Self::CredentialsNeeded { .. } => Facts::user("source_credentials_needed"),
            Self::NoRepository { .. } => Facts::user("source_not_found"),
            Self::PlainHttp { .. } => Facts::user("source_plain_http"),
            Self::RevisionNotFound { .. } | Self::RevisionAmbiguous { .. } => {
                Facts::user("revision_not_found")
            }
            Self::SubdirectoryNotFound { .. } => Facts::user("subdirectory_not_found"),
            Self::TooLarge { .. } => Facts::user("source_too_large"),
            Self::Entry { .. } => Facts::user("source_entry_invalid"),
            Self::Submodule { .. } | Self::SubmoduleUrl { .. } => Facts::user("submodule_refused"),
            Self::Program { .. } => Facts::platform("source_program_failed"),
            Self::Http(error) => error.facts(),
            Self::Library { .. } => Facts::platform("source_git_failed"),
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::File { .. } => Facts::platform("file_failed"),
            Self::Job { .. } => Facts::platform("source_job_failed"),
            Self::Sandbox { facts, .. } => *facts,
            Self::Cancelled(error) => error.facts(),
        }
    }
}

fn list_near(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; there are {}", names.join(", ")),
    }
}
