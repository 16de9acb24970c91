//! A job's way out: every connection of the job is taken by listeners of the worker, its names are answered here, and
//! what the policy allows is dialled from the worker (`http::dialler`).
//!
//! In the job's network namespace every IPv4 address is local (`ip route add local 0.0.0.0/0 dev lo`, without a `src`),
//! so a listener on 0.0.0.0 learns from `getsockname()` where the job wanted to go. Names get addresses of their own
//! out of 198.18.0.0/15, so the policy sees names without opening TLS.

pub mod gateway;
pub mod refusals;
pub mod publish;
pub mod proxy_face;
pub mod way_out;

mod connection;
mod client_hello;
mod copy;
mod answers;
mod attempts;
mod names;
mod proxy_request;

use std::os::fd::OwnedFd;

/// Sockets that were made inside a job's network namespace; they belong to it for ever, whoever holds them.
#[derive(Debug)]
pub struct Sockets {
    /// Listening TCP sockets on 0.0.0.0, one for each port that a job may dial.
    pub tcp: Vec<OwnedFd>,
    /// A UDP socket on 0.0.0.0:53.
    pub dns: OwnedFd,
    /// A raw socket that gets the first packet of each IPv4 connection, if there is one.
    pub attempts: Option<OwnedFd>,
}

#[cfg(test)]
mod tests;
