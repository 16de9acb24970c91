//! Stands before whoever watches a build: nothing passes that has a secret in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::events::Event;
use crate::events::Events;
use crate::events::Stream;
use crate::events::Watcher;
use crate::model::refused::Refused;
use crate::secrets::redaction::Patterns;
use crate::secrets::redaction::Redaction;

/// Hands events on without the secrets that are in them.
pub struct Redactor {
    next: Watcher,
    patterns: Arc<Patterns>,
    /// Outputs whose end may be the beginning of a secret, in the order in which they began.
    open: Mutex<Outputs>,
}

type Outputs = HashMap<(String, Stream), Redaction>;

impl Redactor {
    /// A redactor in front of `next`.
    pub fn new(next: Watcher, patterns: Arc<Patterns>) -> Self {
        Self {
            next,
            patterns,
            open: Mutex::default(),
        }
    }

    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what was held back: the steps that wrote it have ended.
    fn end_outputs(&self) {
        let mut ended: Vec<_> = self.outputs().drain().collect();
        ended.sort_by(|((one, _), _), ((other, _), _)| one.cmp(other));
        for ((buildpack, stream), mut redaction) in ended {
            self.tell_output(buildpack, stream, redaction.rest());
        }
    }

    fn tell_output(&self, buildpack: String, stream: Stream, text: String) {
        if !text.is_empty() {
            self.next.tell(Event::Output {
                buildpack,
                stream,
                text,
            });
        }
    }

    fn take_output(&self, buildpack: String, stream: Stream, text: &str) {
        // The lock is held while it is told, so that the pieces of one output stay in order.
        let mut outputs = self.outputs();
        let redaction = outputs
            .entry((buildpack.clone(), stream))
            .or_insert_with(|| Redaction::new(Arc::clone(&self.patterns)));
        let sure = redaction.take(text);
        self.tell_output(buildpack, stream, sure);
    }
}

impl Events for Redactor {
    fn tell(&self, event: Event) {
        let redact = |text: String| self.patterns.redact(&text);
        let event = match event {
            Event::Output {
                buildpack,
                stream,
                text,
            } => return self.take_output(buildpack, stream, &text),
            Event::BuildpackStarted { buildpack } => {
                self.end_outputs();
                Event::BuildpackStarted { buildpack }
            }
            Event::PhaseEnded { phase, elapsed } => {
                self.end_outputs();
                Event::PhaseEnded { phase, elapsed }
            }
            Event::PhaseStarted { phase } => Event::PhaseStarted { phase },
            Event::Refused { refused } => Event::Refused {
                refused: refused
                    .into_iter()
                    .map(|one| Refused {
                        host: one.host.map(redact),
                        reason: redact(one.reason),
                        ..one
                    })
                    .collect(),
            },
            Event::Decision { text } => Event::Decision { text: redact(text) },
            Event::Warning { text } => Event::Warning { text: redact(text) },
            Event::Progress {
                what,
                done,
                total,
                unit,
            } => Event::Progress {
                what: redact(what),
                done,
                total,
                unit,
            },
            Event::Layer {
                name,
                outcome,
                diff_id,
                size,
            } => Event::Layer {
                name: redact(name),
                outcome,
                diff_id,
                size,
            },
        };
        self.next.tell(event);
    }
}

impl Drop for Redactor {
    fn drop(&mut self) {
        self.end_outputs();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::phase::Phase;
    use crate::model::secret::Delivery;
    use crate::model::secret::SecretSpec;

    #[derive(Default)]
    struct Heard(Mutex<Vec<Event>>);

    impl Events for Heard {
        fn tell(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    fn output(stream: Stream, text: &str) -> Event {
        Event::Output {
            buildpack: "a@1".to_owned(),
            stream,
            text: text.to_owned(),
        }
    }

    #[test]
    fn no_kind_of_event_has_a_secret_in_it() {
        let spec = SecretSpec::parse("npm", Delivery::Binding).unwrap();
        let secret = spec.with(b"tok-0123456789".to_vec()).unwrap();
        let heard = Arc::new(Heard::default());
        let redactor = Redactor::new(heard.clone(), Patterns::of(&[secret]).unwrap().unwrap());
        redactor.tell(output(Stream::Stdout, "out tok-0123"));
        redactor.tell(output(Stream::Stderr, "err tok-01234"));
        redactor.tell(Event::Warning {
            text: "tok-0123456789 is odd".to_owned(),
        });
        redactor.tell(Event::Decision {
            text: "took tok-0123456789".to_owned(),
        });
        redactor.tell(output(Stream::Stdout, "456789\nlast tok-"));
        redactor.tell(output(Stream::Stderr, "56789\n"));
        redactor.tell(Event::PhaseEnded {
            phase: Phase::Build,
            elapsed: Duration::ZERO,
        });
        let told = serde_json::to_string(&*heard.0.lock().unwrap()).unwrap();
        assert!(!told.contains("tok-0") && !told.contains("56789"), "{told}");
        assert!(
            told.contains("[secret npm] is odd") && told.contains("took [secret npm]"),
            "{told}"
        );
        let of = |wanted: Stream| {
            let events = heard.0.lock().unwrap();
            let texts = events.iter().filter_map(|event| match event {
                Event::Output { stream, text, .. } if *stream == wanted => Some(text.clone()),
                _ => None,
            });
            texts.collect::<String>()
        };
        assert_eq!(of(Stream::Stdout), "out [secret npm]\nlast tok-");
        assert_eq!(of(Stream::Stderr), "err [secret npm]\n");
        let events = heard.0.lock().unwrap();
        assert!(
            matches!(events.last(), Some(Event::PhaseEnded { .. })),
            "what was held back comes before the end"
        );
    }
}
