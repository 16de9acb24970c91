//! How talking to a registry can fail, with the registry's own code and message.

use std::io;
use std::path::PathBuf;

use reqwest::Response;
use serde::Deserialize;

use crate::events::Cancelled;
use crate::http::error::HttpError;
use crate::http::redact::redact;
use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// Bytes of a registry's answer that are looked at for its reasons.
const ENVELOPE_BYTES_MAX: usize = 64 << 10;
/// Characters of a registry's message that are shown.
const MESSAGE_CHARACTERS_MAX: usize = 300;

/// What was to be done when the registry said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Reading from a repository.
    Pull,
    /// Writing to a repository.
    Push,
}

/// A request to a registry failed. URLs are redacted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection, or it broke.
    #[error("cannot reach the registry: {0}")]
    Unreachable(HttpError),
    /// The registry's certificate is not trusted.
    #[error("{0}")]
    Certificate(HttpError),
    /// The registry wants credentials, or others (401).
    #[error("{} refuses the credentials it was given: {says}", shown(*.action, .name))]
    Unauthorized {
        /// What was to be done.
        action: Action,
        /// The repository.
        name: String,
        /// What the registry said.
        says: String,
    },
    /// The account may not do it (403).
    #[error("{} is not allowed: {says}", shown(*.action, .name))]
    Denied {
        /// What was to be done.
        action: Action,
        /// The repository.
        name: String,
        /// What the registry said.
        says: String,
    },
    /// No such manifest, blob or repository (404).
    #[error("there is no {what}: {says}")]
    NotFound {
        /// The reference or blob.
        what: String,
        /// What the registry said.
        says: String,
    },
    /// Too many requests (429), and waiting did not help.
    #[error("the registry limits how often it may be asked: {url}: {says}")]
    RateLimited {
        /// The URL.
        url: String,
        /// What the registry said.
        says: String,
    },
    /// Any other status.
    #[error("the registry answered {url} with status {status}: {says}")]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
        /// What the registry said.
        says: String,
    },
    /// An answer that the protocol does not allow.
    #[error("the registry's answer to {url} makes no sense: {why}")]
    Protocol {
        /// The URL.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Other bytes than were asked for.
    #[error("{what} is not what it should be: its digest is {found}, not {expected}")]
    DigestMismatch {
        /// The manifest or blob.
        what: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A file that was to be sent is not the blob that it should be.
    #[error("the blob `{}` is broken: its bytes have the digest {found}", path.display())]
    Broken {
        /// The blob's file.
        path: PathBuf,
        /// The digest of its bytes.
        found: Digest,
    },
    /// More bytes than a manifest or blob of its kind may have.
    #[error("{what} is longer than {limit} bytes")]
    TooLarge {
        /// The manifest or blob.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// An index that has nothing for the platform.
    #[error("{reference} has no image for {platform}; it has {has}")]
    NoPlatform {
        /// The index.
        reference: String,
        /// What was asked for.
        platform: String,
        /// What there is.
        has: String,
    },
    /// A credential file or helper.
    #[error("cannot use the credentials of {from}: {why}")]
    Credentials {
        /// The file, variable or helper.
        from: String,
        /// Why.
        why: String,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// `read`, `write`, …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The HTTP client.
    #[error(transparent)]
    Http(HttpError),
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<HttpError> for RegistryError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Certificate { .. } => Self::Certificate(error),
            HttpError::NameUnknown { .. }
            | HttpError::Unreachable { .. }
            | HttpError::Timeout { .. }
            | HttpError::Redirect { .. } => Self::Unreachable(error),
            HttpError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Http(error),
        }
    }
}

impl RegistryError {
    /// Whether the same request may go through when it is made again.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 499 | 500..=599),
            // An upload's session may be forgotten (404, `BLOB_UPLOAD_UNKNOWN`); a new one is then the cure.
            Self::Unreachable(_) | Self::RateLimited { .. } | Self::NotFound { .. } => true,
            _ => false,
        }
    }
}

