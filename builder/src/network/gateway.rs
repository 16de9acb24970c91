//! One job's gateway: its listeners, its name server and the policy that is in force.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::net::UdpSocket as StdUdpSocket;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::events::Watcher;
use crate::http::dialler::Dialler;
use crate::http::dialler::proxy::UpstreamProxy;
use crate::http::dialler::resolver::SystemResolver;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::policy::NetworkPolicy;
use crate::network::Sockets;
use crate::network::answers;
use crate::network::answers::Pace;
use crate::network::attempts;
use crate::network::connection;
use crate::network::copy::reset_when_dropped;
use crate::network::names::Names;
use crate::network::proxy_face;
use crate::network::proxy_face::Credential;
use crate::network::refusals::Refusal;
use crate::network::refusals::Refusals;

/// How long a listener rests when the kernel gives it no connection (no descriptors left, for one).
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What one job may use of its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Names asked in a second; more wait.
    pub queries_per_second_max: u32,
    /// Different names in all.
    pub names_max: usize,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            queries_per_second_max: 500,
            names_max: 16_384,
        }
    }
}

/// What a gateway works with.
pub struct GatewaySetup {
    /// The policy at the start.
    pub policy: NetworkPolicy,
    /// Dials for the job; shared by all jobs of a worker.
    pub dialler: Arc<Dialler>,
    /// Hears of the first refusal of each kind.
    pub watcher: Watcher,
    /// What the job may use.
    pub limits: GatewayLimits,
}

impl GatewaySetup {
    /// With this machine's resolver and the operator's upstream proxy, and the usual limits.
    pub fn new(policy: NetworkPolicy, proxy: &UpstreamProxy, watcher: &Watcher) -> Self {
        let resolver = Arc::new(SystemResolver::default());
        Self {
            policy,
            dialler: Arc::new(Dialler::new(resolver, proxy.clone())),
            watcher: watcher.clone(),
            limits: GatewayLimits::default(),
        }
    }
}

/// A gateway that did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A socket that came out of the job cannot be used.
    #[error("cannot use the {which} socket of the sandbox's network: {source}")]
    Socket {
        /// `TCP` or `DNS`.
        which: &'static str,
        /// The kernel's words.
        source: io::Error,
    },
}

impl Failure for GatewayError {
    fn facts(&self) -> Facts {
        Facts::platform("network_socket")
    }
}

/// A job's way out. Dropping it closes every socket that it holds of the job's network namespace, and every
/// connection.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<State>,
    tasks: TaskTracker,
}

/// What the tasks of a gateway share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) dialler: Arc<Dialler>,
    pub(super) names: Names,
    pub(super) refusals: Refusals,
    pub(super) pace: Pace,
    /// Whether the job's connections to IPv6 addresses are taken too.
    pub(super) has_ipv6: bool,
    stop: CancellationToken,
    in_force: Mutex<InForce>,
}

/// The policy of now.
#[derive(Debug, Clone)]
pub(super) struct InForce {
    pub(super) policy: Arc<NetworkPolicy>,
    /// `id@version` of the buildpack whose turn it is; none while several run.
    pub(super) asker: Option<Arc<str>>,
    /// Set when another policy comes, and when the gateway stops.
    pub(super) over: CancellationToken,
}

impl Gateway {
    /// Takes a job's sockets and begins to serve. Call it inside a tokio runtime.
    pub fn start(sockets: Sockets, setup: GatewaySetup) -> Result<Self, GatewayError> {
        let mut listeners = Vec::new();
        for socket in sockets.tcp {
            let listener = StdTcpListener::from(socket);
            let ready = listener
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(listener));
            listeners.push(ready.map_err(|source| GatewayError::Socket { which: "TCP", source })?);
        }
        let dns = StdUdpSocket::from(sockets.dns);
        let ready = dns.set_nonblocking(true).and_then(|()| UdpSocket::from_std(dns));
        let dns = ready.map_err(|source| GatewayError::Socket { which: "DNS", source })?;

