//! Published ports (`run -p`): a listener on the worker's loopback, whose connections go to sockets inside the job.

use std::io;
use std::net::SocketAddr;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::network::copy::copy_both_ways;
use crate::network::copy::reset_when_dropped;

/// Connections at once to one published port; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// How long the listener rests when the kernel gives it no connection.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Makes a connected TCP socket inside the job. May block; called from a thread for blocking work.
pub type ConnectInside = Arc<dyn Fn() -> io::Result<OwnedFd> + Send + Sync>;

/// A port that was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The address would open the job to the network.
    #[error("cannot publish a port on {address}: only loopback addresses are served")]
    NotLoopback {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The address is taken, or not for us.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// The kernel's words.
        source: io::Error,
    },
}

impl Failure for PublishError {
    fn facts(&self) -> Facts {
        match self {
            Self::NotLoopback { .. } => Facts::user("publish_not_loopback"),
            Self::Listen { .. } => Facts::user("publish_listen"),
        }
    }
}

/// A published port. Dropping it closes the listener and every connection.
#[derive(Debug)]
pub struct Published {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Listens on `bind`, a loopback address (port 0: the kernel chooses), and joins each connection with one that
/// `connect_inside` makes.
pub async fn serve(bind: SocketAddr, connect_inside: ConnectInside) -> Result<Published, PublishError> {
    if !bind.ip().is_loopback() {
        return Err(PublishError::NotLoopback { address: bind });
    }
    let failed = |source| PublishError::Listen {
        address: bind,
        source,
    };
    let listener = TcpListener::bind(bind).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let work = accept_all(listener, connect_inside, stop.clone(), tasks.clone());
    let stopping = stop.clone();
    tasks.spawn(async move { stopping.run_until_cancelled(work).await });
    Ok(Published { address, stop, tasks })
}

impl Published {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes everything and waits until it is closed.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept_all(
    listener: TcpListener,
    connect_inside: ConnectInside,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        match listener.accept().await {
            Ok((outside, _)) if reset_when_dropped(&outside).is_err() => drop(outside),
            Ok((outside, _)) => {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return;
                };
                let (stop, connect_inside) = (stop.clone(), Arc::clone(&connect_inside));
                tasks.spawn(async move {
                    let work = Box::pin(join(outside, connect_inside));
                    stop.run_until_cancelled(work).await;
                    drop(permit);
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to a published port");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn join(outside: TcpStream, connect_inside: ConnectInside) {
    let made = spawn_blocking(move || connect_inside().and_then(ready_stream)).await;
    match made
        .map_err(io::Error::other)
        .and_then(|made| made)
        .and_then(TcpStream::from_std)
    {
        Ok(inside) => {
            // Only a delay would come of a failure here.
            inside.set_nodelay(true).and(outside.set_nodelay(true)).ok();
            if let Err(error) = copy_both_ways(outside, inside).await {
                tracing::debug!(%error, "a connection to a published port broke");
            }
        }
        Err(error) => {
            tracing::debug!(%error, "the job takes no connection on a published port");
        }
    }
}

fn ready_stream(socket: OwnedFd) -> io::Result<StdTcpStream> {
    let stream = StdTcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(stream)
}
