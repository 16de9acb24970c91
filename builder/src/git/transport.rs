//! The one place where transports are registered with libgit2, and what a connection carries through it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use git2::transport::Transport;

use crate::events::Cancel;
use crate::events::Cancelled;
use crate::git::credential::Credential;
use crate::git::error::GitError;
use crate::git::plain_http::PlainHttp;
use crate::git::settings::Settings;
use crate::git::smart_http::SmartHttp;
use crate::git::ssh::Ssh;
use crate::http::blocking::BlockingClient;
use crate::model::named_by::NamedBy;
use crate::model::source::location::GitLocation;
use crate::model::source::location::Scheme;

/// The scheme of the URLs that libgit2 gets to see; the real address and its credentials stay with us.
const PREFIX: &str = "packhorse";
/// What libgit2 is given for every repository that is not on this machine.
pub(super) const REMOTE_URL: &str = "packhorse://remote";

thread_local! {
    /// The connection that is being made on this thread: libgit2 gives a transport no room for it.
    static CURRENT: RefCell<Option<Arc<Connection>>> = const { RefCell::new(None) };
}

/// What one conversation with a remote needs to know, and how it failed.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) location: GitLocation,
    pub(super) named_by: NamedBy,
    pub(super) settings: Arc<Settings>,
    /// None: the remote is not reached by HTTP.
    pub(super) client: Option<BlockingClient>,
    /// Where a worker passes everything on, inside a job.
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) cancel: Cancel,
    given_up: AtomicBool,
    /// The credentials that the remote took, for its next requests.
    pub(super) credential: Mutex<Option<Credential>>,
    failure: Mutex<Option<GitError>>,
}

impl Connection {
    pub(super) fn new(
        location: GitLocation,
        named_by: NamedBy,
        settings: Arc<Settings>,
        client: Option<BlockingClient>,
        endpoint: Option<SocketAddr>,
        cancel: Cancel,
    ) -> Self {
        let own = Credential::of(&location).filter(|_| named_by != NamedBy::Source);
        Self {
            location,
            named_by,
            settings,
            client,
            endpoint,
            cancel,
            given_up: AtomicBool::new(false),
            credential: Mutex::new(own),
            failure: Mutex::new(None),
        }
    }

    /// Keeps the first failure with its kind; libgit2 carries text only.
    pub(super) fn fail(&self, error: GitError) -> String {
        let text = error.to_string();
        if self.given_up.load(Ordering::Relaxed) {
            return text;
        }
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        text
    }

    /// Ends whatever waits for the remote: nobody needs its answer any more.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Fails once the build was cancelled, or nobody waits any more.
    pub(super) fn check(&self) -> Result<(), Cancelled> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(Cancelled);
        }
        self.cancel.check()
    }

    /// The failure that was kept.
    pub(super) fn take_failure(&self) -> Option<GitError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Does `work`, in which libgit2 connects to the remote of `connection` on this thread.
pub(super) fn with_connection<T>(connection: &Arc<Connection>, work: impl FnOnce() -> T) -> T {
    struct Reset(Option<Arc<Connection>>);
    impl Drop for Reset {
        fn drop(&mut self) {
            CURRENT.with(|current| current.replace(self.0.take()));
        }
    }
    let _reset = Reset(CURRENT.with(|current| current.replace(Some(Arc::clone(connection)))));
    work()
}

/// Prepares libgit2, once a process; to be called before anything else of it.
pub(super) fn prepare() -> Result<(), git2::Error> {
    static PREPARED: OnceLock<Result<(), String>> = OnceLock::new();
    PREPARED
        .get_or_init(|| configure().map_err(|error| error.message().to_owned()))
        .clone()
        .map_err(|text| git2::Error::from_str(&text))
}

#[expect(
    unsafe_code,
    reason = "libgit2's options and list of transports are global to the process"
)]
fn configure() -> Result<(), git2::Error> {
    let levels = [
        git2::ConfigLevel::ProgramData,
        git2::ConfigLevel::System,
        git2::ConfigLevel::XDG,
        git2::ConfigLevel::Global,
    ];
    for level in levels {
        // The user's `insteadOf`, proxies and helpers are for the user's git; what we read must not depend on them.
        // SAFETY: called once, under `OnceLock`, before any other use of libgit2, so that nothing reads it meanwhile.
        unsafe { git2::opts::set_search_path(level, "")? };
    }
    // Who owns a repository matters to those who run what its configuration names; we run nothing of it, and in
    // containers the owner is often another.
    // SAFETY: as above.
    unsafe { git2::opts::set_verify_owner_validation(false)? };
    // SAFETY: as above; no transport is created before this returns.
    unsafe { git2::transport::register(PREFIX, connect) }
}

fn connect(remote: &git2::Remote<'_>) -> Result<Transport, git2::Error> {
    let Some(connection) = CURRENT.with(|current| current.borrow().clone()) else {
        return Err(git2::Error::from_str("no connection was prepared on this thread"));
    };
    if let Some(endpoint) = connection.endpoint {
        let is_questions_and_answers = connection.location.scheme() != Scheme::Ssh;
        return Transport::smart(
            remote,
            is_questions_and_answers,
            PlainHttp::new(connection, endpoint),
        );
    }
    match connection.location.scheme() {
        Scheme::Https | Scheme::Http => Transport::smart(remote, true, SmartHttp::new(connection)),
        Scheme::Ssh => Transport::smart(remote, false, Ssh::new(connection)),
        Scheme::File => Err(git2::Error::from_str("files have libgit2's own transport")),
    }
}