        let attempts = sockets.attempts.map(|socket| {
            let socket = StdUdpSocket::from(socket);
            socket
                .set_nonblocking(true)
                .and_then(|()| UdpSocket::from_std(socket))
        });
        let attempts = attempts
            .transpose()
            .map_err(|source| GatewayError::Socket { which: "raw", source })?;
        let ports = listeners.iter().filter_map(|listener| listener.local_addr().ok());
        let ports: Vec<u16> = ports.map(|address| address.port()).collect();
        let gateway = Self::serve(setup, listeners, &Arc::new(Face::Transparent));
        if let Some(socket) = attempts {
            let work = attempts::watch(Arc::clone(&gateway.state), socket, ports);
            let stop = gateway.state.stop.clone();
            gateway.tasks.spawn(until_stopped(stop, work));
        }
        let work = answers::answer_all(Arc::clone(&gateway.state), dns, gateway.tasks.clone());
        let stop = gateway.state.stop.clone();
        gateway.tasks.spawn(until_stopped(stop, work));
        Ok(gateway)
    }

    /// Begins to serve what comes to the listeners.
    pub(super) fn serve(setup: GatewaySetup, listeners: Vec<TcpListener>, face: &Arc<Face>) -> Self {
        let stop = CancellationToken::new();
        let in_force = InForce {
            policy: Arc::new(setup.policy),
            asker: None,
            over: stop.child_token(),
        };
        let state = Arc::new(State {
            dialler: setup.dialler,
            names: Names::new(setup.limits.names_max),
            refusals: Refusals::new(setup.watcher),
            pace: Pace::new(setup.limits.queries_per_second_max),
            has_ipv6: listeners
                .iter()
                .any(|listener| listener.local_addr().is_ok_and(|address| address.is_ipv6())),
            stop,
            in_force: Mutex::new(in_force),
        });
        let tasks = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(setup.limits.connections_max));
        for listener in listeners {
            let work = accept_all(
                Arc::clone(&state),
                listener,
                Arc::clone(face),
                Arc::clone(&permits),
                tasks.clone(),
            );
            tasks.spawn(until_stopped(state.stop.clone(), work));
        }
        Self { state, tasks }
    }

    /// Puts another policy in force. Connections that were made under the one before are cut.
    pub fn set_policy(&self, policy: NetworkPolicy) {
        let mut in_force = self.state.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if *in_force.policy == policy {
            return;
        }
        in_force.over.cancel();
        *in_force = InForce {
            policy: Arc::new(policy),
            asker: in_force.asker.take(),
            over: self.state.stop.child_token(),
        };
    }

    /// Says whose turn it is: what is refused from now on was asked by this buildpack (`id@version`).
    pub fn set_asker(&self, buildpack: &str) {
        let mut in_force = self.state.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        in_force.asker = Some(buildpack.into());
    }

    /// What the job was not given so far, in order of the first time.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.state.refusals.list()
    }

    /// Closes everything and waits until it is closed; afterwards nothing here holds the job's network namespace.
    pub async fn stop(self) {
        self.state.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.state.stop.cancel();
    }
}

impl State {
    pub(super) fn in_force(&self) -> InForce {
        self.in_force
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }
}

/// Runs `work` until the gateway stops. What `work` owns, sockets above all, is then dropped.
pub(super) async fn until_stopped(stop: CancellationToken, work: impl Future<Output = ()>) {
    stop.run_until_cancelled(work).await;
}

/// What a connection to a listener means.
#[derive(Debug)]
pub(super) enum Face {
    /// Its near end is where the job wanted to go.
    Transparent,
    /// It speaks HTTP to a proxy.
    Proxy(Credential),
}

async fn accept_all(
    state: Arc<State>,
    listener: TcpListener,
    face: Arc<Face>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if reset_when_dropped(&stream).is_err() => drop(stream),
            Ok((stream, _)) => {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return;
                };
                let (state, face) = (Arc::clone(&state), Arc::clone(&face));
                tasks.spawn(async move {
                    match &*face {
                        Face::Transparent => connection::serve(&state, stream).await,
                        Face::Proxy(credential) => proxy_face::serve(&state, credential, stream).await,
                    }
                    drop(permit);
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a job");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}
