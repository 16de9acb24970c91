//! The client: a request to a registry, with the scheme, token and second try that it needs.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use reqwest::header::WWW_AUTHENTICATE;

use crate::http::client::Client;
use crate::http::error::HttpError;
use crate::model::digest::Digest;
use crate::model::reference::ImageReference;
use crate::registry::auth::Authorizer;
use crate::registry::auth::Scopes;
use crate::registry::challenge;
use crate::registry::credentials::CredentialSources;
use crate::registry::error::RegistryError;

/// How long a blob that a registry had is taken to be there; registries remove what no manifest names.
const PRESENT_FOR: Duration = Duration::from_secs(10 * 60);
/// How often a waiting transfer looks whether the build was cancelled.
pub(super) const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// Speaks with registries. To be shared: it keeps tokens and what is known to be there.
#[derive(Debug)]
pub struct Registry {
    pub(super) http: Client,
    authorizer: Authorizer,
    /// Loopback registries that turned out to speak TLS, or not.
    schemes: Mutex<HashMap<String, &'static str>>,
    present: Mutex<HashMap<(String, Digest), Instant>>,
}

/// How often a request is made again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tries {
    /// As `http` does, for requests that are cheap to repeat.
    Many,
    /// Once; the caller repeats more than this request.
    One,
}

impl Registry {
    /// Makes one; connects nowhere.
    pub fn new(http: Client, sources: CredentialSources) -> Self {
        let authorizer = Authorizer::new(http.clone(), sources);
        Self {
            http,
            authorizer,
            schemes: Mutex::default(),
            present: Mutex::default(),
        }
    }

    /// Sends `method` to `path` of the reference's repository (`manifests/latest`, `blobs/sha256:…`).
    pub(super) async fn send(
        &self,
        reference: &ImageReference,
        scopes: &Scopes,
        method: Method,
        path: &str,
        finish: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let scheme = self.scheme(reference.registry_host());
        let url = |scheme: &str| {
            format!(
                "{scheme}://{}/v2/{}/{path}",
                reference.registry_host(),
                reference.repository()
            )
        };
        let build = |scheme: &str| {
            let url = url(scheme);
            let (method, finish) = (&method, &finish);
            move || finish(self.http.request(method.clone(), &url))
        };
        let first = self
            .authorized(reference, scopes, Tries::Many, true, build(scheme))
            .await;
        let is_doubtful = match &first {
            Ok(response) => response.status() == StatusCode::BAD_REQUEST,
            Err(error) => matches!(error, RegistryError::Unreachable(_)),
        };
        if scheme == "http" && is_doubtful && self.speaks_tls(reference.registry_host()).await {
            return self
                .authorized(reference, scopes, Tries::Many, true, build("https"))
                .await;
        }
        first
    }

    /// Sends what `build` makes to `url`, which the registry named. Another host gets no credentials.
    pub(super) async fn send_to(
        &self,
        reference: &ImageReference,
        scopes: &Scopes,
        url: &Url,
        tries: Tries,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let scheme = self.scheme(reference.registry_host());
        let home = Url::parse(&format!("{scheme}://{}/", reference.registry_host())).ok();
        let is_home = home.is_some_and(|home| home.origin() == url.origin());
        self.authorized(reference, scopes, tries, is_home, build).await
    }

    async fn authorized(
        &self,
        reference: &ImageReference,
        scopes: &Scopes,
        tries: Tries,
        is_home: bool,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        if !is_home {
            return self.attempt(tries, build).await;
        }
        let authorization = self.authorizer.current(reference, scopes).await?;
        let response = self
            .attempt(tries, || with(build(), authorization.as_deref()))
            .await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let Some(challenge) = challenge::best(headers.iter().filter_map(|value| value.to_str().ok())) else {
            return Ok(response);
        };
        let renewed = self
            .authorizer
            .renewed(reference, scopes, &challenge, &authorization)
            .await?;
        if renewed == authorization {
            // Nothing else to show: the refusal stands.
            return Ok(response);
        }
        self.attempt(tries, || with(build(), renewed.as_deref())).await
    }

    async fn attempt(
        &self,
        tries: Tries,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        match tries {
            Tries::Many => Ok(self.http.send(build).await?),
            Tries::One => {
                let request = build()
                    .build()
                    .map_err(|error| HttpError::from_reqwest("", &error))?;
                Ok(self.http.execute(request).await?)
            }
        }
    }

    /// TLS everywhere, but for loopback and the hosts that the operator named.
    pub(super) fn scheme(&self, host: &str) -> &'static str {
        let found = self
            .schemes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(host)
            .copied();
        found.unwrap_or(if self.http.is_plain_http(host) {
            "http"
        } else {
            "https"
        })
    }

    /// Whether a host of ours that does not answer plain HTTP answers TLS. A certificate that is not trusted is an answer.
    async fn speaks_tls(&self, host: &str) -> bool {
        if self
            .http
            .settings()
            .plain_http_hosts
            .iter()
            .any(|named| named == host)
        {
            return false;
        }
        let url = format!("https://{host}/v2/");
        if self.http.settings().check_offline(&url).is_err() {
            return false;
        }
        let probe = self.http.request(Method::GET, &url).send().await;
        let speaks = match probe {
            Ok(_) => true,
            Err(error) => {
                let error = HttpError::from_reqwest(host, &error);
                matches!(&error, HttpError::Certificate { reason, .. } if !reason.contains("corrupt message"))
            }
        };
        if speaks {
            self.schemes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(host.to_owned(), "https");
        }
        speaks
    }

    /// Whether the repository was seen to have the blob, not long ago.
    pub(super) fn is_known_present(&self, reference: &ImageReference, digest: Digest) -> bool {
        let present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        present
            .get(&(reference.name(), digest))
            .is_some_and(|since| since.elapsed() < PRESENT_FOR)
    }

    /// Remembers that the repository has the blob.
    pub(super) fn remember_present(&self, reference: &ImageReference, digest: Digest) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.retain(|_, since| since.elapsed() < PRESENT_FOR);
        present.insert((reference.name(), digest), Instant::now());
    }
}

fn with(request: RequestBuilder, authorization: Option<&str>) -> RequestBuilder {
    match authorization {
        Some(authorization) => request.header(AUTHORIZATION, authorization),
        None => request,
    }
}
