//! How a request can fail: every error names the URL, without its secrets, and tells the reasons apart.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::events::Cancelled;
use crate::http::redact::redact;
use crate::http::settings::Proxy;
use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// A request or a download failed. URLs are already redacted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// A URL does not parse, or its scheme is not one of ours.
    #[error("`{url}` is not a URL that can be fetched: {reason}")]
    UrlInvalid {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// The settings of the client are wrong.
    #[error("cannot set up the HTTP client: {0}")]
    Settings(String),
    /// A CA file of the settings cannot be used.
    #[error("cannot use the CA file {path}: {source}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The build is offline, and this is no host of the operator's.
    #[error(
        "cannot ask {url}: the build is offline (`--offline`), and its host is neither a mirror nor a trusted host of \
         packhorse.toml"
    )]
    Offline {
        /// The URL.
        url: String,
    },
    /// The upstream proxy does not take the user and password of its URL, or wants some.
    #[error("cannot reach {url}: the proxy `{proxy}` does not accept the user and password of its URL")]
    ProxyUnauthorized {
        /// The URL.
        url: String,
        /// The proxy's, without user and password.
        proxy: String,
    },
    /// The host's name has no address.
    #[error("cannot reach {url}: its host's name does not resolve: {reason}")]
    NameUnknown {
        /// The URL.
        url: String,
        /// What the resolver said.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// The server's certificate is not trusted, or TLS failed otherwise.
    #[error("cannot trust the server of {url}: {reason}")]
    Certificate {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// Nothing came in time.
    #[error("{url} did not answer in time")]
    Timeout {
        /// The URL.
        url: String,
    },
    /// The server redirects to where we do not follow.
    #[error("{url} redirects to where it must not: {reason}")]
    Redirect {
        /// The URL.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The server answered with a status that is no success.
    #[error("{url} answered with status {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
    },
    /// The body is longer than it may be.
    #[error("{url} sends more than {size_bytes_max} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit.
        size_bytes_max: u64,
    },
    /// The body is another than was asked for.
    #[error("{url} sent other bytes than expected: their digest is {found}, not {expected}")]
    DigestMismatch {
        /// The URL.
        url: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The body has another length than was asked for.
    #[error("{url} sent {found} bytes, not {expected}")]
    SizeMismatch {
        /// The URL.
        url: String,
        /// What was asked for.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A file could not be read or written.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// `read`, `write`, …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl HttpError {
    /// The status that the server answered with, if that is the failure.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What `error` of a request to `url` means.
    pub fn from_reqwest(url: &str, error: &reqwest::Error) -> Self {
        let url = redact(url);
        let reason = reason(error);
        if let Some(reason) = tls_reason(error) {
            return Self::Certificate { url, reason };
        }
        if error.is_timeout() {
            Self::Timeout { url }
        } else if error.is_builder() {
            Self::UrlInvalid { url, reason }
        } else if error.is_redirect() {
            Self::Redirect { url, reason }
        } else if error.is_dns()
            || reason.contains("failed to lookup address")
            || reason.contains("dns error")
        {
            Self::NameUnknown { url, reason }
        } else if let Some(status) = error.status() {
            Self::Status {
                url,
                status: status.as_u16(),
            }
        } else {
            Self::Unreachable { url, reason }
        }
    }

    /// The same, where it is the proxy that said no: reqwest and hyper have these words for a 407 to CONNECT, and for a
    /// SOCKS proxy that does not take the password.
    pub(super) fn through(self, proxy: &Proxy) -> Self {
        let said = |reason: &str| {
            let reason = reason.to_ascii_lowercase();
            [
                "proxy authentication required",
                "proxy authorization required",
                "credentials not accepted",
                "user/pass authentication",
            ]
            .iter()
            .any(|words| reason.contains(words))
        };
        match self {
            Self::Unreachable { url, reason } if said(&reason) => match proxy.of(&url) {
                Some(proxy) => Self::ProxyUnauthorized { url, proxy },
                None => Self::Unreachable { url, reason },
            },
            other => other,
        }
    }

    /// Whether the same request may go through when it is made again at once.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        matches!(
            self,
            Self::NameUnknown { .. } | Self::Unreachable { .. } | Self::Timeout { .. }
        )
    }
}

impl Failure for HttpError {
    fn facts(&self) -> Facts {
        match self {
            Self::UrlInvalid { .. } => Facts::user("http_url_invalid"),
            Self::Offline { .. } => Facts::user("offline"),
            Self::ProxyUnauthorized { .. } => Facts::platform("proxy_unauthorized"),
            Self::Settings(_) => Facts::user("http_settings_invalid"),
            Self::CaFile { .. } => Facts::user("http_certificate"),
            Self::NameUnknown { .. } | Self::Unreachable { .. } => Facts::temporary("http_unreachable"),
            Self::Certificate { .. } => Facts::platform("http_certificate"),
            Self::Timeout { .. } => Facts::temporary("http_timeout"),
            Self::Redirect { .. } => Facts::platform("http_redirect"),
            Self::Status {
                status: 408 | 429 | 500..=599,
                ..
            } => Facts::temporary("http_status"),
            Self::Status { .. } => Facts::platform("http_status"),
            Self::TooLarge { .. } => Facts::platform("http_too_large"),
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => {
                Facts::platform("http_digest_mismatch")
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::File { .. } => Facts::platform("file_failed"),
            Self::Cancelled(error) => error.facts(),
        }
    }
}

/// The innermost cause, in its own words: the outer ones say `error sending request` and little else.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    // reqwest's own text would show the whole URL.
    match innermost.downcast_ref::<reqwest::Error>() {
        Some(own) => redacted_text(own),
        None => innermost.to_string(),
    }
}

fn redacted_text(error: &reqwest::Error) -> String {
    let text = error.to_string();
    match error.url() {
        Some(url) => text.replace(url.as_str(), &redact(url.as_str())),
        None => text,
    }
}

/// What rustls said, if the failure is its own.
fn tls_reason(error: &reqwest::Error) -> Option<String> {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(current) = cause {
        // An `io::Error` shows its inner error's source as its own, so the inner error itself is looked at here.
        let inner = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls.or_else(|| current.downcast_ref::<rustls::Error>()) {
            return Some(match tls {
                rustls::Error::General(text) => text.clone(),
                other => other.to_string(),
            });
        }
        cause = inner
            .map(|inner| inner as &dyn Error)
            .or_else(|| current.source());
    }
    None
}
