//! What the client is told: plain data that `cli::config` fills.

use std::fmt;
use std::path::PathBuf;

use crate::http::redact::redact;

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
            user_agent: concat!("packhorse/", env!("CARGO_PKG_VERSION")).to_owned(),
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
