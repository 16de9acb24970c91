//! What a build tells its watchers: the terminal, the JSON stream, the log store and the git push render these.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::model::digest::DiffId;
use crate::model::phase::Phase;
use crate::model::receipt::LayerOutcome;

/// Which of a step's two outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One thing that a build tells.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A phase began.
    PhaseStarted {
        /// Which.
        phase: Phase,
    },
    /// A phase ended.
    PhaseEnded {
        /// Which.
        phase: Phase,
        /// How long it took.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        elapsed: Duration,
    },
    /// A buildpack begins to build.
    BuildpackStarted {
        /// `id@version`.
        buildpack: String,
    },
    /// Output of a step, as it came; not always whole lines.
    Output {
        /// `id@version` of the buildpack that wrote it.
        buildpack: String,
        /// Where it wrote.
        stream: Stream,
        /// The text; bytes that are not UTF-8 are replaced.
        text: String,
    },
    /// Something was decided; why.
    Decision {
        /// One sentence, without a full stop.
        text: String,
    },
    /// Something is odd but the build goes on.
    Warning {
        /// One sentence, without a full stop.
        text: String,
    },
    /// How far a download, hash or upload is.
    Progress {
        /// What moves: the same words for all reports of one transfer.
        what: String,
        /// Bytes (or entries) done.
        done: u64,
        /// Bytes (or entries) in all, if known.
        total: Option<u64>,
    },
    /// A layer of the image is known.
    Layer {
        /// Its name: `packhorse/nodejs:node`, `app`, `launcher`.
        name: String,
        /// What became of it.
        outcome: LayerOutcome,
        /// Its identity.
        diff_id: DiffId,
        /// Its length as it is stored, in bytes.
        size: u64,
    },
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((elapsed.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Takes what a build tells. Called from many threads.
pub trait Events: Send + Sync {
    /// Takes one event; must not block for long.
    fn tell(&self, event: Event);
}

/// A shared sink.
pub type Watcher = Arc<dyn Events>;

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silence;

impl Events for Silence {
    fn tell(&self, _event: Event) {}
}

/// One token a build: set once, looked at between steps, and wired to the sandbox's kill.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Token>);

#[derive(Default)]
struct Token {
    is_cancelled: AtomicBool,
    actions: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

/// The build was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

impl Cancel {
    /// Cancels the build.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        self.act();
    }

    /// Whether the build was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }

    /// What is set once the build was cancelled, for loops that know nothing of builds.
    pub fn flag(&self) -> &AtomicBool {
        &self.0.is_cancelled
    }

    /// An error once the build was cancelled.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }

    /// Does `action` when the build is cancelled: at once if it is already.
    pub fn on_cancel(&self, action: impl FnOnce() + Send + 'static) {
        self.actions().push(Box::new(action));
        if self.is_cancelled() {
            self.act();
        }
    }

    fn act(&self) {
        let actions = std::mem::take(&mut *self.actions());
        for action in actions {
            action();
        }
    }

    fn actions(&self) -> MutexGuard<'_, Vec<Box<dyn FnOnce() + Send>>> {
        self.0.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Cancel")
            .field(&self.is_cancelled())
            .finish()
    }
}
