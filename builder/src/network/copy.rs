//! Carries bytes both ways between two connections until both have ended.

use std::io;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;

/// Buffer for each direction, in bytes.
const BUFFER_SIZE: usize = 128 << 10;

/// Lets the peer see a reset, not an end, when the connection is dropped before it has ended well. Say it of every
/// connection when it is accepted, before any task may drop it.
pub(super) fn reset_when_dropped(stream: &TcpStream) -> io::Result<()> {
    Ok(set_socket_linger(stream, Some(Duration::ZERO))?)
}

/// Takes that back: what is still on its way must arrive.
pub(super) fn arrives_when_dropped(stream: &TcpStream) -> io::Result<()> {
    Ok(set_socket_linger(stream, None)?)
}

/// Copies both ways; the end of one direction is passed on while the other goes on. When one connection breaks, or
/// this future is dropped, both peers see a reset: a cut download never looks like a whole one.
pub(super) async fn copy_both_ways(mut one: TcpStream, mut other: TcpStream) -> io::Result<()> {
    reset_when_dropped(&one)?;
    reset_when_dropped(&other)?;
    copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER_SIZE, BUFFER_SIZE).await?;
    arrives_when_dropped(&one)?;
    arrives_when_dropped(&other)
}
