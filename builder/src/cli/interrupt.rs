//! Ctrl-C, TERM and HUP: the command is told to end, and what waits on the network ends at once; a second one waits for nothing.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::task::JoinHandle;

use crate::cli::terminal;
use crate::error::BuildError;
use crate::events::Cancel;
use crate::events::Cancelled;

/// The exit code when one of them ended the command.
pub const INTERRUPTED_EXIT: u8 = 130;

/// How long a command may take to end by itself; libgit2 does not hear of it while it packs a local remote.
const PATIENCE: Duration = Duration::from_secs(5);

/// As long as this is held, signals are for the command and not for the process.
pub struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Cancels at the first signal that asks the process to stop, and ends the process at the second, or when the command has
/// not ended in time. Must be called on a
/// runtime.
pub fn listen(cancel: &Cancel) -> Listening {
    let cancel = cancel.clone();
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let signals: Result<Vec<Signal>, _> = kinds.into_iter().map(signal).collect();
    // A task of its own, since the command's blocks.
    Listening(tokio::spawn(async move {
        let Ok(mut signals) = signals else { return };
        any(&mut signals).await;
        cancel.cancel();
        tokio::select! {
            () = any(&mut signals) => {}
            () = tokio::time::sleep(PATIENCE) => {}
        }
        give_up();
    }))
}

/// Ends the process at once.
pub(super) fn give_up() -> ! {
    terminal::restore();
    #[expect(
        clippy::exit,
        reason = "whatever does not hear of the first does not return either"
    )]
    // What this leaves, the next command removes, as after a kill.
    std::process::exit(INTERRUPTED_EXIT.into())
}

async fn any(signals: &mut [Signal]) {
    let each = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    drop(futures::future::select_all(each).await);
}

/// Runs `work` to its end, or to the first signal that asks the process to stop. Dropping what was under way removes
/// what it has made.
pub async fn or_ended<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T, BuildError>>,
) -> Result<T, BuildError> {
    let _listening = listen(cancel);
    let (ask, asked) = tokio::sync::oneshot::channel();
    cancel.on_cancel(move || {
        // Nobody listens any more when the work is done.
        let _heard = ask.send(());
    });
    let outcome = tokio::select! {
        outcome = work => outcome,
        Ok(()) = asked => Err(BuildError::Cancelled(Cancelled)),
    };
    // Whatever failed because it was told to end was interrupted.
    if cancel.is_cancelled() && outcome.is_err() {
        Err(BuildError::Cancelled(Cancelled))
    } else {
        outcome
    }
}
