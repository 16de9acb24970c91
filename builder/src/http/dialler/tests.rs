//! The dialler against real sockets on loopback.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use futures::future::BoxFuture;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::model::policy::PublicPolicy;

/// Knows what the test says; counts the questions.
#[derive(Debug, Default)]
struct Fixed {
    addresses: Mutex<HashMap<String, Vec<IpAddr>>>,
    questions: AtomicUsize,
}

impl Fixed {
    fn with(names: &[(&str, &[&str])]) -> Arc<Self> {
        let fixed = Self::default();
        for (name, addresses) in names {
            fixed.set(name, addresses);
        }
        Arc::new(fixed)
    }

    fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.addresses.lock().unwrap().insert(name.to_owned(), addresses);
    }
}

impl Resolver for Fixed {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let found = self.addresses.lock().unwrap().get(name).cloned();
        Box::pin(async move { found.ok_or(ResolveError::NotFound) })
    }
}

async fn echo_server(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.ok();
            });
        }
    });
    port
}

async fn says_back(stream: &mut TcpStream, text: &str) -> bool {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await.unwrap();
    answer == text.as_bytes()
}

fn policy(ports: &[u16], trusted: &[&str]) -> NetworkPolicy {
    NetworkPolicy::Public(PublicPolicy {
        ports: ports.to_vec(),
        trusted_addresses: trusted.iter().map(|text| text.parse().unwrap()).collect(),
        ..PublicPolicy::default()
    })
}

fn name(text: &str) -> Target {
    Target::Name(text.to_owned())
}

fn refused(result: &Result<TcpStream, DialError>) -> Option<Why> {
    match result {
        Err(DialError::Refused { why, .. }) => Some(*why),
        _ => None,
    }
}

#[tokio::test]
async fn a_name_is_resolved_once_and_dialled() {
    let port = echo_server("127.0.0.1").await;
    let resolver = Fixed::with(&[("a.example", &["127.0.0.1"])]);
    let dialler = Dialler::new(resolver.clone(), UpstreamProxy::default());
    for written in ["a.example", "A.Example."] {
        let mut stream = dialler
            .dial(&name(written), port, &policy(&[port], &["127.0.0.1"]))
            .await
            .unwrap();
        assert!(says_back(&mut stream, "hello").await);
    }
    assert_eq!(resolver.questions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_untrusted_loopback_is_refused_by_name_and_by_address() {
    let port = echo_server("127.0.0.1").await;
    let dialler = Dialler::new(
        Fixed::with(&[("a.example", &["127.0.0.1"])]),
        UpstreamProxy::default(),
    );
    let policy = policy(&[port], &[]);
    let result = dialler.dial(&name("a.example"), port, &policy).await;
    let Err(DialError::Refused {
        why: Why::Loopback,
        address,
        ..
    }) = &result
    else {
        panic!("{result:?}");
    };
    assert_eq!(*address, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    assert!(!result.unwrap_err().to_string().contains("127.0.0.1"));
    let literal = Target::Address(Ipv4Addr::LOCALHOST.into());
    assert_eq!(
        refused(&dialler.dial(&literal, port, &policy).await),
        Some(Why::Loopback)
    );
}

#[tokio::test]
async fn a_name_that_turns_private_is_refused_at_the_next_dial() {
    let port = echo_server("127.0.0.1").await;
    let resolver = Fixed::with(&[("turning.example", &["127.0.0.1"])]);
    let dialler = Dialler::new(resolver.clone(), UpstreamProxy::default());
    let policy = policy(&[port], &["127.0.0.1"]);
    dialler
        .dial(&name("turning.example"), port, &policy)
        .await
        .unwrap();
    resolver.set("turning.example", &["10.0.0.1"]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert_eq!(
        refused(&dialler.dial(&name("turning.example"), port, &policy).await),
        Some(Why::Private)
    );
}

#[tokio::test]
async fn only_the_allowed_addresses_of_a_name_are_dialled() {
    let port = echo_server("127.0.0.1").await;
    let mixed: &[&str] = &["10.0.0.1", "169.254.169.254", "127.0.0.1", "::1"];
    let dialler = Dialler::new(Fixed::with(&[("mixed.example", mixed)]), UpstreamProxy::default());
    let stream = dialler
        .dial(&name("mixed.example"), port, &policy(&[port], &["127.0.0.1"]))
        .await
        .unwrap();
    assert_eq!(stream.peer_addr().unwrap().ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_fails() {
    let port = echo_server("127.0.0.2").await;
    let both: &[&str] = &["127.0.0.1", "127.0.0.2"];
    let dialler = Dialler::new(Fixed::with(&[("both.example", both)]), UpstreamProxy::default());
    let stream = dialler
        .dial(&name("both.example"), port, &policy(&[port], both))
        .await
        .unwrap();
    assert_eq!(
        stream.peer_addr().unwrap().ip(),
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))
    );
}

#[tokio::test]
async fn missing_names_bad_names_ports_and_metadata_names_are_told_apart() {
    let dialler = Dialler::new(Fixed::with(&[("none.example", &[])]), UpstreamProxy::default());
    let policy = policy(&[443], &[]);
    for missing in ["missing.example", "none.example"] {
        let result = dialler.dial(&name(missing), 443, &policy).await;
        let is_missing = matches!(
            result,
            Err(DialError::Resolve {
                source: ResolveError::NotFound,
                ..
            })
        );
        assert!(is_missing, "{missing}: {result:?}");
    }
    for (target, port, why) in [
        ("a\r\nb.example", 443, Why::NotAName),
        ("a.example", 25, Why::Port),
        ("metadata.google.internal", 443, Why::MetadataName),
    ] {
        assert_eq!(
            refused(&dialler.dial(&name(target), port, &policy).await),
            Some(why),
            "{target}"
        );
    }
    let none = dialler.dial(&name("a.example"), 443, &NetworkPolicy::None).await;
    assert_eq!(refused(&none), Some(Why::NoNetwork));
}

/// Takes one `CONNECT`, gives `answer`, and then plays a server that speaks first. The request comes back.
async fn proxy(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let request = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, request)
}

fn through(port: u16) -> UpstreamProxy {
    UpstreamProxy {
        http: None,
        https: Some(format!("http://ann:s%20cret@127.0.0.1:{port}").parse().unwrap()),
        no_proxy: Vec::new(),
    }
}

#[tokio::test]
async fn a_tunnel_is_asked_for_with_credentials_and_no_lookup() {
    let (port, request) = proxy("HTTP/1.1 200 OK\r\nX: y\r\n\r\nSSH-2.0-server\r\n").await;
    let resolver = Fixed::with(&[]);
    let dialler = Dialler::new(resolver.clone(), through(port));
    let mut stream = dialler
        .dial(&name("Git.Example"), 22, &policy(&[22], &[]))
        .await
        .unwrap();
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "SSH-2.0-server\r\n");
    assert_eq!(
        request.await.unwrap(),
        "CONNECT git.example:22 HTTP/1.1\r\nHost: git.example:22\r\nProxy-Authorization: Basic YW5uOnMgY3JldA==\r\n\r\n"
    );
    assert_eq!(resolver.questions.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_refusal_of_the_proxy_names_it_without_its_credentials() {
    let (port, _request) = proxy("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    let dialler = Dialler::new(Fixed::with(&[]), through(port));
    let error = dialler
        .dial(&name("git.example"), 443, &policy(&[443], &[]))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot reach `git.example` port 443 through the upstream proxy: \
             `http://127.0.0.1:{port}` does not accept the user and password of its URL"
        )
    );
    let shown = format!("{error:?} {dialler:?}");
    assert!(!shown.contains("cret"), "{shown}");
}

#[tokio::test]
async fn the_proxy_is_not_asked_for_literals_and_local_names() {
    let dialler = Dialler::new(Fixed::with(&[]), through(9));
    let policy = policy(&[443], &[]);
    let literal = Target::Address("1.1.1.1".parse().unwrap());
    assert_eq!(
        refused(&dialler.dial(&literal, 443, &policy).await),
        Some(Why::LiteralBehindProxy)
    );
    assert_eq!(
        refused(&dialler.dial(&name("intranet"), 443, &policy).await),
        Some(Why::LocalName)
    );
    assert_eq!(dialler.check_name("127.1", &policy), Err(Why::LiteralBehindProxy));
}

/// A SOCKS5 proxy that takes `ann` with `s3cret`, says hello as the target, and gives back what it was asked.
async fn socks_proxy() -> (u16, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 2];
        stream.read_exact(&mut greeting).await.unwrap();
        let mut methods = vec![0; usize::from(greeting[1])];
        stream.read_exact(&mut methods).await.unwrap();
        if !methods.contains(&2) {
            stream.write_all(&[5, 0xff]).await.unwrap();
            return methods;
        }
        stream.write_all(&[5, 2]).await.unwrap();
        let mut login = vec![0; 2 + 3 + 1 + 6];
        stream.read_exact(&mut login).await.unwrap();
        if login != b"\x01\x03ann\x06s3cret" {
            stream.write_all(&[1, 1]).await.unwrap();
            return login;
        }
        stream.write_all(&[1, 0]).await.unwrap();
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.unwrap();
        let mut rest = vec![0; usize::from(head[4]) + 2];
        stream.read_exact(&mut rest).await.unwrap();
        let status = u8::from(rest.starts_with(b"denied")) * 2;
        let answer = [5, status, 0, 3, 2, b'n', b'n', 0, 80];
        stream.write_all(&answer).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        [&head[..], &rest].concat()
    });
    (port, asked)
}

