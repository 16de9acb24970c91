//! The checked dialler: every connection that a job or a source asks for is made here, to an address that was checked.

pub mod resolver;
pub mod proxy;
mod socks;
mod own_addresses;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::http::dialler::proxy::ProxyError;
use crate::http::dialler::proxy::UpstreamProxy;
use crate::http::dialler::resolver::Names;
use crate::http::dialler::resolver::ResolveError;
use crate::http::dialler::resolver::Resolver;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::policy::NetworkPolicy;
use crate::model::policy::Why;
use crate::model::policy::names::normal_name;

/// For one dial in all: names, every address, and the proxy's answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// For one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address is tried alone before the next is tried beside it (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Whom to dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host by its name.
    Name(String),
    /// A literal address.
    Address(IpAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.pad(name),
            Self::Address(address) => address.fmt(formatter),
        }
    }
}

/// A dial that brought no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The network policy forbids it.
    #[error("the network policy refuses `{target}` port {port}: {why}")]
    Refused {
        /// Whom.
        target: Target,
        /// Which port.
        port: u16,
        /// The address that the name resolved to, where that is what is refused. For the operator: not in the message,
        /// which whoever wrote the source may read.
        address: Option<IpAddr>,
        /// The rule.
        why: Why,
    },
    /// The name has no address.
    #[error("cannot resolve `{name}`: {source}")]
    Resolve {
        /// The name.
        name: String,
        /// What the resolver said.
        source: ResolveError,
    },
    /// The kernel did not say which addresses are the machine's own, so nothing is dialled.
    #[error("cannot ask the kernel whether `{target}` is an address of this machine: {source}")]
    OwnAddresses {
        /// Whom.
        target: Target,
        /// The kernel's words.
        source: io::Error,
    },
    /// No address answered.
    #[error("cannot connect to `{target}` port {port}: {source}")]
    Connect {
        /// Whom.
        target: Target,
        /// Which port.
        port: u16,
        /// Why the last address failed.
        source: io::Error,
    },
    /// The upstream proxy made no tunnel.
    #[error("cannot reach `{target}` port {port} through the upstream proxy: {source}")]
    Proxy {
        /// Whom.
        target: Target,
        /// Which port.
        port: u16,
        /// What went wrong with the proxy.
        source: ProxyError,
    },
    /// It took too long in all.
    #[error("cannot connect to `{target}` port {port}: no answer within {} seconds", after.as_secs())]
    TimedOut {
        /// Whom.
        target: Target,
        /// Which port.
        port: u16,
        /// The limit.
        after: Duration,
    },
}

impl Failure for DialError {
    fn facts(&self) -> Facts {
        match self {
            Self::Refused { why, .. } => why.facts(),
            Self::Resolve { source, .. } => source.facts(),
            Self::OwnAddresses { .. } => Facts::platform("own_addresses_unknown"),
            Self::Connect { .. } | Self::TimedOut { .. } => Facts::temporary("connect_failed"),
            Self::Proxy { source, .. } => source.facts(),
        }
    }
}

/// Dials under a policy. One for a worker: it keeps the names that were resolved lately.
#[derive(Debug)]
pub struct Dialler {
    names: Names,
    proxy: UpstreamProxy,
}

impl Dialler {
    /// A dialler that asks `resolver` for names, and goes through `proxy` where the operator says so.
    pub fn new(resolver: Arc<dyn Resolver>, proxy: UpstreamProxy) -> Self {
        Self {
            names: Names::new(resolver),
            proxy,
        }
    }

    /// Whether a connection goes through the upstream proxy.
    pub fn is_proxied(&self, target: &Target, port: u16) -> bool {
        self.proxy.route(target, port).is_some()
    }

    /// Whether a job may ask for a name at all, whatever its addresses and whichever port comes.
    pub fn check_name(&self, name: &str, policy: &NetworkPolicy) -> Result<(), Why> {
        let name = normal_name(name).ok_or(Why::NotAName)?;
        if self.proxy.covers(&name) {
            policy.check_name_for_proxy(&name)
        } else {
            policy.check_name(&name)
        }
    }

    /// Whether a name exists. One that the upstream proxy will resolve is taken to exist: the worker may have no
    /// name server for it.
    pub async fn check_existence(&self, name: &str) -> Result<(), ResolveError> {
        if self.proxy.covers(name) {
            Ok(())
        } else {
            self.names.lookup(name).await.map(|_| ())
        }
    }

