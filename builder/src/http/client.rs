//! The asynchronous client: requests with retries.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::Method;
use reqwest::NoProxy;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::redirect::Policy;

use crate::http::error::HttpError;
use crate::http::mirror::Location;
use crate::http::mirror::locate;
use crate::http::redact::redact;
use crate::http::retry::Tries;
use crate::http::retry::is_temporary;
use crate::http::retry::retry_after;
use crate::http::roots::tls_config;
use crate::http::settings::Proxy;
use crate::http::settings::Settings;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a server may be silent.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// How many redirects are followed.
const REDIRECTS_MAX: usize = 8;

/// The client. Cheap to make (roots are read at the first TLS handshake) and to clone.
#[derive(Debug, Clone)]
pub struct Client {
    inner: reqwest::Client,
    settings: Settings,
}

impl Client {
    /// Makes a client; connects nowhere.
    pub fn new(settings: &Settings) -> Result<Self, HttpError> {
        let inner = builder(settings)?
            .read_timeout(SILENCE_TIMEOUT)
            .redirect(followed(settings.clone()))
            .build()
            .map_err(|error| HttpError::Settings(error.to_string()))?;
        Ok(Self {
            inner,
            settings: settings.clone(),
        })
    }

    /// What the client was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where `url` is taken from under the mirror table.
    pub fn mirrored(&self, url: &str) -> Location {
        locate(&self.settings.mirrors, url)
    }

    /// Whether `authority` (`host` or `host:port`) is spoken to without TLS: loopback and the hosts of the settings.
    pub fn is_plain_http(&self, authority: &str) -> bool {
        self.settings
            .plain_http_hosts
            .iter()
            .any(|host| host == authority)
            || is_loopback(authority)
    }

    /// Begins a request. A URL that does not parse is an error of [`Client::send`].
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder {
        self.inner.request(method, url)
    }

    /// Sends what `build` makes, again when the failure may pass (at most five tries), and gives the first answer
    /// that is not worth another try, or the last. An answer of any status is no error here.
    pub async fn send(&self, build: impl Fn() -> RequestBuilder) -> Result<Response, HttpError> {
        let mut tries = Tries::default();
        loop {
            let request = build()
                .build()
                .map_err(|error| HttpError::from_reqwest("", &error))?;
            let url = request.url().as_str().to_owned();
            let outcome = self.execute(request).await;
            let asked = match &outcome {
                Ok(response) if is_temporary(response.status().as_u16()) => retry_after(response.headers()),
                Err(error) if error.is_worth_a_retry() => None,
                _ => return outcome,
            };
            let Some(wait) = tries.next_wait(asked) else {
                return outcome;
            };
            tracing::debug!(
                url = redact(&url),
                wait_ms = wait.as_millis(),
                "request is made again"
            );
            tokio::time::sleep(wait).await;
        }
    }
}

impl Client {
    /// Sends a request once.
    pub async fn execute(&self, request: reqwest::Request) -> Result<Response, HttpError> {
        let url = request.url().as_str().to_owned();
        self.settings.check_offline(&url)?;
        let outcome = self.inner.execute(request).await;
        outcome
            .map_err(|error| HttpError::from_reqwest(&url, &error).through(&self.settings.proxy))
            .and_then(|response| refused_by_proxy(&url, response, &self.settings.proxy))
    }
}

/// Where there is a proxy, 407 is its answer and no server's.
fn refused_by_proxy(url: &str, response: Response, proxy: &Proxy) -> Result<Response, HttpError> {
    match proxy.of(url) {
        Some(proxy) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Err(HttpError::ProxyUnauthorized {
                url: redact(url),
                proxy,
            })
        }
        _ => Ok(response),
    }
}

/// The response, if its status is a success.
pub fn expect_success(response: Response) -> Result<Response, HttpError> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(HttpError::Status {
        url: redact(response.url().as_str()),
        status: response.status().as_u16(),
    })
}

/// What both clients have in common. Bodies are never decompressed on the way, so that digests are of what was sent.
pub(super) fn builder(settings: &Settings) -> Result<reqwest::ClientBuilder, HttpError> {
    for path in &settings.ca_files {
        std::fs::metadata(path).map_err(|source| HttpError::CaFile {
            path: path.clone(),
            source,
        })?;
    }
    let tls = tls_config(&settings.ca_files).map_err(|error| HttpError::Settings(error.to_string()))?;
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(&settings.user_agent)
        .connect_timeout(CONNECT_TIMEOUT)
        .gzip(false)
        .referer(false)
        .no_proxy();
    if let Some(url) = named(settings.proxy.http.as_ref()) {
        builder = builder.proxy(proxied(reqwest::Proxy::http(url), url, settings)?);
    }
    if let Some(url) = named(settings.proxy.https.as_ref()) {
        builder = builder.proxy(proxied(reqwest::Proxy::https(url), url, settings)?);
    }
    Ok(builder)
}

