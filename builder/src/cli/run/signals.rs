//! Signals that `run` gets are for the process inside; what asks to end is made to end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cli::interrupt;
use crate::cli::terminal;
use crate::sandbox::attachment::Control;
use crate::sandbox::attachment::Controls;
use crate::sandbox::kill_handle::KillHandle;

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// What KILL may take before the whole sandbox goes, and that before this program does.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// What is passed on.
const PASSED_ON: [i32; 7] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// The signals, from now on no longer this process's own.
pub(super) struct Signals(Vec<(i32, Signal)>);

/// As long as this is held, they are passed on.
pub(super) struct Forwarding(JoinHandle<()>);

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Signals {
    /// Takes them over. Must be called on a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        let heard = |number: i32| Ok((number, signal(SignalKind::from_raw(number))?));
        PASSED_ON
            .into_iter()
            .map(heard)
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Passes them on to `controls`; `kill` is what is left if nothing else ends the process. A process with a terminal
    /// learns its new size with the signal for it.
    pub(super) fn forward(
        mut self,
        controls: &Arc<Controls>,
        kill: KillHandle,
        has_terminal: bool,
    ) -> Forwarding {
        let controls = Arc::clone(controls);
        Forwarding(tokio::spawn(async move {
            let mut ending = Ending::default();
            let mut deadline: Option<Instant> = None;
            loop {
                let heard = tokio::select! {
                    number = any(&mut self.0) => Heard::Signal(number),
                    () = until(deadline) => Heard::Nothing,
                };
                match ending.next(heard) {
                    Next::Tell(libc::SIGWINCH) if has_terminal => {
                        controls.tell(Control::Size(terminal::size()));
                    }
                    Next::Tell(number) => controls.tell(Control::Signal(number)),
                    Next::TellAndWait(number, timeout) => {
                        controls.tell(Control::Signal(number));
                        deadline = Some(Instant::now() + timeout);
                    }
                    Next::KillAll => {
                        kill.kill();
                        tokio::time::sleep(KILL_TIMEOUT).await;
                        // Nothing runs any more; nobody reads what it wrote.
                        interrupt::give_up();
                    }
                }
            }
        }))
    }
}

async fn any(signals: &mut [(i32, Signal)]) -> i32 {
    let each = signals.iter_mut().map(|(number, signal)| {
        Box::pin(async move {
            signal.recv().await;
            *number
        })
    });
    futures::future::select_all(each).await.0
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Signal(i32),
    /// Nothing until the deadline.
    Nothing,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Tell(i32),
    /// And hear of it when the time is over.
    TellAndWait(i32, Duration),
    KillAll,
}

/// How far the process is asked to end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Ending {
    #[default]
    NotAsked,
    /// By Ctrl-C, which has no deadline: there may be a good reason to go on.
    Interrupted,
    /// By what asks for an end in time.
    Asked,
    Killed,
}

impl Ending {
    fn next(&mut self, heard: Heard) -> Next {
        let kill = Next::TellAndWait(libc::SIGKILL, KILL_TIMEOUT);
        match (*self, heard) {
            (Self::Killed, Heard::Nothing | Heard::Signal(libc::SIGINT)) => Next::KillAll,
            (Self::NotAsked | Self::Interrupted | Self::Asked, Heard::Nothing)
            | (Self::Interrupted | Self::Asked, Heard::Signal(libc::SIGINT)) => {
                *self = Self::Killed;
                kill
            }
            (Self::NotAsked, Heard::Signal(libc::SIGINT)) => {
                *self = Self::Interrupted;
                Next::Tell(libc::SIGINT)
            }
            (Self::NotAsked | Self::Interrupted, Heard::Signal(number @ (libc::SIGTERM | libc::SIGHUP))) => {
                *self = Self::Asked;
                Next::TellAndWait(number, GRACE)
            }
            (_, Heard::Signal(number)) => Next::Tell(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: Next = Next::TellAndWait(libc::SIGKILL, KILL_TIMEOUT);

    fn after(heard: &[Heard]) -> Vec<Next> {
        let mut ending = Ending::default();
        heard.iter().map(|heard| ending.next(*heard)).collect()
    }

    #[test]
    fn a_second_interrupt_kills_and_a_third_kills_all() {
        let interrupt = Heard::Signal(libc::SIGINT);
        assert_eq!(
            after(&[interrupt, interrupt, interrupt]),
            [Next::Tell(libc::SIGINT), KILL, Next::KillAll]
        );
    }

    #[test]
    fn who_does_not_end_in_time_is_killed() {
        for number in [libc::SIGTERM, libc::SIGHUP] {
            assert_eq!(
                after(&[Heard::Signal(number), Heard::Nothing, Heard::Nothing]),
                [Next::TellAndWait(number, GRACE), KILL, Next::KillAll]
            );
        }
        // A second TERM does not make the time longer.
        let term = Heard::Signal(libc::SIGTERM);
        assert_eq!(after(&[term, term])[1], Next::Tell(libc::SIGTERM));
    }

    #[test]
    fn what_does_not_ask_to_end_is_only_passed_on() {
        let all = [
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGQUIT,
            libc::SIGWINCH,
            libc::SIGUSR1,
        ];
        assert_eq!(after(&all.map(Heard::Signal)), all.map(Next::Tell));
    }
}
