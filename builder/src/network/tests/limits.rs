//! What a job may use of its gateway.

use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::http::dialler::proxy::UpstreamProxy;
use crate::network::gateway::GatewayLimits;
use crate::network::refusals::Reason;
use crate::network::tests::Job;
use crate::network::tests::LOCALHOST;
use crate::network::tests::server;
use crate::network::tests::trusting_loopback;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn connections_over_the_limit_wait_and_are_served() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let port = server({
        let most = Arc::clone(&most);
        move |mut stream: TcpStream| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            stream.read_to_end(&mut Vec::new()).unwrap();
            now.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(b"done").unwrap();
        }
    });
    let limits = GatewayLimits {
        connections_max: 2,
        ..GatewayLimits::default()
    };
    let job = Job::start_limited(
        &[port],
        trusting_loopback(&[port]),
        UpstreamProxy::default(),
        limits,
    );
    let streams: Vec<_> = (0..8).map(|_| job.inside.connect(LOCALHOST, port)).collect();
    let clients = streams.into_iter().map(|mut stream| {
        thread::spawn(move || {
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
    });
    for client in clients.collect::<Vec<_>>() {
        assert_eq!(client.join().unwrap(), "done");
    }
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn names_over_the_limit_are_not_answered() {
    let limits = GatewayLimits {
        names_max: 1,
        ..GatewayLimits::default()
    };
    let job = Job::start_limited(&[], trusting_loopback(&[]), UpstreamProxy::default(), limits);
    let first = job.inside.address_of("server.example");
    let (code, _) = job
        .inside
        .ask(Ipv4Addr::LOCALHOST, "rebound.example", RecordType::A);
    assert_eq!(code, ResponseCode::ServFail);
    assert_eq!(job.refusal().why, Reason::TooManyNames);
    assert_eq!(job.inside.address_of("server.example"), first);
}
