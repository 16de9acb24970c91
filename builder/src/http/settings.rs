//! What the client is told: plain data that `cli::config` fills.

use std::fmt;
use std::path::PathBuf;

use crate::http::error::HttpError;
use crate::http::redact::redact;
use crate::model::policy::allow_list::AllowList;

/// The settings of every HTTP request that packhorse makes for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// PEM files with certificate authorities to trust beside the machine's own.
    pub ca_files: Vec<PathBuf>,
    /// The proxies to go through.
    pub proxy: Proxy,
    /// Where the content of some URLs is taken from instead; the longest prefix wins.
    pub mirrors: Vec<Mirror>,
    /// Registries (`host` or `host:port`) that are spoken to without TLS; loopback always is.
    pub plain_http_hosts: Vec<String>,
    /// Where packhorse may go when the build is offline; none: it is not offline.
    pub offline: Option<AllowList>,
    /// The `User-Agent` header.
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ca_files: Vec::new(),
            proxy: Proxy::default(),
            mirrors: Vec::new(),
            plain_http_hosts: Vec::new(),
            offline: None,
            user_agent: concat!("packhorse/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl Settings {
    /// Whether a URL may be asked: offline only one of the operator's own hosts. One that does not parse fails elsewhere.
    pub fn check_offline(&self, url: &str) -> Result<(), HttpError> {
        let (Some(own), Ok(parsed)) = (&self.offline, reqwest::Url::parse(url)) else {
            return Ok(());
        };
        // ssh has no port that is known to the parser.
        let port = parsed.port_or_known_default().unwrap_or(22);
        let is_own = parsed.host_str().is_none_or(|host| own.has_host(host, port));
        if is_own {
            Ok(())
        } else {
            Err(HttpError::Offline { url: redact(url) })
        }
    }
}

/// The proxies, written as curl's variables are.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Proxy {
    /// URL of the proxy for `http://` (`http_proxy`).
    pub http: Option<String>,
    /// URL of the proxy for `https://` (`https_proxy`).
    pub https: Option<String>,
    /// Hosts, suffixes and networks that are reached without a proxy, with commas (`no_proxy`).
    pub no_proxy: Option<String>,
}

impl Proxy {
    /// The proxy for a URL as it may be shown, without user and password; none if it has none. `no_proxy` is not asked.
    pub(super) fn of(&self, url: &str) -> Option<String> {
        let proxy = if url.starts_with("https:") {
            &self.https
        } else {
            &self.http
        };
        proxy.as_deref().filter(|proxy| !proxy.is_empty()).map(redact)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<String>| url.as_deref().map(redact);
        formatter
            .debug_struct("Proxy")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// One row of the operator's mirror table.
#[derive(Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The beginning of the URLs that it replaces: `https://registry.npmjs.org/`.
    pub prefix: String,
    /// What stands in for the prefix: a URL (`https://mirror.example/npm/`) or a folder (`/srv/npm`, `file:///srv/npm`).
    pub target: String,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mirror")
            .field("prefix", &self.prefix)
            .field("target", &redact(&self.target))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_only_the_operator_s_own_hosts_are_asked() {
        let settings = Settings {
            offline: Some("mirror.lan:8081,npm.lan,127.0.0.1".parse().unwrap()),
            ..Settings::default()
        };
        for url in [
            "http://mirror.lan:8081/x",
            "https://npm.lan/x",
            "http://127.0.0.1:5000/v2/",
            "ssh://git@npm.lan/x.git",
            "file:///srv/x.git",
        ] {
            assert!(settings.check_offline(url).is_ok(), "{url}");
        }
        for url in [
            "http://mirror.lan/x",
            "https://example.com/",
            "ssh://git@forge.example/x",
        ] {
            assert!(settings.check_offline(url).is_err(), "{url}");
        }
        let error = settings
            .check_offline("https://anna:secret@example.com/x?token=secret")
            .unwrap_err();
        insta::assert_snapshot!(error, @"cannot ask https://example.com/x: the build is offline (`--offline`), and its host is neither a mirror nor a trusted host of packhorse.toml");
        assert_eq!(crate::model::failure::Failure::facts(&error).code, "offline");
        assert!(Settings::default().check_offline("https://example.com/").is_ok());
    }

    #[test]
    fn no_password_is_shown() {
        let secret = |host: &str| format!("http://user:s3cret@{host}:3128/");
        let settings = Settings {
            proxy: Proxy {
                http: Some(secret("plain.example")),
                // As curl allows it: without a scheme.
                https: Some("user:s3cret@tls.example:3128".to_owned()),
                no_proxy: None,
            },
            mirrors: vec![Mirror {
                prefix: "https://a.example/".to_owned(),
                target: secret("mirror.example"),
            }],
            ..Settings::default()
        };
        let shown = format!("{settings:?}");
        for host in ["plain.example", "tls.example", "mirror.example"] {
            assert!(shown.contains(host), "{shown}");
        }
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
