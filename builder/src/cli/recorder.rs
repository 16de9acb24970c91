//! Remembers of a build's events what its report needs, and hands all of them on.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use crate::events::Event;
use crate::events::Events;
use crate::model::phase::Phase;
use crate::model::refused::Refused;

/// What a build told before it ended, however it ended.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// How long each phase took; the one that failed is the last.
    pub phases: Vec<(Phase, Duration)>,
    /// `id@version` of the buildpacks that have begun to build, in order.
    pub buildpacks: Vec<String>,
    /// What the network policy refused.
    pub refused: Vec<Refused>,
}

/// Remembers, and hands on.
#[derive(Debug)]
pub struct Recorder<E> {
    next: E,
    told: Mutex<Told>,
}

impl<E> Recorder<E> {
    /// A recorder in front of `next`.
    pub fn new(next: E) -> Self {
        Self {
            next,
            told: Mutex::default(),
        }
    }

    /// Whom it hands on to.
    pub fn next(&self) -> &E {
        &self.next
    }

    /// What was told until now.
    pub fn told(&self) -> Told {
        self.memory().clone()
    }

    fn memory(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Events> Events for Recorder<E> {
    fn tell(&self, event: Event) {
        match &event {
            Event::PhaseEnded { phase, elapsed } => self.memory().phases.push((*phase, *elapsed)),
            Event::BuildpackStarted { buildpack } => self.memory().buildpacks.push(buildpack.clone()),
            Event::Refused { refused } => self.memory().refused.extend(refused.iter().cloned()),
            _ => {}
        }
        self.next.tell(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Silence;

    #[test]
    fn phases_and_buildpacks_are_remembered_in_order() {
        let recorder = Recorder::new(Silence);
        let elapsed = Duration::from_secs(1);
        recorder.tell(Event::PhaseEnded {
            phase: Phase::Source,
            elapsed,
        });
        recorder.tell(Event::BuildpackStarted {
            buildpack: "a@1".to_owned(),
        });
        recorder.tell(Event::PhaseEnded {
            phase: Phase::Build,
            elapsed,
        });
        let told = recorder.told();
        assert_eq!(told.phases, [(Phase::Source, elapsed), (Phase::Build, elapsed)]);
        assert_eq!(told.buildpacks, ["a@1"]);
    }
}
