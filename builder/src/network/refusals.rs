//! What a job was not given: each kind once, with a count.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::events::Event;
use crate::events::Watcher;
use crate::model::policy::Why;
use crate::model::refused::Refused;

/// Refusals that are told apart; what comes after is counted together.
const REFUSALS_MAX: usize = 256;

/// Why a job did not get a connection or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The network policy forbids it.
    Policy(Why),
    /// An address of 198.18.0.0/15 for which no name was asked.
    UnknownAddress,
    /// Behind an upstream proxy: the TLS server name is another than the name asked for, or there is none.
    ServerName {
        /// What the job wrote.
        found: Option<String>,
    },
    /// Behind an upstream proxy: what came on port 443 is not TLS.
    NotTls,
    /// The job asked for too many names.
    TooManyNames,
    /// The policy allows it, but it cannot be reached.
    Unreachable(String),
    /// More than are told apart.
    Others,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(why) => why.fmt(formatter),
            Self::UnknownAddress => formatter.write_str("no name was asked that has this address"),
            Self::ServerName { found: Some(found) } => {
                write!(formatter, "its TLS server name is another one: `{found}`")
            }
            Self::ServerName { found: None } => formatter.write_str("its TLS handshake has no server name"),
            Self::NotTls => formatter.write_str("it is not TLS, and the upstream proxy resolves names"),
            Self::TooManyNames => formatter.write_str("too many names were asked"),
            Self::Unreachable(why) => formatter.write_str(why),
            Self::Others => formatter.write_str("too many different refusals to list"),
        }
    }
}

/// One kind of refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `id@version` of the buildpack that asked; none where several ran at once, or none.
    pub asker: Option<Arc<str>>,
    /// The name that the job asked for; none for a literal address.
    pub name: Option<String>,
    /// The literal address, or the one that the name resolved to where that is what was refused.
    pub address: Option<IpAddr>,
    /// The port; none if only a name was asked.
    pub port: Option<u16>,
    /// Why.
    pub why: Reason,
    /// How often.
    pub count: u64,
}

impl fmt::Display for Refusal {
    /// One sentence for the build's log. The address behind a name stays with the operator.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if matches!(self.why, Reason::Unreachable(_)) {
            "failed"
        } else {
            "was refused"
        };
        if let Some(asker) = &self.asker {
            write!(formatter, "{asker}: ")?;
        }
        match (&self.name, self.address, self.port) {
            (Some(name), _, Some(port)) => {
                write!(
                    formatter,
                    "a connection to `{name}` port {port} {verb}: {}",
                    self.why
                )
            }
            (Some(name), _, None) => write!(formatter, "the name `{name}` {verb}: {}", self.why),
            (None, Some(address), Some(port)) => {
                write!(
                    formatter,
                    "a connection to {address} port {port} {verb}: {}",
                    self.why
                )
            }
            _ => write!(formatter, "a connection {verb}: {}", self.why),
        }
    }
}

/// The refusals of one job.
pub(super) struct Refusals {
    watcher: Watcher,
    list: Mutex<Vec<Refusal>>,
}

impl fmt::Debug for Refusals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Refusals")
            .field("list", &self.list)
            .finish_non_exhaustive()
    }
}

impl Refusals {
    pub(super) fn new(watcher: Watcher) -> Self {
        Self {
            watcher,
            list: Mutex::default(),
        }
    }

    /// Counts one; the first of each kind is told to the build's watchers.
    pub(super) fn record(&self, refusal: Refusal) {
        if let Some(news) = self.count(refusal) {
            self.watcher.tell(Event::Warning {
                text: news.to_string(),
            });
        }
    }

