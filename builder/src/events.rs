//! What a build tells its watchers: the terminal, the JSON stream, the log store and the git push render these.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use serde::Serialize;

use crate::model::digest::DiffId;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::phase::Phase;
use crate::model::receipt::LayerOutcome;
use crate::model::refused::Refused;

/// Which of a step's two outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Objects of git.
    Objects,
    /// Packages of Debian.
    Packages,
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
    /// What the network policy refused to the build's steps, all of it, when they have ended.
    Refused {
        /// Each kind once, in order of the first time.
        refused: Vec<Refused>,
    },
    /// How far a download, hash or upload is.
    Progress {
        /// What moves: the same words for all reports of one transfer.
        what: String,
        /// How much is done.
        done: u64,
        /// How much there is in all, if known.
        total: Option<u64>,
        /// What both numbers count.
        unit: Unit,
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

/// The progress of one piece of work, told often enough to be seen moving, and no more often.
pub struct Moving<'watcher> {
    watcher: &'watcher dyn Events,
    what: String,
    total: Option<u64>,
    unit: Unit,
    was_told: bool,
    /// Nothing is told before.
    next: Instant,
}

impl<'watcher> Moving<'watcher> {
    const INTERVAL: Duration = Duration::from_millis(50);
    /// Work that is done sooner is not told.
    const PATIENCE: Duration = Duration::from_millis(500);

    /// A progress that is told from the beginning.
    pub fn new(watcher: &'watcher dyn Events, what: &str, total: Option<u64>, unit: Unit) -> Self {
        Self {
            watcher,
            what: what.to_owned(),
            total,
            unit,
            was_told: false,
            next: Instant::now(),
        }
    }

    /// Bytes of something that is mostly done at once, and is told when it is not.
    pub fn if_slow(watcher: &'watcher dyn Events, what: &str) -> Self {
        let mut moving = Self::new(watcher, what, None, Unit::Bytes);
        moving.next += Self::PATIENCE;
        moving
    }

    /// Says that there is so much in all.
    pub fn of(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// Says that this much is done.
    pub fn tell(&mut self, done: u64) {
        let is_last = self.was_told && self.total == Some(done);
        if is_last || self.next <= Instant::now() {
            self.tell_now(done);
        }
    }

    /// Says that this much was done and nothing more comes.
    pub fn end(&mut self, done: u64) {
        if self.was_told || self.next <= Instant::now() {
            self.total.get_or_insert(done);
            self.tell_now(done);
        }
    }

    fn tell_now(&mut self, done: u64) {
        self.was_told = true;
        self.next = Instant::now() + Self::INTERVAL;
        self.watcher.tell(Event::Progress {
            what: self.what.clone(),
            done,
            total: self.total,
            unit: self.unit,
        });
    }
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

impl Failure for Cancelled {
    fn facts(&self) -> Facts {
        Facts::user("interrupted")
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps how far the progress was, of what total.
    #[derive(Default)]
    struct Kept(Mutex<Vec<(u64, Option<u64>)>>);

    impl Events for Kept {
        fn tell(&self, event: Event) {
            if let Event::Progress { done, total, .. } = event {
                self.0.lock().unwrap().push((done, total));
            }
        }
    }

    #[test]
    fn a_progress_is_told_at_its_beginning_and_at_its_end_and_not_for_every_byte() {
        let kept = Kept::default();
        let mut moving = Moving::new(&kept, "push", Some(1000), Unit::Bytes);
        for done in 1..=1000 {
            moving.tell(done);
        }
        let told = kept.0.lock().unwrap();
        assert_eq!(told.first(), Some(&(1, Some(1000))));
        assert_eq!(told.last(), Some(&(1000, Some(1000))));
        assert!(told.len() < 500, "{} times", told.len());
    }

    #[test]
    fn the_end_is_told_even_where_nobody_knew_how_much_there_would_be() {
        let kept = Kept::default();
        let mut moving = Moving::new(&kept, "download", None, Unit::Bytes);
        moving.tell(1);
        moving.end(7);
        assert_eq!(*kept.0.lock().unwrap(), [(1, None), (7, Some(7))]);
    }

    #[test]
    fn what_is_done_at_once_is_not_told() {
        let kept = Kept::default();
        let mut moving = Moving::if_slow(&kept, "hash");
        moving.tell(1);
        moving.end(2);
        assert!(kept.0.lock().unwrap().is_empty());
    }
}
