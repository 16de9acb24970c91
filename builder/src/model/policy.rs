//! Where a job may connect to.

use std::net::IpAddr;

/// The network policy of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkPolicy {
    /// Nothing but the job's own loopback.
    None,
    /// Every public address; never what is the machine's or its network's own.
    Public(PublicPolicy),
}

/// What the public policy knows beyond its fixed rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublicPolicy {
    /// Hosts that the operator named (mirror table): dialled wherever they resolve to, loopback and metadata excepted.
    pub trusted_hosts: Vec<String>,
    /// Literal addresses that the operator named: dialled whatever they are.
    pub trusted_addresses: Vec<IpAddr>,
    /// Ports that a job may dial.
    pub ports: Vec<u16>,
}