    /// What was refused so far, in order of the first time.
    pub(super) fn list(&self) -> Vec<Refusal> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The refusal if it is the first of its kind.
    fn count(&self, mut refusal: Refusal) -> Option<Refusal> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = list.iter_mut().find(|known| known.is_like(&refusal)) {
            known.count += 1;
            return None;
        }
        if list.len() > REFUSALS_MAX {
            if let Some(others) = list.last_mut() {
                others.count += 1;
            }
            return None;
        }
        if list.len() == REFUSALS_MAX {
            refusal = Refusal {
                asker: None,
                name: None,
                address: None,
                port: None,
                why: Reason::Others,
                count: 1,
            };
        }
        list.push(refusal.clone());
        Some(refusal)
    }
}

impl Refusal {
    fn is_like(&self, other: &Self) -> bool {
        (&self.asker, &self.name, self.address, self.port, &self.why)
            == (&other.asker, &other.name, other.address, other.port, &other.why)
    }

    /// The same for the report; none if the policy did not refuse it.
    pub fn refused(&self) -> Option<Refused> {
        if matches!(self.why, Reason::Unreachable(_)) {
            return None;
        }
        let host = match (&self.name, self.address) {
            (Some(name), _) => Some(name.clone()),
            (None, address) => address.map(|address| address.to_string()),
        };
        Some(Refused {
            buildpack: self.asker.as_deref().map(str::to_owned),
            host,
            port: self.port,
            reason: self.why.to_string(),
            count: self.count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Events;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Events for Told {
        fn tell(&self, event: Event) {
            if let Event::Warning { text } = event {
                self.0.lock().unwrap().push(text);
            }
        }
    }

    fn refusal(name: &str, address: Option<&str>) -> Refusal {
        Refusal {
            asker: None,
            name: Some(name.to_owned()),
            address: address.map(|text| text.parse().unwrap()),
            port: Some(443),
            why: Reason::Policy(Why::Private),
            count: 1,
        }
    }

    #[test]
    fn each_kind_is_told_once_and_counted_without_its_address() {
        let told = Arc::new(Told::default());
        let refusals = Refusals::new(told.clone());
        for _ in 0..3 {
            refusals.record(refusal("db.example", Some("10.0.0.1")));
        }
        refusals.record(refusal("other.example", None));
        assert_eq!(
            refusals
                .list()
                .iter()
                .map(|refusal| refusal.count)
                .collect::<Vec<_>>(),
            [3, 1]
        );
        let told = told.0.lock().unwrap();
        assert_eq!(told.len(), 2);
        assert_eq!(
            told[0],
            "a connection to `db.example` port 443 was refused: it is a private address"
        );
    }

    #[test]
    fn each_buildpack_has_its_own_count_and_only_what_was_refused_is_reported() {
        let told = Arc::new(Told::default());
        let refusals = Refusals::new(told.clone());
        for asker in ["a@1", "a@1", "b@2"] {
            refusals.record(Refusal {
                asker: Some(asker.into()),
                ..refusal("db.example", None)
            });
        }
        refusals.record(Refusal {
            why: Reason::Unreachable("no route".to_owned()),
            ..refusal("away.example", None)
        });
        let reported: Vec<Refused> = refusals.list().iter().filter_map(Refusal::refused).collect();
        let counts: Vec<_> = reported
            .iter()
            .map(|one| (one.buildpack.as_deref(), one.count))
            .collect();
        assert_eq!(counts, [(Some("a@1"), 2), (Some("b@2"), 1)]);
        assert_eq!(reported[0].place(), "db.example:443");
        assert_eq!(
            told.0.lock().unwrap()[0],
            "a@1: a connection to `db.example` port 443 was refused: it is a private address"
        );
    }

    #[test]
    fn the_list_is_bounded() {
        let refusals = Refusals::new(Arc::new(Told::default()));
        for number in 0..1000 {
            refusals.record(refusal(&format!("host{number}.example"), None));
        }
        let list = refusals.list();
        assert_eq!(list.len(), REFUSALS_MAX + 1);
        let others = list.last().unwrap();
        assert_eq!((&others.why, others.count), (&Reason::Others, 1000 - 256));
    }
}
