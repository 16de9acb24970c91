//! The address of a git repository: https, http, ssh, `[user@]host:path` or a file.

use core::net::IpAddr;
use std::fmt;

use crate::model::source::SourceError;
use crate::model::source::shortened;

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Smart HTTP over TLS.
    Https,
    /// Smart HTTP in clear.
    Http,
    /// `git-upload-pack` through the user's ssh, as `ssh://` or `user@host:path`.
    Ssh,
    /// A repository on this machine.
    File,
}

impl Scheme {
    fn default_port(self) -> Option<u16> {
        match self {
            Self::Https => Some(443),
            Self::Http => Some(80),
            Self::Ssh => Some(22),
            Self::File => None,
        }
    }
}

/// The address of a repository. Its `Debug` and `Display` never show a password or query.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct GitLocation {
    scheme: Scheme,
    user: Option<String>,
    password: Option<String>,
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
}

impl GitLocation {
    /// Reads a URL or `[user@]host:path`, without a fragment.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        if text
            .chars()
            .any(|character| character.is_control() || character.is_whitespace())
        {
            return Err(wrong_url(text, "it contains a space or control character"));
        }
        match text.split_once("://") {
            Some((scheme, rest)) => parse_url(text, scheme, rest),
            None if is_scp_like(text) => parse_scp_like(text),
            None => Err(SourceError::Unknown {
                text: shortened(&without_credentials(text)),
            }),
        }
    }

    /// The repository that `./…` or `../…` means beside this one, as submodules write it. Without password and query.
    pub fn relative(&self, text: &str) -> Result<Self, SourceError> {
        let mut parts: Vec<&str> = self.path.trim_end_matches('/').split('/').collect();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    if parts.pop().is_none_or(str::is_empty) {
                        return Err(wrong_url(text, "it leads above the host's root"));
                    }
                }
                part => parts.push(part),
            }
        }
        let path = parts.join("/");
        if path.trim_matches('/').is_empty() || path.starts_with('-') || path.contains(['?', '#']) {
            return Err(wrong_url(text, "it has no path"));
        }
        if path.chars().any(char::is_control) {
            return Err(wrong_url(text, "it contains a control character"));
        }
        let user = self.user.clone().filter(|_| self.scheme == Scheme::Ssh);
        Ok(Self {
            user,
            password: None,
            query: None,
            path,
            ..self.clone()
        })
    }

    /// How it is reached.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The user, if one was given.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, if one was given. For sending to [`Self::host`] only: never stored, logged or labelled.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The host; empty for a file.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if one was given.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path: as written in a http URL, decoded for ssh and files.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The server that answers: scheme, host and port, the scheme's own if none was given.
    pub fn origin(&self) -> (Scheme, &str, Option<u16>) {
        (self.scheme, &self.host, self.port.or(self.scheme.default_port()))
    }

    /// Whether the host is this machine by its name: `localhost` or a loopback address.
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The URL that requests are made to, with its query and without user and password.
    pub fn request_url(&self) -> String {
        let query = self
            .query
            .as_deref()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        format!("{}{query}", self.shown(&self.path))
    }

    /// The repository as labels and caches name it: no user, password, query, default port or `.git`; nothing
    /// for a file, whose path means something on one machine only.
    pub fn canonical_url(&self) -> Option<String> {
        let path = self.path.trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
        let default_port = self.scheme.default_port()?;
        let port = self.port.filter(|port| *port != default_port);
        Some(Self { port, ..self.clone() }.shown(path))
    }

    fn shown(&self, path: &str) -> String {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
            Scheme::Ssh => "ssh",
            Scheme::File => "file",
        };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("{scheme}://{}{port}{slash}{path}", self.host)
    }
}

impl fmt::Display for GitLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown(&self.path))
    }
}

impl fmt::Debug for GitLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

fn parse_url(text: &str, scheme: &str, rest: &str) -> Result<GitLocation, SourceError> {
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        "ssh" | "git+ssh" | "ssh+git" => Scheme::Ssh,
        "file" => Scheme::File,
        _ => return Err(wrong_url(text, "its scheme is none of https, http, ssh and file")),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (path, query) = match path.split_once('?') {
        Some((path, query)) if scheme != Scheme::File => (path, Some(query.to_owned())),
        _ => (path, None),
    };
    if path.trim_matches('/').is_empty() {
        return Err(wrong_url(text, "it has no path"));
    }
    let (user, password, host) = split_user(authority);
    let (host, port) = split_port(host).ok_or_else(|| wrong_url(text, "its port is not a number"))?;
    let path = match scheme {
        Scheme::Https | Scheme::Http => path.to_owned(),
        Scheme::Ssh | Scheme::File => {
            decoded(path).ok_or_else(|| wrong_url(text, "its path is not UTF-8"))?
        }
    };
    let decoded = |part: Option<&str>| part.map(|part| decoded(part).unwrap_or_else(|| part.to_owned()));
    let location = GitLocation {
        scheme,
        user: decoded(user).filter(|user| !user.is_empty()),
        password: decoded(password),
        host: host.to_ascii_lowercase(),
        port,
        path,
        query,
    };
    check_location(text, location)
}

