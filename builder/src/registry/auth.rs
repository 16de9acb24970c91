//! Tokens: one for each registry and set of scopes, obtained once however many ask (Docker's token specification).

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Url;
use serde::Deserialize;

use crate::http::client::Client;
use crate::http::redact::redact;
use crate::model::reference::ImageReference;
use crate::registry::challenge::Challenge;
use crate::registry::credentials::Credential;
use crate::registry::credentials::CredentialSources;
use crate::registry::error::Action;
use crate::registry::error::RegistryError;
use crate::registry::error::bounded;
use crate::registry::error::refusal;

/// Bytes of a token server's answer that are read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a request needs, as the token server writes it: `repository:team/app:pull,push`.
pub(super) type Scopes = BTreeSet<String>;

/// Reading from `repository`.
pub(super) fn pull_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

/// Writing to `repository`.
pub(super) fn push_scope(repository: &str) -> String {
    format!("repository:{repository}:pull,push")
}

/// The value of an `Authorization` header, or none for an anonymous request.
type Authorization = Option<String>;

/// What is shown for one registry and set of scopes. Held while a token is on its way, so that others wait for it.
type Slot = Arc<tokio::sync::Mutex<Authorization>>;

/// Knows what each registry asked for and what was shown to it.
#[derive(Debug)]
pub(super) struct Authorizer {
    http: Client,
    sources: CredentialSources,
    challenges: std::sync::Mutex<HashMap<String, Challenge>>,
    slots: std::sync::Mutex<HashMap<(String, Scopes), Slot>>,
}

impl Authorizer {
    pub(super) fn new(http: Client, sources: CredentialSources) -> Self {
        Self {
            http,
            sources,
            challenges: std::sync::Mutex::default(),
            slots: std::sync::Mutex::default(),
        }
    }

    /// What to send with a request: what was good before, or a new token if the registry's challenge is known.
    pub(super) async fn current(
        &self,
        reference: &ImageReference,
        scopes: &Scopes,
    ) -> Result<Authorization, RegistryError> {
        let slot = self.slot(reference, scopes);
        let mut authorization = slot.lock().await;
        if authorization.is_none()
            && let Some(challenge) = self.challenge(reference)
        {
            *authorization = self.obtain(reference, scopes, &challenge).await?;
        }
        Ok(authorization.clone())
    }

    /// What to send instead of `refused`, which the registry answered with `challenge`. Of many requests that are
    /// refused at once the first obtains a token and the others find it.
    pub(super) async fn renewed(
        &self,
        reference: &ImageReference,
        scopes: &Scopes,
        challenge: &Challenge,
        refused: &Authorization,
    ) -> Result<Authorization, RegistryError> {
        let slot = self.slot(reference, scopes);
        let mut authorization = slot.lock().await;
        if *authorization == *refused {
            *authorization = self.obtain(reference, scopes, challenge).await?;
            let host = reference.registry_host().to_owned();
            // Another repository of the registry needs another scope.
            let kept = match challenge.clone() {
                Challenge::Bearer { realm, service, .. } => Challenge::Bearer {
                    realm,
                    service,
                    scope: None,
                },
                Challenge::Basic => Challenge::Basic,
            };
            self.challenges
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(host, kept);
        }
        Ok(authorization.clone())
    }

    fn challenge(&self, reference: &ImageReference) -> Option<Challenge> {
        let challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
        challenges.get(reference.registry_host()).cloned()
    }

