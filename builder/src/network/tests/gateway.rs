//! What a job gets of names and connections.

use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::TcpListener;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::http::dialler::proxy::UpstreamProxy;
use crate::model::policy::NetworkPolicy;
use crate::model::policy::Why;
use crate::network::refusals::Reason;
use crate::network::refusals::Refusal;
use crate::network::tests::Job;
use crate::network::tests::LOCALHOST;
use crate::network::tests::count;
use crate::network::tests::echo;
use crate::network::tests::exchange;
use crate::network::tests::is_reset;
use crate::network::tests::server;
use crate::network::tests::trusting_loopback;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn a_host_is_reached_by_its_name() {
    let port = server(echo);
    let job = Job::public(&[port]);
    let address = job.inside.address_of("Server.Example");
    assert!(address.to_string().starts_with("198.18."), "{address}");
    let mut stream = job.inside.connect(address, port);
    exchange(&mut stream, "hello");
    assert_eq!(job.inside.address_of("server.example."), address);
    assert_eq!(job.gateway.refusals(), []);
    job.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn the_name_server_answers_whatever_address_it_is_asked_at() {
    let job = Job::public(&[]);
    for server in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(8, 8, 8, 8)] {
        let ask = |name, kind| job.inside.ask(server, name, kind);
        assert_eq!(
            ask("server.example", RecordType::AAAA),
            (ResponseCode::NoError, vec![])
        );
        assert_eq!(
            ask("server.example", RecordType::TXT),
            (ResponseCode::NoError, vec![])
        );
        assert_eq!(ask("missing.example", RecordType::A).0, ResponseCode::NXDomain);
        assert_eq!(ask("missing.example", RecordType::AAAA).0, ResponseCode::NXDomain);
        assert_eq!(ask("away.example", RecordType::A).0, ResponseCode::ServFail);
        assert_eq!(
            ask("localhost", RecordType::A),
            (ResponseCode::NoError, vec![LOCALHOST])
        );
        assert_eq!(
            ask("metadata.google.internal", RecordType::A).0,
            ResponseCode::NXDomain
        );
    }
    let refused = job.gateway.refusals();
    let reasons: Vec<_> = refused
        .iter()
        .map(|refusal| (refusal.name.as_deref(), &refusal.why))
        .collect();
    assert_eq!(
        reasons,
        [
            (
                Some("away.example"),
                &Reason::Unreachable("the name server is away".to_owned())
            ),
            (
                Some("metadata.google.internal"),
                &Reason::Policy(Why::MetadataName)
            ),
        ]
    );
    assert_eq!(refused[1].count, 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn private_addresses_are_refused_by_name_and_by_number() {
    for (wanted, name, why) in [
        ("10.0.0.1", None, Reason::Policy(Why::Private)),
        ("169.254.169.254", None, Reason::Policy(Why::Metadata)),
        ("127.0.0.9", None, Reason::Policy(Why::Loopback)),
        ("198.18.77.77", None, Reason::UnknownAddress),
        ("10.0.0.1", Some("rebound.example"), Reason::Policy(Why::Private)),
        (
            "169.254.169.254",
            Some("cloud.example"),
            Reason::Policy(Why::Metadata),
        ),
    ] {
        let job = Job::public(&[443]);
        let wanted: IpAddr = wanted.parse().unwrap();
        let address = name.map_or(wanted, |name| job.inside.address_of(name));
        assert!(is_reset(&mut job.inside.connect(address, 443)), "{wanted}");
        let expected = Refusal {
            asker: None,
            name: name.map(str::to_owned),
            address: Some(wanted),
            port: Some(443),
            why,
            count: 1,
        };
        assert_eq!(job.refusal(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn a_host_that_is_down_gives_a_reset_and_a_reason() {
    // Bound but not listening, so that nobody else gets the port.
    let taken = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&taken, &std::net::SocketAddr::new(LOCALHOST, 0)).unwrap();
    let port = TcpListener::from(taken.try_clone().unwrap())
        .local_addr()
        .unwrap()
        .port();
    let job = Job::public(&[port]);
    let address = job.inside.address_of("server.example");
    assert!(is_reset(&mut job.inside.connect(address, port)));
    let Refusal {
        name,
        why: Reason::Unreachable(why),
        ..
    } = job.refusal()
    else {
        panic!("{:?}", job.gateway.refusals());
    };
    assert_eq!(name.as_deref(), Some("server.example"));
    assert!(why.contains("refused"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn the_end_of_one_direction_is_passed_on() {
    let port = server(count);
    let job = Job::public(&[port]);
    let mut stream = job.inside.connect(LOCALHOST, port);
    stream.write_all(&vec![7; 3_000_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "3000000 bytes");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn a_download_that_breaks_outside_breaks_inside() {
    let port = server(|mut stream| {
        stream.write_all(b"half").unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        // The client's byte says that the first half has arrived.
        stream.read_exact(&mut [0]).unwrap();
    });
    let job = Job::public(&[port]);
    let mut stream = job.inside.connect(LOCALHOST, port);
    let mut half = [0; 4];
    stream.read_exact(&mut half).unwrap();
    stream.write_all(b"!").unwrap();
    assert!(is_reset(&mut stream));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn without_a_network_nothing_is_answered_until_the_policy_changes() {
    let port = server(echo);
    let job = Job::start(&[port], NetworkPolicy::None, UpstreamProxy::default());
    let ask = || {
        job.inside
            .ask(Ipv4Addr::LOCALHOST, "server.example", RecordType::A)
            .0
    };
    assert_eq!(ask(), ResponseCode::NXDomain);
    assert!(is_reset(&mut job.inside.connect(LOCALHOST, port)));
    assert!(
        job.gateway
            .refusals()
            .iter()
            .all(|refusal| refusal.why == Reason::Policy(Why::NoNetwork))
    );

    job.gateway.set_policy(trusting_loopback(&[port]));
    assert_eq!(ask(), ResponseCode::NoError);
    let mut stream = job.inside.connect(job.inside.address_of("server.example"), port);
    exchange(&mut stream, "hello");

    job.gateway.set_policy(NetworkPolicy::None);
    assert!(is_reset(&mut stream), "a connection outlived its policy");
    assert_eq!(ask(), ResponseCode::NXDomain);
}