impl RegistryError {
    /// Whether a tag holds nothing that could be reused: no image at all, none for this platform, or a broken one.
    pub fn means_no_image(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. } | Self::NoPlatform { .. } | Self::DigestMismatch { .. }
        )
    }

    /// Whether the registry lets this account not read there.
    pub fn forbids_reading(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized {
                action: Action::Pull,
                ..
            } | Self::Denied {
                action: Action::Pull,
                ..
            }
        )
    }
}

impl Failure for RegistryError {
    fn facts(&self) -> Facts {
        match self {
            Self::Unreachable(_) => Facts::temporary("registry_unreachable"),
            Self::Certificate(_) => Facts::platform("registry_certificate"),
            Self::Unauthorized {
                action: Action::Push, ..
            } => Facts::user("push_unauthorized"),
            Self::Unauthorized {
                action: Action::Pull, ..
            } => Facts::user("pull_unauthorized"),
            Self::Denied {
                action: Action::Push, ..
            } => Facts::user("push_denied"),
            Self::Denied {
                action: Action::Pull, ..
            } => Facts::user("pull_denied"),
            Self::NotFound { .. } => Facts::user("image_not_found"),
            Self::RateLimited { .. } => Facts::temporary("registry_rate_limited"),
            Self::Status {
                status: 408 | 499 | 500..=599,
                ..
            } => Facts::temporary("registry_error"),
            Self::Status { .. } | Self::Protocol { .. } | Self::TooLarge { .. } => {
                Facts::platform("registry_error")
            }
            Self::DigestMismatch { .. } => Facts::platform("registry_digest_mismatch"),
            Self::Broken { .. } => Facts::platform("blob_broken"),
            Self::NoPlatform { .. } => Facts::user("image_platform_missing"),
            Self::Credentials { .. } => Facts::user("registry_credentials_invalid"),
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::File { .. } => Facts::platform("file_failed"),
            Self::Http(error) => error.facts(),
            Self::Cancelled(error) => error.facts(),
        }
    }
}

/// The error that an answer of no success is. `what` is the manifest or blob, `name` its repository.
pub(super) async fn refusal(response: Response, action: Action, name: &str, what: &str) -> RegistryError {
    let status = response.status().as_u16();
    let url = redact(response.url().as_str());
    let says = reasons(response)
        .await
        .unwrap_or_else(|| format!("status {status}, without a reason"));
    let name = name.to_owned();
    match status {
        401 => RegistryError::Unauthorized { action, name, says },
        403 => RegistryError::Denied { action, name, says },
        404 => RegistryError::NotFound {
            what: what.to_owned(),
            says,
        },
        429 => RegistryError::RateLimited { url, says },
        status => RegistryError::Status { url, status, says },
    }
}

/// At most `limit` bytes of a body; none if it is longer or breaks off.
pub(super) async fn bounded(mut response: Response, limit: usize) -> Result<Option<Vec<u8>>, HttpError> {
    let url = response.url().as_str().to_owned();
    let mut bytes = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|error| HttpError::from_reqwest(&url, &error))?
    {
        if bytes.len() + piece.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Some(bytes))
}

/// The OCI error envelope (distribution spec, error codes).
#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

async fn reasons(response: Response) -> Option<String> {
    let body = bounded(response, ENVELOPE_BYTES_MAX).await.ok()??;
    read_reasons(&body)
}

fn read_reasons(body: &[u8]) -> Option<String> {
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    let says = envelope
        .errors
        .iter()
        .take(3)
        .map(|reason| format!("{}: {}", reason.code, reason.message));
    let text = says.collect::<Vec<_>>().join("; ");
    let shown: String = text
        .chars()
        .take(MESSAGE_CHARACTERS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    Some(shown).filter(|shown| !shown.is_empty())
}

fn shown(action: Action, name: &str) -> String {
    match action {
        Action::Pull => format!("pulling from {name}"),
        Action::Push => format!("pushing to {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_reasons_are_shown() {
        let body =
            br#"{"errors":[{"code":"DENIED","message":"no\u001b[0m push","detail":{"x":1}},{"code":"X"}]}"#;
        assert_eq!(read_reasons(body).unwrap(), r"DENIED: no\u{1b}[0m push; X: ");
        assert_eq!(read_reasons(b"<html>"), None);
        assert_eq!(read_reasons(br#"{"errors":[]}"#), None);
    }
}