    /// A connection to `target`, to an address that `policy` allows now. What is checked is what is dialled: there is
    /// no second lookup in between. Takes 30 seconds at most.
    pub async fn dial(
        &self,
        target: &Target,
        port: u16,
        policy: &NetworkPolicy,
    ) -> Result<TcpStream, DialError> {
        let work = Box::pin(self.dial_checked(target, port, policy));
        let timed_out = |_| {
            Err(DialError::TimedOut {
                target: target.clone(),
                port,
                after: DIAL_TIMEOUT,
            })
        };
        let stream = timeout(DIAL_TIMEOUT, work).await.unwrap_or_else(timed_out)?;
        // Only a delay would come of a failure here.
        stream.set_nodelay(true).ok();
        Ok(stream)
    }

    async fn dial_checked(
        &self,
        target: &Target,
        port: u16,
        policy: &NetworkPolicy,
    ) -> Result<TcpStream, DialError> {
        let refused = |why| DialError::Refused {
            target: target.clone(),
            port,
            address: None,
            why,
        };
        let target = &match target {
            Target::Address(address) => Target::Address(*address),
            Target::Name(name) => Target::Name(normal_name(name).ok_or_else(|| refused(Why::NotAName))?),
        };
        match target {
            Target::Address(address) => policy.check_port_of_address(*address, port),
            Target::Name(name) => policy.check_port_of_name(name, port),
        }
        .map_err(refused)?;
        if let Some(proxy) = self.proxy.route(target, port) {
            match target {
                Target::Address(address) => policy.check_address_for_proxy(*address),
                Target::Name(name) => policy.check_name_for_proxy(name),
            }
            .map_err(refused)?;
            return self.dial_proxy(proxy, target, port).await;
        }
        let addresses = self.allowed_addresses(target, port, policy).await?;
        connect_to_first(&addresses, port)
            .await
            .map_err(|source| DialError::Connect {
                target: target.clone(),
                port,
                source,
            })
    }

    /// The addresses of `target` that the policy allows; an error if there is none.
    async fn allowed_addresses(
        &self,
        target: &Target,
        port: u16,
        policy: &NetworkPolicy,
    ) -> Result<Vec<IpAddr>, DialError> {
        let refused = |why, address| DialError::Refused {
            target: target.clone(),
            port,
            address,
            why,
        };
        let addresses: Arc<[IpAddr]> = match target {
            Target::Address(address) => Arc::new([*address]),
            Target::Name(name) => {
                policy.check_name(name).map_err(|why| refused(why, None))?;
                self.names
                    .lookup(name)
                    .await
                    .map_err(|source| DialError::Resolve {
                        name: name.clone(),
                        source,
                    })?
            }
        };
        let own = own_addresses::among(&addresses).map_err(|source| DialError::OwnAddresses {
            target: target.clone(),
            source,
        })?;
        let mut allowed = Vec::new();
        let mut why_not = None;
        for address in addresses.iter().take(ADDRESSES_MAX) {
            let checked = match target {
                Target::Address(_) => policy.check_address(*address, &own),
                Target::Name(name) => policy.check_named_address(name, *address, &own),
            };
            match checked {
                Ok(()) => allowed.push(*address),
                Err(why) => why_not = why_not.or(Some((why, Some(*address)))),
            }
        }
        match why_not {
            Some((why, address)) if allowed.is_empty() => Err(refused(why, address)),
            _ => Ok(allowed),
        }
    }

    /// A connection to the operator's proxy itself.
    pub async fn reach_proxy(&self, proxy: &Url) -> Result<TcpStream, ProxyError> {
        let (host, port) = proxy::address_of(proxy)?;
        let addresses: Arc<[IpAddr]> = match host {
            Target::Address(address) => Arc::new([address]),
            Target::Name(name) => {
                let found = self.names.lookup(&name).await;
                found.map_err(|source| ProxyError::Resolve { name, source })?
            }
        };
        let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
        connect_to_first(addresses, port)
            .await
            .map_err(|source| ProxyError::Connect {
                proxy: proxy::without_credentials(proxy),
                source,
            })
    }

    /// A tunnel through the operator's proxy, which may be anywhere, on loopback too.
    async fn dial_proxy(&self, proxy: &Url, target: &Target, port: u16) -> Result<TcpStream, DialError> {
        let failed = |source| DialError::Proxy {
            target: target.clone(),
            port,
            source,
        };
        let mut stream = self.reach_proxy(proxy).await.map_err(failed)?;
        proxy::open_tunnel(&mut stream, proxy, target, port)
            .await
            .map_err(failed)?;
        Ok(stream)
    }
}

/// Connects to whichever address answers first; each gets a short lead over the next (RFC 8305).
async fn connect_to_first(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    loop {
        match waiting.next() {
            Some(address) => attempts.push(connect(SocketAddr::new(*address, port))),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let more_wait = waiting.len() > 0;
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            },
            () = sleep(ATTEMPT_DELAY), if more_wait => {}
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
    timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .unwrap_or_else(late)
}

#[cfg(test)]
mod tests;