    fn slot(&self, reference: &ImageReference, scopes: &Scopes) -> Slot {
        let key = (reference.registry_host().to_owned(), scopes.clone());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key).or_default())
    }

    async fn obtain(
        &self,
        reference: &ImageReference,
        scopes: &Scopes,
        challenge: &Challenge,
    ) -> Result<Authorization, RegistryError> {
        let credential = self.sources.find(reference).await?;
        match (challenge, credential) {
            (_, Some(Credential::RegistryToken(token))) => Ok(Some(format!("Bearer {token}"))),
            (Challenge::Basic, Some(Credential::Basic { user, password })) => {
                Ok(Some(basic(&user, &password)))
            }
            (Challenge::Basic, Some(Credential::IdentityToken(_)) | None) => Ok(None),
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope,
                },
                credential,
            ) => {
                let wanted = Wanted {
                    realm: self.realm(realm)?,
                    service: service.as_deref(),
                    scopes,
                    asked: scope.as_deref(),
                };
                let token = self.token(reference, &wanted, credential.as_ref()).await?;
                Ok(Some(format!("Bearer {token}")))
            }
        }
    }

    /// The token server gets the password, so it must be spoken to by TLS, or be as near as the registry.
    fn realm(&self, realm: &str) -> Result<Url, RegistryError> {
        let wrong = |why: &str| RegistryError::Protocol {
            url: redact(realm),
            why: why.to_owned(),
        };
        let url = Url::parse(realm).map_err(|_| wrong("its token server has no valid URL"))?;
        let authority = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(wrong("its token server has no host")),
        };
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.http.is_plain_http(&authority) => Ok(url),
            _ => Err(wrong("its token server is not spoken to by TLS")),
        }
    }

    async fn token(
        &self,
        reference: &ImageReference,
        wanted: &Wanted<'_>,
        credential: Option<&Credential>,
    ) -> Result<String, RegistryError> {
        let response = self.http.send(|| wanted.request(&self.http, credential)).await?;
        let is_push = wanted.scopes.iter().any(|scope| scope.ends_with("push"));
        let action = if is_push { Action::Push } else { Action::Pull };
        let url = redact(response.url().as_str());
        if !response.status().is_success() {
            return Err(refusal(response, action, &reference.name(), "token").await);
        }
        let wrong = |why: &str| RegistryError::Protocol {
            url: url.clone(),
            why: why.to_owned(),
        };
        let body = bounded(response, ANSWER_BYTES_MAX)
            .await?
            .ok_or_else(|| wrong("it is too long for a token"))?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| wrong("it is not a token server's JSON"))?;
        let token = [answer.token, answer.access_token]
            .into_iter()
            .find(|token| !token.is_empty());
        let token = token.ok_or_else(|| wrong("it has no token"))?;
        if token.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(token)
        } else {
            Err(wrong("its token is no token"))
        }
    }
}

/// Some servers write the one name, some the other, some both.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Answer {
    token: String,
    access_token: String,
}

/// A token to ask for.
struct Wanted<'a> {
    realm: Url,
    service: Option<&'a str>,
    scopes: &'a Scopes,
    /// What the registry's challenge asked for; mostly what we know already.
    asked: Option<&'a str>,
}

impl Wanted<'_> {
    fn request(&self, http: &Client, credential: Option<&Credential>) -> RequestBuilder {
        match credential {
            Some(Credential::IdentityToken(token)) => self.exchange(http, token),
            Some(Credential::Basic { user, password }) => {
                let request = self.get(http, Some(user));
                request.header("Authorization", basic(user, password))
            }
            Some(Credential::RegistryToken(_)) | None => self.get(http, None),
        }
    }

    fn get(&self, http: &Client, account: Option<&str>) -> RequestBuilder {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(self.service.map(|service| ("service", service)));
            query.extend_pairs(self.all_scopes().map(|scope| ("scope", scope)));
            query.extend_pairs(account.map(|account| ("account", account)));
        }
        http.request(Method::GET, url.as_str())
    }

    /// OAuth 2: the identity token buys an access token.
    fn exchange(&self, http: &Client, token: &str) -> RequestBuilder {
        let scope = self.all_scopes().collect::<Vec<_>>().join(" ");
        let mut form = self.realm.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", self.service.unwrap_or_default())
            .append_pair("client_id", "packhorse")
            .append_pair("scope", &scope)
            .append_pair("refresh_token", token);
        let body = form.query().unwrap_or_default().to_owned();
        let request = http.request(Method::POST, self.realm.as_str());
        request
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body)
    }

    fn all_scopes(&self) -> impl Iterator<Item = &str> {
        let asked = self.asked.into_iter().flat_map(str::split_whitespace);
        let own = self.scopes;
        own.iter()
            .map(String::as_str)
            .chain(asked.filter(|scope| !own.contains(*scope)))
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
