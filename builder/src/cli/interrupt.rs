//! Ctrl-C and TERM: the build is told to end, and what waits on the network ends at once.

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::error::BuildError;
use crate::events::Cancel;
use crate::events::Cancelled;

/// Runs `work` to its end, or to the first signal that asks the process to stop. Dropping what was under way removes
/// what it has made.
pub async fn or_ended<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T, BuildError>>,
) -> Result<T, BuildError> {
    // The signals are taken by a task of their own, since `work` blocks this one.
    let (asked, mut was_asked) = tokio::sync::watch::channel(false);
    let token = cancel.clone();
    let listening = tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        token.cancel();
        // Nobody listens any more when the work is done.
        let _done = asked.send(true);
    });
    let outcome = tokio::select! {
        outcome = work => outcome,
        Ok(()) = was_asked.changed() => Err(BuildError::Cancelled(Cancelled)),
    };
    listening.abort();
    // Whatever failed because it was told to end was interrupted.
    if cancel.is_cancelled() && outcome.is_err() {
        Err(BuildError::Cancelled(Cancelled))
    } else {
        outcome
    }
}
