//! The operator's upstream proxy: which connections go through it, and the `CONNECT` that opens a tunnel (RFC 9110
//! §9.3.6). Its credentials are in no message and in no debug text.

use std::fmt;
use std::io;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http::dialler::Target;
use crate::http::dialler::resolver::ResolveError;
use crate::http::dialler::socks;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// The port of a SOCKS proxy whose URL has none.
const SOCKS_PORT: u16 = 1080;
/// Head of a proxy's answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// The operator's proxy settings, in the meaning of `http_proxy`, `https_proxy` and `no_proxy`.
#[derive(Clone, Default)]
pub struct UpstreamProxy {
    /// For port 80.
    pub http: Option<Url>,
    /// For every other port.
    pub https: Option<Url>,
    /// Reached directly: `*`, a domain with all below it (`corp.example`, `.corp.example`), an address, or a network
    /// (`10.0.0.0/8`) for literal addresses; each with an optional `:port`.
    pub no_proxy: Vec<String>,
}

impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UpstreamProxy")
            .field("http", &self.http.as_ref().map(without_credentials))
            .field("https", &self.https.as_ref().map(without_credentials))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// A proxy that made no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The URL cannot be used.
    #[error("`{proxy}` is not a proxy that can be used: `http://HOST[:PORT]` and `socks5://HOST[:PORT]` are")]
    Unusable {
        /// The URL without credentials.
        proxy: String,
    },
    /// Its name has no address.
    #[error("cannot resolve `{name}`: {source}")]
    Resolve {
        /// The proxy's name.
        name: String,
        /// What the resolver said.
        source: ResolveError,
    },
    /// It cannot be reached.
    #[error("cannot connect to `{proxy}`: {source}")]
    Connect {
        /// The URL without credentials.
        proxy: String,
        /// The kernel's words.
        source: io::Error,
    },
    /// The connection broke, or its answer is not HTTP.
    #[error("`{proxy}` gave no answer to CONNECT: {source}")]
    Answer {
        /// The URL without credentials.
        proxy: String,
        /// What was wrong.
        source: io::Error,
    },
    /// It does not take the user and password of its URL, or wants some.
    #[error("`{proxy}` does not accept the user and password of its URL")]
    Unauthorized {
        /// The URL without credentials.
        proxy: String,
    },
    /// A SOCKS proxy said no.
    #[error("`{proxy}` made no connection: {why}")]
    Socks {
        /// The URL without credentials.
        proxy: String,
        /// What its answer means.
        why: &'static str,
    },
    /// It said no.
    #[error("`{proxy}` answered {status} to CONNECT")]
    Refused {
        /// The URL without credentials.
        proxy: String,
        /// The status.
        status: u16,
    },
}

impl Failure for ProxyError {
    fn facts(&self) -> Facts {
        match self {
            Self::Unusable { .. } => Facts::platform("proxy_unusable"),
            Self::Resolve { source, .. } => source.facts(),
            Self::Connect { .. } | Self::Answer { .. } => Facts::temporary("proxy_unreachable"),
            Self::Unauthorized { .. } => Facts::platform("proxy_unauthorized"),
            Self::Refused {
                status: 500..=599, ..
            } => Facts::temporary("proxy_refused"),
            Self::Refused { .. } | Self::Socks { .. } => Facts::platform("proxy_refused"),
        }
    }
}

impl UpstreamProxy {
    /// The proxy through which a connection goes; none: it is dialled directly.
    pub(super) fn route(&self, target: &Target, port: u16) -> Option<&Url> {
        let proxy = if port == 80 {
            self.http.as_ref()
        } else {
            self.https.as_ref()
        };
        proxy.filter(|_| !self.is_direct(target, Some(port)))
    }

    /// Whether a proxy resolves this name on any port.
    pub(super) fn covers(&self, name: &str) -> bool {
        (self.http.is_some() || self.https.is_some()) && !self.is_direct(&Target::Name(name.to_owned()), None)
    }

    /// Whether `no_proxy` names the target. Without a port only entries without one count.
    fn is_direct(&self, target: &Target, port: Option<u16>) -> bool {
        self.no_proxy.iter().any(|entry| {
            let (host, entry_port) = split_port(entry.trim());
            if entry_port.is_some() && entry_port != port {
                return false;
            }
            match target {
                _ if host == "*" => true,
                Target::Name(name) => is_below(name, host),
                Target::Address(address) => is_within(*address, host),
            }
        })
    }
}

/// `host:443`, `[::1]:443`, and `::1`, which has no port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
        _ => (entry, None),
    };
    let host = if port.is_some() { host } else { entry };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

