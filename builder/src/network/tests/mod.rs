//! The gateway with a real network namespace inside and servers on loopback outside.

mod namespace;
mod gateway;
mod upstream_proxy;
mod published;
mod closing;
mod proxy_face;
mod version_6;
mod limits;
mod throughput;

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

use crate::events::Silence;
use crate::http::dialler::Dialler;
use crate::http::dialler::proxy::UpstreamProxy;
use crate::http::dialler::resolver::ResolveError;
use crate::http::dialler::resolver::Resolver;
use crate::model::policy::NetworkPolicy;
use crate::model::policy::PublicPolicy;
use crate::network::Sockets;
use crate::network::gateway::Gateway;
use crate::network::gateway::GatewayLimits;
use crate::network::gateway::GatewaySetup;
use crate::network::refusals::Refusal;
use crate::network::tests::namespace::Inside;

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
        Self::start_limited(ports, policy, proxy, GatewayLimits::default())
    }

    fn start_limited(
        ports: &[u16],
        policy: NetworkPolicy,
        proxy: UpstreamProxy,
        limits: GatewayLimits,
    ) -> Self {
        let inside = Inside::new();
        let sockets = inside.sockets(ports);
        Self::with_sockets(inside, sockets, policy, proxy, limits)
    }

    /// A job whose connections to IPv6 addresses are taken too.
    fn of_both(ports: &[u16], policy: NetworkPolicy) -> Self {
        let inside = Inside::new();
        let sockets = inside.sockets_of_both(ports);
        Self::with_sockets(
            inside,
            sockets,
            policy,
            UpstreamProxy::default(),
            GatewayLimits::default(),
        )
    }

    fn with_sockets(
        inside: Inside,
        sockets: Sockets,
        policy: NetworkPolicy,
        proxy: UpstreamProxy,
        limits: GatewayLimits,
    ) -> Self {
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
            limits,
        };
        let gateway = Gateway::start(sockets, setup).unwrap();
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
fn server(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
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
