//! What a command that a person tries is attached to: what it reads, and what it is told meanwhile. Build steps have none.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::event::EventfdFlags;
use serde::Deserialize;
use serde::Serialize;

/// What waits for a command that takes nothing; more is dropped.
const WAITING_MAX: usize = 64;

/// What a command is attached to. It may write without a limit.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// What it reads.
    pub input: Input<'a>,
    /// What it is told while it runs.
    pub controls: &'a Controls,
    /// Its own wall clock in place of the job's; none: the job's.
    pub time: Option<Duration>,
}

/// What a command reads.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// The end, at once.
    Nothing,
    /// A pipe, into which this is copied.
    Pipe(BorrowedFd<'a>),
    /// A terminal of the job's own, which is its standard output and error too; all that it writes comes as standard
    /// output.
    Terminal {
        /// What is typed; none: nothing ever is.
        keyboard: Option<BorrowedFd<'a>>,
        /// The size that it begins with.
        size: WindowSize,
    },
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// What a command can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// A signal, for its process group.
    Signal(i32),
    /// Its terminal has another size now.
    Size(WindowSize),
}

/// What is told to a command from other threads. What is told before it starts reaches it when it has started.
#[derive(Debug)]
pub struct Controls {
    waiting: Mutex<VecDeque<Control>>,
    wake: OwnedFd,
}

impl Controls {
    /// Nothing told yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            waiting: Mutex::default(),
            wake: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Tells it.
    pub fn tell(&self, control: Control) {
        let mut waiting = self.waiting();
        if waiting.len() < WAITING_MAX {
            waiting.push_back(control);
        }
        // Only a counter that is full refuses, and then it is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// All that was told since the last time.
    pub(crate) fn take(&self) -> VecDeque<Control> {
        let mut waiting = self.waiting();
        // Nothing to read says that somebody has read it.
        let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
        std::mem::take(&mut waiting)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Control>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Controls {
    /// Readable when something was told.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_comes_in_order_and_once() {
        let controls = Controls::new().unwrap();
        let size = Control::Size(WindowSize { rows: 1, columns: 2 });
        controls.tell(Control::Signal(2));
        controls.tell(size);
        assert_eq!(controls.take(), [Control::Signal(2), size]);
        assert!(controls.take().is_empty());
        for _ in 0..1000 {
            controls.tell(size);
        }
        assert_eq!(controls.take().len(), WAITING_MAX);
    }
}