fn parse_scp_like(text: &str) -> Result<GitLocation, SourceError> {
    let (authority, path) = text.split_once(':').unwrap_or((text, ""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, authority),
    };
    if path.is_empty() {
        return Err(wrong_url(text, "it has no path"));
    }
    // `user:password@host:path` would be shown as it is, and a `?` would be a query in the form with a scheme.
    if path.contains('?')
        || path
            .split_once(':')
            .is_some_and(|(before, _)| before.contains('@'))
    {
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        return Err(wrong_url(
            shown,
            "this form takes neither a password nor a `?`; write `ssh://USER@HOST/PATH`",
        ));
    }
    let location = GitLocation {
        scheme: Scheme::Ssh,
        user,
        password: None,
        host: host.to_owned(),
        port: None,
        path: path.to_owned(),
        query: None,
    };
    check_location(text, location)
}

/// What begins with `-` would be an option of ssh or git; git refuses it for the same reason.
fn check_location(text: &str, location: GitLocation) -> Result<GitLocation, SourceError> {
    let odd_user = location.user.as_deref().is_some_and(|user| {
        user.starts_with('-')
            || (location.scheme == Scheme::Ssh && user.contains(['@', ':', '/', '\\', '\'', '"']))
    });
    if location.scheme == Scheme::File {
        return match location.host.as_str() {
            "" | "localhost" => Ok(GitLocation {
                host: String::new(),
                ..location
            }),
            _ => Err(wrong_url(text, "a file is on this machine; write `file:///PATH`")),
        };
    }
    if location.host.is_empty() || !is_host(&location.host) {
        return Err(wrong_url(text, "its host is not a host's name"));
    }
    if odd_user || location.path.starts_with('-') || location.path.contains(['\0', '\n', '\r']) {
        return Err(wrong_url(text, "its user or path is not one that git passes on"));
    }
    if location.scheme == Scheme::Ssh && location.password.is_some() {
        return Err(wrong_url(text, "ssh takes no password from a URL; use a key"));
    }
    Ok(location)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<core::net::Ipv6Addr>().is_ok();
    }
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    host.bytes().all(is_part) && !host.starts_with('-')
}

fn split_user(authority: &str) -> (Option<&str>, Option<&str>, &str) {
    let Some((account, host)) = authority.rsplit_once('@') else {
        return (None, None, authority);
    };
    match account.split_once(':') {
        Some((user, password)) => (Some(user), Some(password), host),
        None => (Some(account), None, host),
    }
}

fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    match host.rsplit_once(':') {
        Some((host, "")) => Some((host, None)),
        Some((host, port)) if !port.contains(']') => Some((host, Some(port.parse().ok()?))),
        _ => Some((host, None)),
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Git's rule: a colon with no slash before it, and not a path that starts like one. `NAME::` would be a program
/// (a remote helper) to git, and is nothing here.
pub(super) fn is_scp_like(text: &str) -> bool {
    text.split_once(':').is_some_and(|(host, path)| {
        !host.is_empty() && !host.contains(['/', '#']) && !host.starts_with('.') && !path.starts_with(':')
    })
}

pub(super) fn wrong_url(text: &str, why: &'static str) -> SourceError {
    SourceError::Url {
        url: shortened(&without_credentials(text)),
        why,
    }
}

/// What a message may show of a text that is no URL: nothing before an `@` that could belong to a user or password.
pub(super) fn without_credentials(text: &str) -> String {
    let (scheme, rest) = text
        .split_once("://")
        .map_or(("", text), |(scheme, rest)| (scheme, rest));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    // A password may hold a slash that should have been escaped.
    let of_password = rest.rfind('@').filter(|position| rest[..*position].contains(':'));
    let start = of_password
        .or_else(|| rest[..authority_end].rfind('@'))
        .map_or(0, |position| position + 1);
    let end = rest.find('?').filter(|end| *end >= start).unwrap_or(rest.len());
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{}", &rest[start..end])
}
