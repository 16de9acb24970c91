//! The attacks that need a way out: a job with a real gateway, whose resolver knows what the test says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use futures::future::BoxFuture;
use packhorse::events::Silence;
use packhorse::http::dialler::Dialler;
use packhorse::http::dialler::proxy::UpstreamProxy;
use packhorse::http::dialler::resolver::ResolveError;
use packhorse::http::dialler::resolver::Resolver;
use packhorse::model::policy::NetworkPolicy;
use packhorse::model::policy::PublicPolicy;
use packhorse::network::Sockets;
use packhorse::network::gateway::Gateway;
use packhorse::network::gateway::GatewayLimits;
use packhorse::network::gateway::GatewaySetup;
use packhorse::sandbox;
use packhorse::sandbox::spec::Network;

use crate::attacks::assault;
use crate::attacks::assault::print_attacks;
use crate::attacks::stage::PORT;
use crate::attacks::stage::Stage;

/// Names, and the addresses that they have at the first and at every later question.
const NAMES: [(&str, &str, &str); 9] = [
    ("allowed.example", "10.11.12.2", "10.11.12.2"),
    ("loopback.example", "127.0.0.1", "127.0.0.1"),
    ("private.example", "10.11.12.1", "10.11.12.1"),
    ("metadata.example", "169.254.169.254", "169.254.169.254"),
    ("own.example", "203.0.113.9", "203.0.113.9"),
    ("mapped.example", "::ffff:127.0.0.1", "::ffff:127.0.0.1"),
    ("rebinding.example", "192.0.2.1", "127.0.0.1"),
    ("sub.allowed.example", "10.11.12.1", "10.11.12.1"),
    ("notallowed.example", "10.11.12.1", "10.11.12.1"),
];

/// A port that no victim has.
const PROXY: u16 = 7413;

/// Knows the names, and remembers what it was asked.
#[derive(Debug, Default)]
struct Known(Mutex<HashMap<String, u32>>);

impl Resolver for Known {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        let mut asked = self.0.lock().unwrap();
        let times = asked.entry(name.to_owned()).or_default();
        *times += 1;
        let known = NAMES.iter().find(|(known, _, _)| *known == name);
        let found = known.map(|(_, first, later)| if *times == 1 { first } else { later });
        let found = found.map_or(Err(ResolveError::NotFound), |address| {
            Ok(vec![address.parse().unwrap()])
        });
        Box::pin(async move { found })
    }
}

/// The same where a job's network is the machine's and its one way out a proxy, which nobody listens at here: what is
/// reached, is reached around it.
pub(super) fn by_proxy(stage: &Stage, user: u32, folder: &Path) {
    let network = Network::Proxy {
        port: PROXY,
        variables: Vec::new(),
    };
    let job = sandbox::start(stage.spec(user, network, assault::limits())).unwrap();
    job.open_network();
    print_attacks(&job, stage, user, ("gateway", "gateway"), &[]);
    let hosts = assault::hosts(folder);
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    print_attacks(&job, stage, user, ("network", "gateway-to"), &hosts);
}

/// Every attack on a gateway.
pub(super) fn all(stage: &Stage, user: u32, folder: &Path) {
    let network = Network::Listeners {
        ports: vec![PORT, 2375],
    };
    let job = sandbox::start(stage.spec(user, network, assault::limits())).unwrap();
    let sockets = job.take_sockets().unwrap();
    let resolver = Arc::new(Known::default());
    let policy = PublicPolicy {
        trusted_hosts: vec!["allowed.example".to_owned()],
        ports: vec![PORT],
        denied_suffixes: vec!["tunnel.example".to_owned()],
        ..PublicPolicy::default()
    };
    let setup = GatewaySetup {
        policy: NetworkPolicy::Public(policy),
        dialler: Arc::new(Dialler::new(
            Arc::clone(&resolver) as Arc<dyn Resolver>,
            UpstreamProxy::default(),
        )),
        watcher: Arc::new(Silence),
        limits: GatewayLimits::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let sockets = Sockets {
        tcp: sockets.tcp,
        dns: sockets.dns,
        attempts: sockets.attempts,
    };
    let gateway = runtime
        .block_on(async { Gateway::start(sockets, setup) })
        .unwrap();
    print_attacks(&job, stage, user, ("gateway", "gateway"), &[]);
    let hosts = assault::hosts(folder);
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    print_attacks(&job, stage, user, ("network", "gateway-to"), &hosts);
    runtime.block_on(gateway.stop());
    drop(job);
    let asked = resolver.0.lock().unwrap();
    let tunnelled: Vec<_> = asked.keys().filter(|name| name.contains("tunnel")).collect();
    assert!(tunnelled.is_empty(), "data went out in names: {tunnelled:?}");
    assert!(asked.contains_key("allowed.example"), "nobody was asked anything");
}
