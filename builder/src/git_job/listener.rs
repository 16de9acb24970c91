//! Takes a job's connections to one port for as long as its command runs.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::Scope;

use rustix::event::EventfdFlags;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::eventfd;
use rustix::event::poll;

use crate::events::Cancel;
use crate::git::isolation::Endpoint;
use crate::sandbox::native::NativeJob;

/// Connections at once: git has one.
const CONNECTIONS_MAX: usize = 4;
/// How often the cancel token is looked at.
const CANCEL_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Does `work`, while every connection of the job to `port` goes to `endpoint`, and a cancelled build kills the job.
pub(super) fn while_listening<T>(
    job: &NativeJob,
    port: u16,
    endpoint: Option<&dyn Endpoint>,
    cancel: &Cancel,
    work: impl FnOnce() -> T,
) -> T {
    // Those of other ports are closed: nobody listens there.
    let listeners: Vec<TcpListener> = job
        .take_sockets()
        .into_iter()
        .flat_map(|sockets| sockets.tcp)
        .map(TcpListener::from)
        .filter(|listener| listener.local_addr().is_ok_and(|address| address.port() == port))
        .collect();
    let (is_over, wake) = (AtomicBool::new(false), eventfd(0, EventfdFlags::CLOEXEC));
    thread::scope(|scope| {
        let ear = Ear {
            job,
            listeners: &listeners,
            endpoint,
            cancel,
            is_over: &is_over,
            wake: wake.as_ref().ok(),
            connections: AtomicUsize::new(0),
        };
        let ear = Arc::new(ear);
        scope.spawn(move || listen(scope, &ear));
        let done = work();
        if let Some(endpoint) = endpoint {
            endpoint.stop();
        }
        is_over.store(true, Ordering::Relaxed);
        if let Ok(wake) = &wake {
            // Without it the thread looks after its interval.
            let _woken = rustix::io::write(wake, &1_u64.to_ne_bytes());
        }
        done
    })
}

struct Ear<'a> {
    job: &'a NativeJob,
    listeners: &'a [TcpListener],
    endpoint: Option<&'a dyn Endpoint>,
    cancel: &'a Cancel,
    is_over: &'a AtomicBool,
    /// Readable once the command has ended.
    wake: Option<&'a OwnedFd>,
    connections: AtomicUsize,
}

fn listen<'scope>(scope: &'scope Scope<'scope, '_>, ear: &Arc<Ear<'scope>>) {
    while !ear.is_over.load(Ordering::Relaxed) {
        if ear.cancel.is_cancelled() {
            ear.job.kill_handle().kill();
            return;
        }
        let mut waiting: Vec<PollFd<'_>> = ear
            .listeners
            .iter()
            .map(|listener| PollFd::new(listener, PollFlags::IN))
            .collect();
        waiting.extend(ear.wake.map(|wake| PollFd::new(wake, PollFlags::IN)));
        // After an interruption as after the interval: look, and wait again.
        let _waited = poll(&mut waiting, Some(&CANCEL_INTERVAL));
        for listener in ear.listeners {
            let Ok((connection, _)) = listener.accept() else {
                continue;
            };
            if ear.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                ear.connections.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let ear = Arc::clone(ear);
            scope.spawn(move || {
                if let Some(endpoint) = ear.endpoint
                    && connection.set_nonblocking(false).is_ok()
                {
                    endpoint.serve(connection);
                }
                ear.connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}
