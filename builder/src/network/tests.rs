//! The gateway with a real network namespace inside and servers on loopback outside.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use futures::future::BoxFuture;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::client_hello::tests::client_hello;
use super::gateway::Gateway;
use super::gateway::GatewayLimits;
use super::gateway::GatewaySetup;
use super::namespace::Inside;
use super::publish;
use super::refusals::Reason;
use super::refusals::Refusal;
use crate::events::Silence;
use crate::http::dialler::Dialler;
use crate::http::dialler::proxy::UpstreamProxy;
use crate::http::dialler::resolver::ResolveError;
use crate::http::dialler::resolver::Resolver;
use crate::model::policy::NetworkPolicy;
use crate::model::policy::PublicPolicy;
use crate::model::policy::Why;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Knows what the test says.
#[derive(Debug)]
struct Fixed(HashMap<&'static str, &'static str>);

impl Resolver for Fixed {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        let found = match self.0.get(name) {
            Some(&"") => Err(ResolveError::Temporary {
                why: "the name server is away".to_owned(),
            }),
            Some(address) => Ok(vec![address.parse().unwrap()]),
            None => Err(ResolveError::NotFound),
        };
        Box::pin(async move { found })
    }
}

/// A job and its gateway.
struct Job {
    inside: Inside,
    gateway: Gateway,
}

impl Job {
    /// A job whose servers are all on this machine's loopback, at `ports`.
    fn start(ports: &[u16], policy: NetworkPolicy, proxy: UpstreamProxy) -> Self {
        let inside = Inside::new();
        let names = [
            ("server.example", "127.0.0.1"),
            ("rebound.example", "10.0.0.1"),
            ("cloud.example", "169.254.169.254"),
            ("away.example", ""),
        ];
        let setup = GatewaySetup {
            policy,
            dialler: Arc::new(Dialler::new(Arc::new(Fixed(HashMap::from(names))), proxy)),
            watcher: Arc::new(Silence),
            limits: GatewayLimits::default(),
        };
        let gateway = Gateway::start(inside.sockets(ports), setup).unwrap();
        Self { inside, gateway }
    }

    fn public(ports: &[u16]) -> Self {
        Self::start(ports, trusting_loopback(ports), UpstreamProxy::default())
    }

    /// The only refusal, once there is one.
    fn refusal(&self) -> Refusal {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match &self.gateway.refusals()[..] {
                [refusal] => return refusal.clone(),
                [] if Instant::now() < deadline => thread::yield_now(),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn trusting_loopback(ports: &[u16]) -> NetworkPolicy {
    NetworkPolicy::Public(PublicPolicy {
        trusted_addresses: vec![LOCALHOST],
        ports: ports.to_vec(),
        ..PublicPolicy::default()
    })
}

/// A server on loopback; `serve` gets each connection on a thread of its own.
fn server(serve: fn(TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    port
}

fn echo(mut stream: TcpStream) {
    let mut copy = stream.try_clone().unwrap();
    std::io::copy(&mut copy, &mut stream).ok();
    stream.shutdown(Shutdown::Write).ok();
}

/// Reads to the end first, then answers with the length.
fn count(mut stream: TcpStream) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    write!(stream, "{} bytes", all.len()).unwrap();
}

fn is_reset(stream: &mut TcpStream) -> bool {
    stream
        .read(&mut [0; 16])
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

fn exchange(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, text.as_bytes());
}

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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn a_port_inside_is_published_on_loopback() {
    let inside = Arc::new(Inside::new());
    let port = inside.run(|| server(count));
    let connect_inside = {
        let inside = Arc::clone(&inside);
        Arc::new(move || Ok(inside.connect(LOCALHOST, port).into()))
    };
    let published = publish::serve("127.0.0.1:0".parse().unwrap(), connect_inside)
        .await
        .unwrap();
    let mut stream = TcpStream::connect(published.address()).unwrap();
    stream.write_all(b"four").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "4 bytes");
    let mut unfinished = TcpStream::connect(published.address()).unwrap();
    published.stop().await;
    assert!(is_reset(&mut unfinished));
}

#[tokio::test]
async fn a_port_is_published_on_loopback_only_and_a_job_that_takes_none_gives_a_reset() {
    let refuse: publish::ConnectInside = Arc::new(|| Err(ErrorKind::ConnectionRefused.into()));
    let everywhere = publish::serve("0.0.0.0:0".parse().unwrap(), Arc::clone(&refuse)).await;
    assert!(matches!(
        everywhere,
        Err(publish::PublishError::NotLoopback { .. })
    ));
    let published = publish::serve("127.0.0.1:0".parse().unwrap(), refuse)
        .await
        .unwrap();
    let address = published.address();
    let reset = tokio::task::spawn_blocking(move || is_reset(&mut TcpStream::connect(address).unwrap()));
    assert!(reset.await.unwrap());
}

/// Sockets of this process that live in the namespace of `inside`, as `/proc/self/fd` shows them.
fn sockets_of(inside: &Inside) -> Vec<String> {
    let listed = inside.run(|| {
        let read = |kind| std::fs::read_to_string(format!("/proc/thread-self/net/{kind}")).unwrap();
        ["tcp", "udp"].map(read).concat()
    });
    let inodes = listed.lines().filter_map(|line| line.split_whitespace().nth(9));
    let links: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    still_open(&links)
}

/// Those of `links` of which this process has a descriptor.
fn still_open(links: &[String]) -> Vec<String> {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    open.filter_map(|link| link.to_str().map(str::to_owned))
        .filter(|link| links.contains(link))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn nothing_of_the_job_is_held_after_the_stop() {
    let port = server(echo);
    let job = Job::public(&[port, 443]);
    let address = job.inside.address_of("server.example");
    let mut streams: Vec<_> = (0..20).map(|_| job.inside.connect(address, port)).collect();
    for stream in &mut streams {
        exchange(stream, "hello");
    }
    // Two listeners, the name server, and two ends of each connection.
    let sockets = sockets_of(&job.inside);
    assert_eq!(sockets.len(), 3 + 2 * streams.len());
    job.gateway.stop().await;
    assert_eq!(still_open(&sockets).len(), streams.len());
    assert!(is_reset(&mut streams[0]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn dropping_the_gateway_closes_it_too() {
    let port = server(echo);
    let Job { inside, gateway } = Job::public(&[port]);
    let mut stream = inside.connect(LOCALHOST, port);
    exchange(&mut stream, "hello");
    drop(gateway);
    assert!(is_reset(&mut stream));
}

/// Not a check but a measurement: `cargo test --release throughput -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement; needs root, for a network namespace"]
#[expect(clippy::print_stderr, reason = "the figure is what it is for")]
async fn throughput_of_one_connection() {
    const BYTES: u64 = 4 << 30;
    let port = server(|mut stream| {
        let block = vec![7; 1 << 20];
        for _ in 0..BYTES >> 20 {
            stream.write_all(&block).unwrap();
        }
    });
    let job = Job::public(&[port]);
    for (way, mut stream) in [
        ("direct", TcpStream::connect((LOCALHOST, port)).unwrap()),
        ("gateway", job.inside.connect(LOCALHOST, port)),
    ] {
        let began = Instant::now();
        let mut block = vec![0; 1 << 20];
        let mut received = 0;
        while let Ok(count @ 1..) = stream.read(&mut block) {
            received += count as u64;
        }
        assert_eq!(received, BYTES);
        let seconds = began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a figure for the eye")]
        let rate = received as f64 / seconds / 1e9;
        eprintln!("{way}: {rate:.2} GB/s");
    }
}
