//! Kills a job from another thread than the one that waits for it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::sandbox::socket::Socket;

/// What a [`KillHandle`] shares with its job.
pub(crate) struct Shared {
    /// The monitor ends with it.
    pub(crate) control: Socket,
    cancelled: AtomicBool,
}

impl Shared {
    /// A job that nobody has killed.
    pub(crate) fn new(control: Socket) -> Self {
        Self {
            control,
            cancelled: AtomicBool::new(false),
        }
    }

    /// Whether somebody has.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// Kills a job from another thread.
#[derive(Clone)]
pub struct KillHandle(Arc<Shared>);

impl KillHandle {
    /// For the job that has `shared`.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Kills everything inside at once; what is running returns [`Exit::Cancelled`](crate::sandbox::command::Exit).
    pub fn kill(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        self.0.control.shut_down();
    }
}