fn through_socks(port: u16, login: &str) -> UpstreamProxy {
    UpstreamProxy {
        https: Some(format!("socks5://{login}127.0.0.1:{port}").parse().unwrap()),
        ..UpstreamProxy::default()
    }
}

#[tokio::test]
async fn a_socks_proxy_is_asked_by_name_with_user_and_password() {
    let (port, asked) = socks_proxy().await;
    let dialler = Dialler::new(Fixed::with(&[]), through_socks(port, "ann:s3cret@"));
    let mut stream = dialler
        .dial(&name("a.example"), 443, &policy(&[443], &[]))
        .await
        .unwrap();
    let mut said = [0; 5];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello");
    assert_eq!(asked.await.unwrap(), b"\x05\x01\x00\x03\x09a.example\x01\xbb");
}

#[tokio::test]
async fn a_socks_proxy_that_says_no_is_named_without_its_password() {
    for (login, host, words, code) in [
        (
            "ann:wrong!@",
            "a.example",
            "does not accept the user and password of its URL",
            "proxy_unauthorized",
        ),
        (
            "",
            "a.example",
            "does not accept the user and password of its URL",
            "proxy_unauthorized",
        ),
        (
            "ann:s3cret@",
            "denied.example",
            "made no connection: its rules do not allow it",
            "proxy_refused",
        ),
    ] {
        // The wrong password is as long as the right one, so that the proxy reads it whole.
        let (port, _asked) = socks_proxy().await;
        let dialler = Dialler::new(Fixed::with(&[]), through_socks(port, login));
        let error = dialler
            .dial(&name(host), 443, &policy(&[443], &[]))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot reach `{host}` port 443 through the upstream proxy: `socks5://127.0.0.1:{port}` {words}"
            )
        );
        assert_eq!(error.facts().code, code);
    }
}
