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
/// Questions to the machine's resolver at once, of all jobs; each holds a thread. A job asks far fewer at once, so
/// that one with a slow name server of its own does not stop the others.
const QUESTIONS_MAX: usize = 128;

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
                #[expect(clippy::disallowed_methods, reason = "this is where names are resolved")]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_machine_s_resolver_reads_its_hosts_file() {
        let found = SystemResolver::default().resolve("localhost").await.unwrap();
        assert!(
            !found.is_empty() && found.iter().all(IpAddr::is_loopback),
            "{found:?}"
        );
    }

    #[tokio::test]
    async fn what_the_machine_s_resolver_refuses_by_itself_is_not_found() {
        // A label that is too long is never asked of a name server.
        let found = SystemResolver::default().resolve(&"a".repeat(64)).await;
        assert_eq!(found, Err(ResolveError::NotFound));
    }

    #[test]
    fn a_failure_of_the_resolver_is_not_a_missing_name() {
        let why = "failed to lookup address information: Temporary failure in name resolution";
        assert_eq!(
            classify(&io::Error::other(why)),
            ResolveError::Temporary { why: why.to_owned() }
        );
    }

    /// Answers when the test lets it.
    #[derive(Debug)]
    struct Slow(Semaphore, std::sync::atomic::AtomicUsize);

    impl Resolver for Slow {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Box::pin(async move {
                self.0.acquire().await.unwrap().forget();
                Ok(vec!["192.0.2.1".parse().unwrap(); 3])
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_once_at_a_time_and_again_when_it_is_old() {
        let slow = Arc::new(Slow(Semaphore::new(0), std::sync::atomic::AtomicUsize::new(0)));
        let names = Names::new(slow.clone());
        let asked = || slow.1.load(std::sync::atomic::Ordering::SeqCst);
        slow.0.add_permits(9);
        let (one, two) = tokio::join!(names.lookup("a.example"), names.lookup("a.example"));
        assert_eq!(one, two);
        assert_eq!(one.unwrap().len(), 1);
        assert_eq!(asked(), 1);
        tokio::time::advance(FOUND_KEPT).await;
        names.lookup("a.example").await.unwrap();
        assert_eq!(asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_never_answers_is_given_up() {
        let names = Names::new(Arc::new(Slow(
            Semaphore::new(0),
            std::sync::atomic::AtomicUsize::new(0),
        )));
        let answer = names.lookup("a.example").await;
        assert_eq!(
            answer,
            Err(ResolveError::Temporary {
                why: "no answer within 10 seconds".to_owned()
            })
        );
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let slow = Slow(
            Semaphore::new(2 * NAMES_MAX),
            std::sync::atomic::AtomicUsize::new(0),
        );
        let names = Names::new(Arc::new(slow));
        for number in 0..NAMES_MAX + 10 {
            names.lookup(&format!("host{number}.example")).await.unwrap();
        }
        assert!(names.slots.lock().unwrap().len() <= NAMES_MAX);
    }
}
