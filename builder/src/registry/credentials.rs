//! Where credentials for registries come from: `CNB_REGISTRY_AUTH`, Docker's `config.json`, containers' `auth.json`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::model::reference::DOCKER_HUB;
use crate::model::reference::ImageReference;
use crate::registry::error::RegistryError;
use crate::registry::helper;

/// Bytes of a credential file that are read.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The key of Docker Hub in Docker's own files and helpers.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Where to look, in this order. `cli::config` fills it; nothing here reads the environment.
#[derive(Clone)]
pub struct CredentialSources {
    /// The value of `CNB_REGISTRY_AUTH`: JSON, registry to `Basic …`, `Bearer …` or `X-Identity …`.
    pub cnb_registry_auth: Option<String>,
    /// Files in the form of Docker's `config.json` or containers' `auth.json`; those that do not exist are passed over.
    pub files: Vec<PathBuf>,
    /// Put before every credential helper; mostly empty.
    pub user_command: Vec<OsString>,
    /// How long a helper may take.
    pub helper_timeout: Duration,
}

impl Default for CredentialSources {
    fn default() -> Self {
        let helper_timeout = Duration::from_secs(30);
        Self {
            cnb_registry_auth: None,
            files: Vec::new(),
            user_command: Vec::new(),
            helper_timeout,
        }
    }
}

impl fmt::Debug for CredentialSources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CredentialSources")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// What one shows to a registry. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password or access token.
        password: String,
    },
    /// A token that buys others at the token server (OAuth 2 refresh token).
    IdentityToken(String),
    /// A token that is shown as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
            Self::RegistryToken(_) => "RegistryToken(…)",
        })
    }
}

/// Docker's `config.json`, as far as it is about credentials.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct File {
    pub(super) auths: BTreeMap<String, Entry>,
    pub(super) cred_helpers: BTreeMap<String, String>,
    pub(super) creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl CredentialSources {
    /// The credential for a repository; none: anonymous.
    pub async fn find(&self, reference: &ImageReference) -> Result<Option<Credential>, RegistryError> {
        if let Some(text) = &self.cnb_registry_auth
            && let Some(credential) = from_variable(text, reference)?
        {
            return Ok(Some(credential));
        }
        for path in &self.files {
            if let Some(credential) = self.find_in_file(path, reference).await? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    async fn find_in_file(
        &self,
        path: &Path,
        reference: &ImageReference,
    ) -> Result<Option<Credential>, RegistryError> {
        let Some(file) = read(path)? else { return Ok(None) };
        let named = best(file.cred_helpers.iter(), reference);
        let stores = named
            .into_iter()
            .chain(&file.creds_store)
            .filter(|name| !name.is_empty());
        for name in stores {
            let server = if reference.registry() == DOCKER_HUB {
                DOCKER_HUB_KEY
            } else {
                reference.registry()
            };
            if let Some(credential) =
                helper::ask(&self.user_command, name, server, self.helper_timeout).await?
            {
                return Ok(Some(credential));
            }
        }
        best(file.auths.iter(), reference)
            .map(|entry| from_entry(entry, path))
            .transpose()
            .map(Option::flatten)
    }
}

/// Reads a file; none if there is no such file, or nothing in it.
pub(super) fn read(path: &Path) -> Result<Option<File>, RegistryError> {
    let wrong = |why: String| RegistryError::Credentials {
        from: path.display().to_string(),
        why,
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
        Ok(found) if found.len() > FILE_BYTES_MAX => return Err(wrong("it is too long".to_owned())),
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    // serde_json's message names a line and column, not the value.
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| wrong(format!("it is not valid JSON at line {}", error.line())))
}

fn wrong_variable(why: &str) -> RegistryError {
    RegistryError::Credentials {
        from: "CNB_REGISTRY_AUTH".to_owned(),
        why: why.to_owned(),
    }
}

fn from_variable(text: &str, reference: &ImageReference) -> Result<Option<Credential>, RegistryError> {
    let entries = entries_of_variable(text)?;
    best(entries.iter(), reference)
        .map(|value| from_value(value))
        .transpose()
}

/// The registries of `CNB_REGISTRY_AUTH`, each with its value.
pub(super) fn entries_of_variable(text: &str) -> Result<BTreeMap<String, String>, RegistryError> {
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_str(text).map_err(|_| wrong_variable("it is not a JSON object of texts"))
}

/// The credential of one value of `CNB_REGISTRY_AUTH`.
pub(super) fn from_value(value: &str) -> Result<Credential, RegistryError> {
    let wrong = wrong_variable;
    let (scheme, secret) = value
        .trim()
        .split_once(' ')
        .ok_or_else(|| wrong("a value is not `SCHEME SECRET`"))?;
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => basic(secret).ok_or_else(|| wrong("a `Basic` value is not base64 of `user:password`")),
        "bearer" => Ok(Credential::RegistryToken(secret.trim().to_owned())),
        "x-identity" => Ok(Credential::IdentityToken(secret.trim().to_owned())),
        _ => Err(wrong(
            "a value begins with none of `Basic`, `Bearer` and `X-Identity`",
        )),
    }
}

/// The credential of one entry of a file; none if the entry is empty.
pub(super) fn from_entry(entry: &Entry, path: &Path) -> Result<Option<Credential>, RegistryError> {
    if !entry.registrytoken.is_empty() {
        return Ok(Some(Credential::RegistryToken(entry.registrytoken.clone())));
    }
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Credential::IdentityToken(entry.identitytoken.clone())));
    }
    if !entry.auth.is_empty() {
        let why = "an `auth` is not base64 of `user:password`".to_owned();
        let wrong = || RegistryError::Credentials {
            from: path.display().to_string(),
            why,
        };
        return basic(&entry.auth).map(Some).ok_or_else(wrong);
    }
    if entry.username.is_empty() {
        // `docker login` leaves an empty entry beside a credsStore.
        return Ok(None);
    }
    Ok(Some(Credential::Basic {
        user: entry.username.clone(),
        password: entry.password.clone(),
    }))
}