fn is_below(name: &str, domain: &str) -> bool {
    let domain = domain
        .trim_start_matches('*')
        .trim_matches('.')
        .to_ascii_lowercase();
    let front = name.trim_end_matches('.').to_ascii_lowercase();
    !domain.is_empty()
        && front
            .strip_suffix(&domain)
            .is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// Whether an address equals `written`, or lies in it as a network.
fn is_within(address: IpAddr, written: &str) -> bool {
    let Some((network, length)) = written.split_once('/') else {
        return written.parse() == Ok(address);
    };
    let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

/// Where a proxy listens.
pub(super) fn address_of(proxy: &Url) -> Result<(Target, u16), ProxyError> {
    let unusable = || ProxyError::Unusable {
        proxy: without_credentials(proxy),
    };
    let port = match proxy.scheme() {
        "http" => 80,
        "socks5" | "socks5h" => SOCKS_PORT,
        _ => return Err(unusable()),
    };
    let host = proxy.host_str().ok_or_else(unusable)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let target = bare
        .parse()
        .map_or_else(|_| Target::Name(host.to_owned()), Target::Address);
    Ok((target, proxy.port().unwrap_or(port)))
}

/// `http://HOST:PORT` of a proxy.
pub(super) fn without_credentials(proxy: &Url) -> String {
    let host = proxy.host_str().unwrap_or_default();
    match proxy.port() {
        Some(port) => format!("{}://{host}:{port}", proxy.scheme()),
        None => format!("{}://{host}", proxy.scheme()),
    }
}

/// Asks the proxy for a tunnel. Afterwards the stream is the target's; no byte of it has been read.
pub(super) async fn open_tunnel(
    stream: &mut TcpStream,
    proxy: &Url,
    target: &Target,
    port: u16,
) -> Result<(), ProxyError> {
    if proxy.scheme() != "http" {
        return socks::open_tunnel(stream, proxy, target, port).await;
    }
    let broken = |source| ProxyError::Answer {
        proxy: without_credentials(proxy),
        source,
    };
    let authority = match target {
        Target::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{target}:{port}"),
    };
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(credentials) = credentials(proxy) {
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(&credentials);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let head = read_head(stream).await.map_err(broken)?;
    let odd = || {
        broken(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is not HTTP",
        ))
    };
    match status(&head).ok_or_else(odd)? {
        200..=299 => Ok(()),
        407 => Err(ProxyError::Unauthorized {
            proxy: without_credentials(proxy),
        }),
        status => Err(ProxyError::Refused {
            proxy: without_credentials(proxy),
            status,
        }),
    }
}

/// The head of an answer, up to the empty line. It is looked at before it is taken, so that the first bytes of a
/// server that speaks first (ssh) stay in the stream.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut seen = [0_u8; 1024];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = head.len();
        head.extend_from_slice(&seen[..count]);
        let end = head
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .map(|position| position + 4);
        if let Some(end) = end {
            head.truncate(end);
        }
        let taken = head.len() - before;
        stream.read_exact(&mut seen[..taken]).await?;
        if end.is_some() {
            return Ok(head);
        }
        if head.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer's head has no end",
            ));
        }
    }
}

/// `HTTP/1.1 200 Connection established` → 200.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

/// `user:password` of the URL in base 64, none if it has no user.
fn credentials(proxy: &Url) -> Option<String> {
    let (user, password) = user_and_password(proxy)?;
    Some(STANDARD.encode([user, b":".to_vec(), password].concat()))
}

/// Both as bytes, none if the URL has neither.
pub(super) fn user_and_password(proxy: &Url) -> Option<(Vec<u8>, Vec<u8>)> {
    if proxy.username().is_empty() && proxy.password().is_none() {
        return None;
    }
    let password = proxy.password().unwrap_or_default();
    Some((decode_percent(proxy.username()), decode_percent(password)))
}

fn decode_percent(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if let (b'%', Some(high), Some(low)) = (byte, digit(at + 1), digit(at + 2)) {
            decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(no_proxy: &[&str]) -> UpstreamProxy {
        UpstreamProxy {
            http: None,
            https: Some("http://ann:p%40ss@proxy.example:3128".parse().unwrap()),
            no_proxy: no_proxy.iter().map(|&entry| entry.to_owned()).collect(),
        }
    }

    #[test]
    fn no_proxy_names_what_is_dialled_directly() {
        let settings = settings(&[
            "corp.example",
            ".lab.example",
            "10.0.0.0/8",
            "192.0.2.1",
            "fd00::/8",
            "only.example:8443",
            "",
        ]);
        for (host, port, direct) in [
            ("corp.example", 443, true),
            ("git.corp.example", 443, true),
            ("notcorp.example", 443, false),
            ("a.lab.example", 443, true),
            ("only.example", 8443, true),
            ("only.example", 443, false),
            ("10.1.2.3", 443, true),
            ("11.1.2.3", 443, false),
            ("192.0.2.1", 443, true),
            ("192.0.2.2", 443, false),
            ("fd12::1", 443, true),
            ("2001:db8::1", 443, false),
            ("plain.example", 80, true),
        ] {
            let target = host
                .parse()
                .map_or_else(|_| Target::Name(host.to_owned()), Target::Address);
            assert_eq!(settings.route(&target, port).is_none(), direct, "{host}:{port}");
        }
        assert!(settings.covers("other.example"));
        assert!(settings.covers("only.example"));
        assert!(!settings.covers("git.corp.example"));
        assert!(!UpstreamProxy::default().covers("other.example"));
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let settings = settings(&[]);
        let url = settings.https.as_ref().unwrap();
        assert_eq!(STANDARD.decode(credentials(url).unwrap()).unwrap(), b"ann:p@ss");
        assert_eq!(without_credentials(url), "http://proxy.example:3128");
        let shown = format!("{settings:?}");
        assert!(
            !shown.contains("ann") && !shown.contains("p%40ss") && !shown.contains("p@ss"),
            "{shown}"
        );
        assert_eq!(credentials(&"http://proxy.example".parse().unwrap()), None);
    }

    #[test]
    fn a_status_line_is_read() {
        for (head, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some(200)),
            ("HTTP/1.0 407\r\n\r\n", Some(407)),
            ("SSH-2.0-x\r\n\r\n", None),
            ("HTTP/1.1 yes\r\n\r\n", None),
        ] {
            assert_eq!(status(head.as_bytes()), expected, "{head}");
        }
    }

    #[test]
    fn only_plain_proxies_are_usable() {
        assert!(address_of(&"https://proxy.example".parse().unwrap()).is_err());
        let (target, port) = address_of(&"http://[::1]:3128".parse().unwrap()).unwrap();
        assert_eq!((target, port), (Target::Address("::1".parse().unwrap()), 3128));
    }
}
