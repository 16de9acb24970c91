//! A job's way out by what its rung has: listeners in a network namespace of its own, or the proxy face without one.

use std::ffi::OsString;

use crate::model::policy::NetworkPolicy;
use crate::network::Sockets;
use crate::network::gateway::Gateway;
use crate::network::gateway::GatewayError;
use crate::network::gateway::GatewaySetup;
use crate::network::proxy_face;
use crate::sandbox::ladder::Ground;
use crate::sandbox::ladder::Walls;
use crate::sandbox::native::NativeJob;
use crate::sandbox::spec::Network;

/// A way out before the job is there.
pub struct WayOut {
    begun: Begun,
}

enum Begun {
    /// The job will have listeners.
    Waiting(GatewaySetup),
    /// The proxy listens already.
    Listening(Gateway),
}

impl WayOut {
    /// What a job on `ground` is to have of a network, for its spec, and the way out that belongs to it. `setup.policy` is
    /// the one that the gateway begins with, `policy` the one that the operator gives build steps. Call it inside a tokio
    /// runtime.
    pub fn prepare(
        ground: Ground,
        policy: &NetworkPolicy,
        setup: GatewaySetup,
    ) -> Result<(Network, Self), GatewayError> {
        let waiting = |network, setup| {
            Ok((
                network,
                Self {
                    begun: Begun::Waiting(setup),
                },
            ))
        };
        match (policy, ground.walls) {
            (NetworkPolicy::Host, _) => waiting(Network::Host, setup),
            (policy, Walls::Namespaces) => waiting(
                Network::Listeners {
                    ports: policy.ports(),
                },
                setup,
            ),
            (NetworkPolicy::None, Walls::Chroot) => waiting(Network::None, setup),
            (_, Walls::Chroot) => {
                let (gateway, entrance) = proxy_face::start(setup)?;
                let variables = entrance.variables().into_iter();
                let network = Network::Proxy {
                    port: entrance.port(),
                    variables: variables
                        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
                        .collect(),
                };
                Ok((
                    network,
                    Self {
                        begun: Begun::Listening(gateway),
                    },
                ))
            }
        }
    }

    /// Opens it once the job is there; none: the job has no network but its own, or the machine's.
    pub fn open(self, job: &NativeJob) -> Result<Option<Gateway>, GatewayError> {
        match self.begun {
            Begun::Listening(gateway) => Ok(Some(gateway)),
            Begun::Waiting(setup) => match job.take_sockets() {
                None => Ok(None),
                Some(sockets) => Gateway::start(
                    Sockets {
                        tcp: sockets.tcp,
                        dns: sockets.dns,
                        attempts: sockets.attempts,
                    },
                    setup,
                )
                .map(Some),
            },
        }
    }
}
