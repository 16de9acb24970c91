//! The head of a request to the proxy face: whom it wants, and what is sent on of it (RFC 9110, RFC 9112). Pure.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::dialler::Target;

/// Headers that are for the proxy alone, or that describe this connection (RFC 9110 §7.6.1).
const NOT_SENT_ON: [&str; 6] = [
    "proxy-authorization",
    "proxy-connection",
    "connection",
    "keep-alive",
    "te",
    "host",
];

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProxyRequest {
    /// Whom it wants.
    pub(super) target: Target,
    /// On which port.
    pub(super) port: u16,
    /// The head to send on; none for `CONNECT`, after which bytes are carried as they are.
    pub(super) head: Option<Vec<u8>>,
    /// What the client said of itself: `user:password`.
    pub(super) credentials: Option<Vec<u8>>,
}

/// A head that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotARequest {
    /// The lines are not HTTP/1.
    #[error("the request is not HTTP/1.1")]
    Syntax,
    /// `GET /`: this is no server.
    #[error("this is a proxy: ask for a whole http:// URL, or CONNECT")]
    NotForAProxy,
    /// The host is none, or the port.
    #[error("the request names no host and port")]
    Host,
}

/// Where a head ends, if it does: behind the empty line.
pub(super) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

/// Reads a whole head.
pub(super) fn parse(head: &[u8]) -> Result<ProxyRequest, NotARequest> {
    let text = str::from_utf8(head).map_err(|_| NotARequest::Syntax)?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(wanted), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(NotARequest::Syntax);
    };
    let headers = lines.map(header).collect::<Option<Vec<_>>>();
    let headers = headers.ok_or(NotARequest::Syntax)?;
    let credentials = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"))
        .and_then(|(_, value)| basic(value));
    if method == "CONNECT" {
        let (target, port) = authority(wanted, None)?;
        return Ok(ProxyRequest {
            target,
            port,
            head: None,
            credentials,
        });
    }
    let is_token = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !is_token {
        return Err(NotARequest::Syntax);
    }
    let rest = wanted
        .get(..7)
        .filter(|scheme| scheme.eq_ignore_ascii_case("http://"))
        .map(|_| &wanted[7..])
        .ok_or(NotARequest::NotForAProxy)?;
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let (target, port) = authority(host, Some(80))?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut sent = format!("{method} {slash}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in &headers {
        if !NOT_SENT_ON.iter().any(|left| name.eq_ignore_ascii_case(left)) {
            sent.extend([*name, ": ", value, "\r\n"]);
        }
    }
    sent.push_str("\r\n");
    Ok(ProxyRequest {
        target,
        port,
        head: Some(sent.into_bytes()),
        credentials,
    })
}

/// A name of token characters and a value without control characters; a line that goes on another has neither.
fn header(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(is_token);
    let is_value = value
        .bytes()
        .all(|byte| byte == b'\t' || !byte.is_ascii_control());
    (is_name && is_value).then(|| (name, value.trim()))
}

fn basic(value: &str) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("basic")
        .then(|| STANDARD.decode(encoded.trim()).ok())?
}

/// `host:port`, `[address]:port`.
fn authority(text: &str, port_otherwise: Option<u16>) -> Result<(Target, u16), NotARequest> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().ok().filter(|port| *port > 0))
        }
        _ => (text, port_otherwise),
    };
    let port = port.ok_or(NotARequest::Host)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let target = match (bare, host.parse::<IpAddr>()) {
        (Some(bare), _) => Target::Address(bare.parse().map_err(|_| NotARequest::Host)?),
        (None, Ok(address)) => Target::Address(address),
        (None, Err(_)) if host.is_empty() => return Err(NotARequest::Host),
        (None, Err(_)) => Target::Name(host.to_owned()),
    };
    let target = match target {
        Target::Address(address) => Target::Address(address.to_canonical()),
        name @ Target::Name(_) => name,
    };
    Ok((target, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Target {
        Target::Name(text.to_owned())
    }

    #[test]
    fn a_tunnel_is_asked_for_by_host_and_port() {
        for (wanted, target, port) in [
            ("a.example:443", name("a.example"), 443),
            ("10.0.0.1:80", Target::Address("10.0.0.1".parse().unwrap()), 80),
            (
                "[::ffff:127.0.0.1]:80",
                Target::Address("127.0.0.1".parse().unwrap()),
                80,
            ),
        ] {
            let head = format!("CONNECT {wanted} HTTP/1.1\r\nProxy-Authorization: Basic am9iOng=\r\n\r\n");
            let request = parse(head.as_bytes()).unwrap();
            assert_eq!((request.target, request.port, request.head), (target, port, None));
            assert_eq!(request.credentials.as_deref(), Some(&b"job:x"[..]));
        }
    }

    #[test]
    fn a_whole_url_is_sent_on_without_what_is_for_the_proxy() {
        let head = "POST http://A.example:8080?x=1 HTTP/1.1\r\nHost: evil.example\r\nAccept: */*\r\n\
                    Proxy-Authorization: Basic am9iOng=\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n";
        let request = parse(head.as_bytes()).unwrap();
        assert_eq!((request.target, request.port), (name("A.example"), 8080));
        assert_eq!(
            String::from_utf8(request.head.unwrap()).unwrap(),
            "POST /?x=1 HTTP/1.1\r\nHost: A.example:8080\r\nConnection: close\r\nAccept: */*\r\n\
             Content-Length: 2\r\n\r\n"
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (head, why) in [
            ("", NotARequest::Syntax),
            ("GET http://a/ HTTP/2\r\n\r\n", NotARequest::Syntax),
            ("GET  http://a/ HTTP/1.1\r\n\r\n", NotARequest::Syntax),
            ("GET http://a/ HTTP/1.1\r\nA b: c\r\n\r\n", NotARequest::Syntax),
            (
                "GET http://a/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
                NotARequest::Syntax,
            ),
            (
                "GET http://a/ HTTP/1.1\r\nA: b\nHost: x\r\n\r\n",
                NotARequest::Syntax,
            ),
            ("\x01 http://a/ HTTP/1.1\r\n\r\n", NotARequest::Syntax),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", NotARequest::NotForAProxy),
            ("GET https://a/ HTTP/1.1\r\n\r\n", NotARequest::NotForAProxy),
            ("GET http:// HTTP/1.1\r\n\r\n", NotARequest::Host),
            ("GET http://a:0/ HTTP/1.1\r\n\r\n", NotARequest::Host),
            ("CONNECT a.example HTTP/1.1\r\n\r\n", NotARequest::Host),
            ("CONNECT a:x HTTP/1.1\r\n\r\n", NotARequest::Host),
            ("CONNECT [a]:1 HTTP/1.1\r\n\r\n", NotARequest::Host),
        ] {
            assert_eq!(parse(head.as_bytes()), Err(why), "{head:?}");
        }
    }
}
