//! Names to addresses: asked of the machine's resolver, kept for a short time, one question a name at once.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// For one question.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer is kept.
const FOUND_KEPT: Duration = Duration::from_secs(30);
/// How long "no such name" is kept.
const MISSING_KEPT: Duration = Duration::from_secs(5);
/// How long a resolver's failure is kept, so that a loop in a job does not become a loop of questions.
const FAILURE_KEPT: Duration = Duration::from_secs(1);
/// Names that are kept.
const NAMES_MAX: usize = 4096;
/// Addresses of one name that are kept.
const ADDRESSES_MAX: usize = 32;
/// Questions to the machine's resolver at once; each holds a thread.
const QUESTIONS_MAX: usize = 32;

/// A name that brought no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such name, or it has no address.
    #[error("there is no such name")]
    NotFound,
    /// The resolver did not know.
    #[error("{why}")]
    Temporary {
        /// The resolver's words.
        why: String,
    },
}

impl Failure for ResolveError {
    fn facts(&self) -> Facts {
        match self {
            Self::NotFound => Facts::platform("name_not_found"),
            Self::Temporary { .. } => Facts::temporary("name_not_resolved"),
        }
    }
}

/// Knows the addresses of names.
pub trait Resolver: Send + Sync + fmt::Debug {
    /// The addresses of a name, in the order in which they are to be tried.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>>;
}

/// The machine's own resolver, with its `hosts` file.
#[derive(Debug)]
pub struct SystemResolver {
    questions: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        }
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            let temporary = |why: &dyn fmt::Display| ResolveError::Temporary { why: why.to_string() };
            // The permit goes with the thread, which goes on when the asker has given up.
            let permit = Arc::clone(&self.questions)
                .acquire_owned()
                .await
                .map_err(|error| temporary(&error))?;
            let name = name.to_owned();
            let question = spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                drop(permit);
                found
            });
            match question.await.map_err(|error| temporary(&error))? {
                Ok(found) => Ok(found.map(|address| address.ip()).collect()),
                Err(error) => Err(classify(&error)),
            }
        })
    }
}

/// std keeps no code of `getaddrinfo`'s, so its words decide; they are not translated, as no locale is set.
fn classify(error: &io::Error) -> ResolveError {
    let why = error.to_string();
    let is_final = [
        "Name or service not known",
        "No address associated",
        "Name does not resolve",
        "Name has no usable",
    ]
    .iter()
    .any(|words| why.contains(words));
    if is_final {
        ResolveError::NotFound
    } else {
        ResolveError::Temporary { why }
    }
}

/// What a resolver said of one name, and when.
#[derive(Debug)]
struct Known {
    since: Instant,
    answer: Result<Arc<[IpAddr]>, ResolveError>,
}

impl Known {
    fn is_fresh(&self) -> bool {
        let kept = match self.answer {
            Ok(_) => FOUND_KEPT,
            Err(ResolveError::NotFound) => MISSING_KEPT,
            Err(ResolveError::Temporary { .. }) => FAILURE_KEPT,
        };
        self.since.elapsed() < kept
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Known>>>;

/// A resolver with a memory.
#[derive(Debug)]
pub(super) struct Names {
    resolver: Arc<dyn Resolver>,
    slots: Mutex<HashMap<String, Slot>>,
}

impl Names {
    pub(super) fn new(resolver: Arc<dyn Resolver>) -> Self {
        Self {
            resolver,
            slots: Mutex::default(),
        }
    }

    /// The addresses of a normal name, at least one. Whoever asks for a name that is being looked up waits for it.
    pub(super) async fn lookup(&self, name: &str) -> Result<Arc<[IpAddr]>, ResolveError> {
        let slot = self.slot(name);
        let mut known = slot.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.is_fresh()) {
            return known.answer.clone();
        }
        let answer = self.ask(name).await;
        *known = Some(Known {
            since: Instant::now(),
            answer: answer.clone(),
        });
        answer
    }

    async fn ask(&self, name: &str) -> Result<Arc<[IpAddr]>, ResolveError> {
        let late = |_| {
            let why = format!("no answer within {} seconds", LOOKUP_TIMEOUT.as_secs());
            Err(ResolveError::Temporary { why })
        };
        let found = timeout(LOOKUP_TIMEOUT, self.resolver.resolve(name))
            .await
            .unwrap_or_else(late)?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in found {
            if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            Err(ResolveError::NotFound)
        } else {
            Ok(addresses.into())
        }
    }

    fn slot(&self, name: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= NAMES_MAX && !slots.contains_key(name) {
            slots.retain(|_, slot| {
                slot.try_lock()
                    .map_or(true, |known| known.as_ref().is_some_and(Known::is_fresh))
            });
            if slots.len() >= NAMES_MAX {
                slots.clear();
            }
        }
        Arc::clone(slots.entry(name.to_owned()).or_default())
    }
}
