//! The proxy face: who may use it, what it asks the policy, and what it says.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::events::Silence;
use crate::http::dialler::Dialler;
use crate::http::dialler::proxy::UpstreamProxy;
use crate::model::policy::NetworkPolicy;
use crate::model::policy::Why;
use crate::network::gateway::Gateway;
use crate::network::gateway::GatewayLimits;
use crate::network::gateway::GatewaySetup;
use crate::network::proxy_face;
use crate::network::proxy_face::Entrance;
use crate::network::refusals::Reason;
use crate::network::tests::Fixed;
use crate::network::tests::echo;
use crate::network::tests::exchange;
use crate::network::tests::server;
use crate::network::tests::trusting_loopback;

fn start(policy: NetworkPolicy) -> (Gateway, Entrance) {
    let names = [("server.example", "127.0.0.1"), ("rebound.example", "10.0.0.1")];
    let setup = GatewaySetup {
        policy,
        dialler: Arc::new(Dialler::new(
            Arc::new(Fixed(names.into())),
            UpstreamProxy::default(),
        )),
        watcher: Arc::new(Silence),
        limits: GatewayLimits::default(),
    };
    proxy_face::start(setup).unwrap()
}

/// The port and the header of a job's credential.
fn parts(entrance: &Entrance) -> (u16, String) {
    let url: reqwest::Url = entrance.url().parse().unwrap();
    let credential = format!("{}:{}", url.username(), url.password().unwrap());
    let header = format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(credential));
    (url.port().unwrap(), header)
}

fn connect(port: u16, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

fn whole_answer(port: u16, text: &str) -> String {
    let mut answer = String::new();
    connect(port, text).read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_job_itself_goes_out() {
    let there = server(echo);
    let (gateway, entrance) = start(trusting_loopback(&[there]));
    let (port, header) = parts(&entrance);
    let wrong = format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode("job:guess"));
    for credential in ["", wrong.as_str()] {
        let answer = whole_answer(
            port,
            &format!("CONNECT server.example:{there} HTTP/1.1\r\n{credential}\r\n"),
        );
        assert!(answer.starts_with("HTTP/1.1 407 "), "{answer}");
        assert!(answer.contains("Proxy-Authenticate: Basic "), "{answer}");
    }
    let mut stream = connect(
        port,
        &format!("CONNECT server.example:{there} HTTP/1.1\r\n{header}\r\n"),
    );
    let mut head = vec![0; b"HTTP/1.1 200 Connection established\r\n\r\n".len()];
    stream.read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"HTTP/1.1 200 "));
    exchange(&mut stream, "hello");
    assert_eq!(gateway.refusals(), []);
    gateway.set_policy(NetworkPolicy::None);
    assert!(stream.read(&mut [0]).is_err(), "a tunnel outlived its policy");
    gateway.stop().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_the_same_and_what_it_refuses_is_said_and_kept() {
    let (gateway, entrance) = start(trusting_loopback(&[443]));
    let (port, header) = parts(&entrance);
    gateway.set_asker("a@1");
    for (wanted, why) in [
        ("rebound.example:443", Why::Private),
        ("10.0.0.1:443", Why::Private),
        ("[::ffff:169.254.169.254]:443", Why::Metadata),
        ("metadata.google.internal:443", Why::MetadataName),
        ("server.example:8080", Why::Port),
    ] {
        let answer = whole_answer(port, &format!("CONNECT {wanted} HTTP/1.1\r\n{header}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{wanted}: {answer}");
        assert!(answer.contains(&why.to_string()), "{wanted}: {answer}");
        let refusals = gateway.refusals();
        let last = refusals.last().unwrap();
        assert_eq!(last.why, Reason::Policy(why), "{wanted}");
        assert_eq!(last.asker.as_deref(), Some("a@1"));
    }
    let answer = whole_answer(
        port,
        &format!("CONNECT missing.example:443 HTTP/1.1\r\n{header}\r\n"),
    );
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_url_is_fetched_and_the_server_sees_no_credential() {
    let there = server(|mut stream| {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            .unwrap();
        stream.write_all(&seen).unwrap();
    });
    let (_gateway, entrance) = start(trusting_loopback(&[there]));
    let (port, header) = parts(&entrance);
    let request = format!("GET http://server.example:{there}/a?b HTTP/1.1\r\nHost: x\r\n{header}\r\n");
    let answer = whole_answer(port, &request);
    let expected = format!("GET /a?b HTTP/1.1\r\nHost: server.example:{there}\r\nConnection: close\r\n\r\n");
    assert!(answer.ends_with(&expected), "{answer}");
    let answer = whole_answer(port, &format!("GET / HTTP/1.1\r\n{header}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_an_end_is_cut() {
    let (_gateway, entrance) = start(NetworkPolicy::None);
    let (port, _) = parts(&entrance);
    let mut stream = connect(port, "GET http://a.example/ HTTP/1.1\r\n");
    let line = format!("X: {}\r\n", "y".repeat(1000));
    let cut = (0..1000).any(|_| stream.write_all(line.as_bytes()).is_err());
    assert!(cut || stream.read(&mut [0]).map_or(true, |count| count == 0));
}

#[tokio::test]
async fn the_variables_have_the_url_and_leave_loopback_out() {
    let (_gateway, entrance) = start(NetworkPolicy::None);
    let variables: std::collections::BTreeMap<_, _> = entrance.variables().into_iter().collect();
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        assert_eq!(variables[name], entrance.url());
    }
    assert_eq!(variables["no_proxy"], "localhost,127.0.0.1,::1");
    let port = parts(&entrance).0;
    assert!(variables["JAVA_TOOL_OPTIONS"].contains(&format!("-Dhttps.proxyPort={port} ")));
    assert_eq!(
        format!("{entrance:?}"),
        format!("Entrance {{ port: {port}, .. }}")
    );
    assert_ne!(
        entrance.url(),
        start(NetworkPolicy::None).1.url(),
        "each job has its own password"
    );
}
