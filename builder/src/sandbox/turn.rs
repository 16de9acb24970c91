//! The commands of a job, counted: its memory is counted for all of them together, so it matters who was alone.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// The commands of one job.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: u64,
    running: u64,
}

/// One command; it has ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'turns> {
    turns: &'turns Turns,
    number: u64,
    began_alone: bool,
}

impl Turns {
    pub(crate) fn begin(&self) -> Turn<'_> {
        let mut counts = self.counts();
        counts.begun += 1;
        counts.running += 1;
        Turn {
            turns: self,
            number: counts.begun,
            began_alone: counts.running == 1,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Which command of the job it is.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether no other command ran at any time since this one began.
    pub(crate) fn was_alone(&self) -> bool {
        self.began_alone && self.turns.counts().begun == self.number
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.counts().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_had_a_neighbour_was_not_alone() {
        let turns = Turns::default();
        let first = turns.begin();
        assert!(first.was_alone());
        let second = turns.begin();
        drop(first);
        assert!(!second.was_alone(), "the first was there when it began");
        drop(second);
        let third = turns.begin();
        drop(turns.begin());
        assert!(!third.was_alone(), "there was one meanwhile");
        drop(third);
        let fifth = turns.begin();
        assert!(fifth.was_alone() && fifth.number() == 5);
    }
}