fn basic(encoded: &str) -> Option<Credential> {
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker pads with NULs.
    let password = password.trim_end_matches('\0');
    Some(Credential::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// The value with the longest key that is this registry, or a part of this repository's name (containers-auth.json(5)).
fn best<'a, T>(
    entries: impl Iterator<Item = (&'a String, &'a T)>,
    reference: &ImageReference,
) -> Option<&'a T> {
    let name = reference.name();
    let matching = entries.filter_map(|(key, value)| {
        let key = normalised(key);
        let is_ours = name
            .strip_prefix(&key)
            .is_some_and(|rest| rest.starts_with('/') || rest.is_empty());
        is_ours.then_some((key.len(), value))
    });
    matching.max_by_key(|(length, _)| *length).map(|(_, value)| value)
}

/// `https://index.docker.io/v1/` → `docker.io`; `http://host:5000/v2/` → `host:5000`; `host/team` stays.
fn normalised(key: &str) -> String {
    let bare = key
        .split_once("://")
        .map_or(key, |(_, rest)| rest)
        .trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    let (host, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" | "hub.docker.com" => DOCKER_HUB,
        host => host,
    };
    format!("{}{path}", host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(credential: Option<Credential>) -> Option<String> {
        match credential? {
            Credential::Basic { user, password } => Some(format!("{user}:{password}")),
            Credential::IdentityToken(token) => Some(format!("identity {token}")),
            Credential::RegistryToken(token) => Some(format!("token {token}")),
        }
    }

    async fn find(sources: &CredentialSources, reference: &str) -> Option<String> {
        user(sources.find(&reference.parse().unwrap()).await.unwrap())
    }

    #[tokio::test]
    async fn the_variable_goes_first() {
        let text = r#"{"registry.example":"Basic dTpw","index.docker.io":"Bearer abc","other.example":"X-Identity xyz"}"#;
        let sources = CredentialSources {
            cnb_registry_auth: Some(text.into()),
            ..CredentialSources::default()
        };
        assert_eq!(
            find(&sources, "registry.example/app").await.as_deref(),
            Some("u:p")
        );
        assert_eq!(find(&sources, "debian").await.as_deref(), Some("token abc"));
        assert_eq!(
            find(&sources, "other.example/app").await.as_deref(),
            Some("identity xyz")
        );
        assert_eq!(find(&sources, "registry.example:5000/app").await, None);
        assert!(!format!("{sources:?}").contains("dTpw"));
    }

    #[tokio::test]
    async fn files_are_read_in_both_forms() {
        let folder = tempfile::tempdir().unwrap();
        let docker = folder.path().join("config.json");
        let containers = folder.path().join("auth.json");
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"http://localhost:5000/v2/":{"username":"a","password":"b"},
            "empty.example":{},"id.example":{"auth":"dTpw","identitytoken":"t"}},"HttpHeaders":{}}"#;
        std::fs::write(&docker, text).unwrap();
        std::fs::write(&containers, r#"{"auths":{"q.example":{"auth":"dTpw"},"q.example/team":{"auth":"eDp5"},"empty.example":{"auth":"eDp5"}}}"#).unwrap();
        let files = vec![folder.path().join("missing"), docker, containers];
        let sources = CredentialSources {
            files,
            ..CredentialSources::default()
        };
        for (reference, expected) in [
            ("debian", Some("u:p")),
            ("localhost:5000/app", Some("a:b")),
            ("id.example/app", Some("identity t")),
            ("empty.example/app", Some("x:y")),
            ("q.example/app", Some("u:p")),
            ("q.example/team/app", Some("x:y")),
            ("q.example/teams/app", Some("u:p")),
            ("elsewhere.example/app", None),
        ] {
            assert_eq!(
                find(&sources, reference).await.as_deref(),
                expected,
                "{reference}"
            );
        }
    }

    #[tokio::test]
    async fn helpers_are_asked_behind_the_users_prefix() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let helper = folder.path().join("docker-credential-fake");
        let script = "#!/bin/sh\nread server\ncase $server in\nslow*) sleep 60;;\nnone*) echo 'credentials not found in native keychain'; exit 1;;\n\
                      bad*) echo 'keychain is locked'; exit 1;;\nesac\necho \"{\\\"Username\\\":\\\"$1-$server\\\",\\\"Secret\\\":\\\"s\\\"}\"\n";
        std::fs::write(&helper, script).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = folder.path().join("config.json");
        std::fs::write(&config, r#"{"credsStore":"fake","auths":{"none.example":{"auth":"dTpw"}},"credHelpers":{"other.example":"fake"}}"#).unwrap();
        let path = format!("PATH={}:/usr/bin:/bin", folder.path().display());
        let sources = CredentialSources {
            files: vec![config],
            user_command: vec!["env".into(), path.into()],
            helper_timeout: Duration::from_secs(5),
            ..CredentialSources::default()
        };
        assert_eq!(
            find(&sources, "debian").await.as_deref(),
            Some("get-https://index.docker.io/v1/:s")
        );
        assert_eq!(
            find(&sources, "other.example/a").await.as_deref(),
            Some("get-other.example:s")
        );
        assert_eq!(find(&sources, "none.example/a").await.as_deref(), Some("u:p"));
        let error = sources
            .find(&"bad.example/a".parse().unwrap())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("keychain is locked"), "{error}");
        let quick = CredentialSources {
            helper_timeout: Duration::from_millis(200),
            ..sources
        };
        let error = quick
            .find(&"slow.example/a".parse().unwrap())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("did not answer"), "{error}");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_said_without_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, r#"{"auths":{"a.example":{"auth":"s3cret!"}}}"#).unwrap();
        let sources = CredentialSources {
            files: vec![file],
            ..CredentialSources::default()
        };
        let error = sources
            .find(&"a.example/a".parse().unwrap())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("config.json") && !error.contains("s3cret"),
            "{error}"
        );
        for text in [
            "[]",
            "{\"a.example\":\"s3cret\"}",
            "{\"a.example\":\"Digest s3cret\"}",
        ] {
            let sources = CredentialSources {
                cnb_registry_auth: Some(text.into()),
                ..CredentialSources::default()
            };
            let error = sources
                .find(&"a.example/a".parse().unwrap())
                .await
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("CNB_REGISTRY_AUTH") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }
}
