//! A sink that keeps what a build told.

use std::sync::Mutex;

use packhorse::events::Event;
use packhorse::events::Events;

/// Keeps every event.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// The texts of all warnings.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let warnings = events.iter().filter_map(|event| match event {
            Event::Warning { text } => Some(text.clone()),
            _ => None,
        });
        warnings.collect()
    }

    /// The last `done` of the transfers whose name contains `what`.
    pub(crate) fn progress(&self, what: &str) -> Option<u64> {
        let events = self.0.lock().unwrap();
        let mut reports = events.iter().filter_map(|event| match event {
            Event::Progress {
                what: named, done, ..
            } if named.contains(what) => Some(*done),
            _ => None,
        });
        reports.next_back()
    }
}

impl Events for Recorder {
    fn tell(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}
