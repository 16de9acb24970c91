//! A connection to a port on the job's own loopback: init makes the socket, the worker waits until it is connected.

use std::io;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

use crate::sandbox::job::JobError;
use crate::sandbox::message::Answer;
use crate::sandbox::message::Request;
use crate::sandbox::native::NativeJob;

/// A server on the same machine that takes longer has a full queue; the kernel would try for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn connect_to_loopback(job: &NativeJob, port: u16) -> Result<OwnedFd, JobError> {
    match connect(job, SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
        // Some servers listen on `::1` alone, because that is what `localhost` gave them.
        Err(error @ JobError::File { .. }) => {
            connect(job, SocketAddr::from((Ipv6Addr::LOCALHOST, port))).map_err(|_| error)
        }
        other => other,
    }
}

fn connect(job: &NativeJob, address: SocketAddr) -> Result<OwnedFd, JobError> {
    let failed = |why: String| JobError::File {
        action: "connect to",
        path: format!("localhost:{}", address.port()),
        why,
    };
    let during = format!("connecting to port {} inside", address.port());
    match job.ask(&during, &Request::Connect { address }, &[])? {
        (Answer::Done, Some(socket)) => {
            wait_until_connected(&socket).map_err(|error| failed(error.to_string()))?;
            Ok(socket)
        }
        (Answer::Failed { why }, _) => Err(failed(why)),
        _ => Err(failed("no socket came".to_owned())),
    }
}

/// Waits for the end of connecting; from then on the socket blocks.
fn wait_until_connected(socket: &OwnedFd) -> io::Result<()> {
    let timeout = Timespec::try_from(CONNECT_TIMEOUT).ok();
    let polled = rustix::io::retry_on_intr(|| {
        rustix::event::poll(&mut [PollFd::new(socket, PollFlags::OUT)], timeout.as_ref())
    });
    if polled? == 0 {
        let why = format!("no answer within {} seconds", CONNECT_TIMEOUT.as_secs());
        return Err(io::Error::new(io::ErrorKind::TimedOut, why));
    }
    rustix::net::sockopt::socket_error(socket)??;
    Ok(rustix::io::ioctl_fionbio(socket, false)?)
}
