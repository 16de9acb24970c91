//! The one HTTP client: certificates, proxy, limits, retries, and downloads that are hashed as they arrive.

mod dns;
mod proxy;

use crate::http::dns::HickoryResolver;
use crate::http::proxy::InvalidProxyError;
use crate::http::proxy::proxy_for;
use crate::integrity::Integrity;
use crate::registry_url::hide_credentials;
use libcnb::Env;
use sha2::Digest;
use sha2::Sha512;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::Body;
use ureq::Proxy;
use ureq::http::Response;
use ureq::tls::Certificate;
use ureq::tls::RootCerts;
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
const BODY_TIMEOUT: Duration = Duration::from_secs(600);
const REDIRECTS_MAX: u32 = 5;
const ATTEMPTS_MAX: u32 = 3;
/// Before the second attempt; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const CHUNK_BYTES: usize = 64 * 1024;

/// A client for the registry.
pub(crate) struct HttpClient {
    agent: Agent,
    env: Env,
}

/// No client can be made.
#[derive(Debug, thiserror::Error)]
#[error("no CA certificates were found{}", reasons(errors))]
pub(crate) struct NoCertificatesError {
    errors: Vec<rustls_native_certs::Error>,
}

/// A request that failed for good, after its retries.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Proxy(#[from] InvalidProxyError),
    #[error("GET {url}: the server answered with status {status}")]
    Status { url: String, status: u16 },
    #[error("GET {url}: {source}")]
    Transport { url: String, source: Box<ureq::Error> },
    #[error("GET {url}: the answer broke off: {source}")]
    Body { url: String, source: io::Error },
    #[error("GET {url}: the answer has more than {size_bytes_max} bytes")]
    TooLarge { url: String, size_bytes_max: u64 },
    #[error("cannot write a download to the disk: {0}")]
    Write(#[source] io::Error),
}

impl HttpError {
    fn is_temporary(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Transport { source, .. } => matches!(
                source.as_ref(),
                ureq::Error::Io(_)
                    | ureq::Error::Timeout(_)
                    | ureq::Error::HostNotFound
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::ConnectProxyFailed(_)
                    | ureq::Error::Protocol(_)
            ),
            Self::Body { .. } => true,
            Self::Proxy(_) | Self::TooLarge { .. } | Self::Write(_) => false,
        }
    }
}

impl HttpClient {
    /// A client that trusts `SSL_CERT_FILE`, else the system's certificates, and takes its proxy from `env`.
    pub(crate) fn new(env: &Env) -> Result<Self, NoCertificatesError> {
        let native = rustls_native_certs::load_native_certs();
        if native.certs.is_empty() {
            return Err(NoCertificatesError {
                errors: native.errors,
            });
        }
        let roots: RootCerts = native
            .certs
            .iter()
            .map(|cert| Certificate::from_der(cert).to_owned())
            .into();
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .user_agent(concat!("packhorse-nodejs/", env!("CARGO_PKG_VERSION")))
            .max_redirects(REDIRECTS_MAX)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT))
            .timeout_recv_body(Some(BODY_TIMEOUT))
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), HickoryResolver);
        Ok(Self {
            agent,
            env: env.clone(),
        })
    }

    /// The body of `url` in the media type `accept`.
    pub(crate) fn get(&self, url: &str, accept: &str, size_bytes_max: u64) -> Result<Vec<u8>, HttpError> {
        with_retries(|| {
            let mut body = Vec::new();
            self.read_body(url, accept, size_bytes_max, |chunk| {
                body.extend_from_slice(chunk);
                Ok(())
            })?;
            Ok(body)
        })
    }

    /// Writes the body of `url` to `file`, from its start, and returns the hash of what arrived.
    pub(crate) fn download(
        &self,
        url: &str,
        size_bytes_max: u64,
        file: &mut File,
    ) -> Result<Integrity, HttpError> {
        with_retries(|| {
            file.set_len(0)
                .and_then(|()| file.rewind())
                .map_err(HttpError::Write)?;
            let mut hash = Sha512::new();
            self.read_body(url, "*/*", size_bytes_max, |chunk| {
                hash.update(chunk);
                file.write_all(chunk)
            })?;
            Ok(Integrity::of_digest(hash.finalize().into()))
        })
    }

    fn read_body(
        &self,
        url: &str,
        accept: &str,
        size_bytes_max: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), HttpError> {
        let shown_url = hide_credentials(url);
        let mut body = self
            .send(url, accept)?
            .into_body()
            .into_with_config()
            .limit(u64::MAX)
            .reader();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut total = 0;
        loop {
            let length = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(HttpError::Body {
                        url: shown_url,
                        source,
                    });
                }
            };
            total += length as u64;
            if total > size_bytes_max {
                return Err(HttpError::TooLarge {
                    url: shown_url,
                    size_bytes_max,
                });
            }
            take(&buffer[..length]).map_err(HttpError::Write)?;
        }
    }

    fn send(&self, url: &str, accept: &str) -> Result<Response<Body>, HttpError> {
        let proxy = proxy_for(url, &self.env)?;
        let shown_url = shown_route(url, proxy.as_ref());
        let request = self
            .agent
            .get(url)
            .config()
            .proxy(proxy)
            .build()
            .header("accept", accept);
        request.call().map_err(|error| match error {
            ureq::Error::StatusCode(status) => HttpError::Status {
                url: shown_url,
                status,
            },
            source => HttpError::Transport {
                url: shown_url,
                source: Box::new(source),
            },
        })
    }
}

/// The URL for a message, with the proxy that it goes through: a refused connection is often the proxy's.
fn shown_route(url: &str, proxy: Option<&Proxy>) -> String {
    let is_direct = |proxy: &Proxy| url.parse().is_ok_and(|url| proxy.is_no_proxy(&url));
    let shown = hide_credentials(url);
    match proxy.filter(|proxy| !is_direct(proxy)) {
        Some(proxy) => format!("{shown} through the proxy {}:{}", proxy.host(), proxy.port()),
        None => shown,
    }
}

fn with_retries<T>(mut attempt: impl FnMut() -> Result<T, HttpError>) -> Result<T, HttpError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS_MAX {
        match attempt() {
            Err(error) if error.is_temporary() => {}
            result => return result,
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    attempt()
}

fn reasons(errors: &[rustls_native_certs::Error]) -> String {
    let first = errors.first().map(|error| format!(": {error}"));
    first.unwrap_or_default()
}

#[cfg(test)]
mod tests;
