//! What a job gets where the operator has an upstream proxy.

use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::http::dialler::proxy::UpstreamProxy;
use crate::model::policy::NetworkPolicy;
use crate::model::policy::PublicPolicy;
use crate::model::policy::Why;
use crate::network::client_hello::tests::client_hello;
use crate::network::refusals::Reason;
use crate::network::tests::Job;
use crate::network::tests::echo;
use crate::network::tests::is_reset;
use crate::network::tests::server;

/// A proxy that tunnels `CONNECT secure.example:443` to itself and plays an echo server there.
fn upstream_proxy() -> UpstreamProxy {
    let port = server(|mut stream| {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let request = String::from_utf8(request).unwrap();
        assert!(
            request.starts_with("CONNECT secure.example:443 HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("\r\nProxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"),
            "{request}"
        );
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        echo(stream);
    });
    UpstreamProxy {
        https: Some(format!("http://ann:secret@127.0.0.1:{port}").parse().unwrap()),
        ..UpstreamProxy::default()
    }
}

fn job_behind_a_proxy() -> Job {
    Job::start(
        &[443],
        NetworkPolicy::Public(PublicPolicy::default()),
        upstream_proxy(),
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn behind_a_proxy_the_server_name_must_be_the_name_asked_for() {
    for (sent, why) in [
        (client_hello("secure.example"), None),
        (
            client_hello("other.example"),
            Some(Reason::ServerName {
                found: Some("other.example".to_owned()),
            }),
        ),
        (
            client_hello("192.0.2.1"),
            Some(Reason::ServerName { found: None }),
        ),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Some(Reason::NotTls)),
    ] {
        let job = job_behind_a_proxy();
        let mut stream = job.inside.connect(job.inside.address_of("secure.example"), 443);
        stream.write_all(&sent).unwrap();
        if let Some(why) = why {
            assert!(is_reset(&mut stream), "{why}");
            assert_eq!(job.refusal().why, why);
        } else {
            let mut answer = vec![0; sent.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, sent);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn behind_a_proxy_literal_addresses_and_local_names_are_refused() {
    let job = job_behind_a_proxy();
    assert!(is_reset(&mut job.inside.connect("1.1.1.1".parse().unwrap(), 443)));
    assert_eq!(job.refusal().why, Reason::Policy(Why::LiteralBehindProxy));
    let (code, _) = job.inside.ask(Ipv4Addr::LOCALHOST, "intranet", RecordType::A);
    assert_eq!(code, ResponseCode::NXDomain);
}