/// A proxy's URL, if one is set; an empty variable sets none.
fn named(url: Option<&String>) -> Option<&str> {
    url.map(String::as_str).filter(|url| !url.is_empty())
}

fn proxied(
    proxy: reqwest::Result<reqwest::Proxy>,
    url: &str,
    settings: &Settings,
) -> Result<reqwest::Proxy, HttpError> {
    let proxy = proxy.map_err(|_| HttpError::Settings(format!("the proxy {} is not a URL", redact(url))))?;
    let direct = settings.proxy.no_proxy.as_deref().and_then(NoProxy::from_string);
    Ok(proxy.no_proxy(direct))
}

/// Follows a few redirects, and never from TLS to plain text. reqwest drops credentials when the host changes.
fn followed(settings: Settings) -> Policy {
    Policy::custom(move |attempt| {
        if let Err(error) = settings.check_offline(attempt.url().as_str()) {
            return attempt.error(error);
        }
        let was_secure = attempt
            .previous()
            .last()
            .is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error(format!("more than {REDIRECTS_MAX} redirects"))
        } else if was_secure && attempt.url().scheme() != "https" {
            attempt.error("it leaves TLS")
        } else {
            attempt.follow()
        }
    })
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_named_hosts() {
        let settings = Settings {
            plain_http_hosts: vec!["registry.lan:5000".to_owned()],
            ..Settings::default()
        };
        let client = Client::new(&settings).unwrap();
        for (authority, plain) in [
            ("localhost:5000", true),
            ("127.0.0.1", true),
            ("[::1]:5000", true),
            ("registry.lan:5000", true),
            ("registry.lan", false),
            ("localhost.example:5000", false),
            ("ghcr.io", false),
        ] {
            assert_eq!(client.is_plain_http(authority), plain, "{authority}");
        }
    }

    #[test]
    fn a_missing_ca_file_is_named() {
        let settings = Settings {
            ca_files: vec!["/nowhere/ca.pem".into()],
            ..Settings::default()
        };
        let error = Client::new(&settings).unwrap_err().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_tls_is_no_trusted_server_and_is_not_asked_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/path?token=secret", listener.local_addr().unwrap());
        let client = Client::new(&Settings::default()).unwrap();
        let asked = client.send(|| client.request(Method::GET, &url));
        let (outcome, ()) = tokio::join!(asked, async {
            use tokio::io::AsyncWriteExt as _;
            let (mut connection, _) = listener.accept().await.unwrap();
            connection
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        });
        let error = outcome.unwrap_err();
        assert!(matches!(error, HttpError::Certificate { .. }), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    /// A proxy that gives the same answer to every first request.
    async fn proxy(answer: &'static [u8]) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            use tokio::io::AsyncReadExt as _;
            use tokio::io::AsyncWriteExt as _;
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let _read = connection.read(&mut [0; 4096]).await.unwrap();
                connection.write_all(answer).await.unwrap();
                let _rest = connection.read(&mut [0; 4096]).await;
                // SOCKS: the user and password are wrong (RFC 1929).
                let _gone = connection.write_all(&[1, 1]).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn a_proxy_that_does_not_take_the_password_is_named_without_it() {
        const WANTS_PASSWORD: &[u8] =
            b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        for (scheme, url, answer) in [
            ("http", "http://a.example/", WANTS_PASSWORD),
            ("http", "https://a.example/", WANTS_PASSWORD),
            ("socks5h", "https://a.example/", &[5, 2]),
            ("socks5h", "http://a.example/", &[5, 2]),
        ] {
            let port = proxy(answer).await;
            let through = Some(format!("{scheme}://ann:s3cret@127.0.0.1:{port}"));
            let settings = Settings {
                proxy: Proxy {
                    http: through.clone(),
                    https: through,
                    no_proxy: None,
                },
                ..Settings::default()
            };
            let client = Client::new(&settings).unwrap();
            let request = client.request(Method::GET, url).build().unwrap();
            let error = client.execute(request).await.unwrap_err();
            assert_eq!(
                error.to_string().replace("/`", "`"),
                format!(
                    "cannot reach {url}: the proxy `{scheme}://127.0.0.1:{port}` does not accept the user and \
                     password of its URL"
                ),
                "{error:?}"
            );
        }
    }
}
