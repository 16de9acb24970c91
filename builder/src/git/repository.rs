//! From a git URL to a commit: `Git::resolve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use git2::ErrorCode;
use git2::ObjectType;
use git2::Oid;

use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::git::error::GitError;
use crate::git::fetch::History;
use crate::git::fetch::Session;
use crate::git::fetch::connected;
use crate::git::isolation::Isolation;
use crate::git::mirror::Mirror;
use crate::git::mirror::Purpose;
use crate::git::mirror::kept_ref;
use crate::git::revision::Chosen;
use crate::git::revision::choose;
use crate::git::revision::choose_by_commit;
use crate::git::revision::is_full_commit;
use crate::git::revision::is_short_commit;
use crate::git::revision::near_misses;
use crate::git::settings::Settings;
use crate::git::transport::Connection;
use crate::http::blocking::BlockingClient;
use crate::model::named_by::NamedBy;
use crate::model::source::GitUrl;
use crate::model::source::location::GitLocation;
use crate::model::source::location::Scheme;
use crate::model::timestamp::Timestamp;

/// More branches and tags than these are not all fetched in search of a commit.
const REFS_SEARCHED_MAX: usize = 20_000;

/// Fetches source code. Its calls block, and must not be made on a thread of the async runtime.
#[derive(Debug)]
pub struct Git {
    pub(super) settings: Arc<Settings>,
    hands: Hands,
    /// Where the worker takes connections, inside a job.
    endpoint: Option<SocketAddr>,
}

/// Who reads what a remote sends.
#[derive(Debug)]
enum Hands {
    /// This process.
    Own,
    /// This process; the log is to say why, once.
    OwnFor(String, AtomicBool),
    /// A job each. Whether this process may, where no job can begin.
    Jobs(Arc<dyn Isolation>, bool),
}

/// A commit of a repository, and the part of it that is the app. Everything of it is in the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What was asked for.
    pub url: GitUrl,
    /// The commit in hex.
    pub commit: String,
    /// The committer's time.
    pub commit_time: Timestamp,
    /// The tree of the app (of the subdirectory, if one was asked for) in hex: equal trees are equal sources.
    pub tree: String,
    /// The branch or tag that was asked for, or that the remote's HEAD is; none for a commit.
    pub name: Option<String>,
    /// The repository as labels name it; none for a file.
    pub canonical: Option<String>,
    pub(super) named_by: NamedBy,
}

impl Git {
    /// Makes one; touches neither disk nor network.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            hands: Hands::Own,
            endpoint: None,
        }
    }

    /// The same with all that a remote sends read in jobs, and never in this process. Where a job cannot even begin it is
    /// this process after all, with a warning, if `may_do_without`. Repositories of this machine (`file://`) have no
    /// remote.
    #[must_use]
    pub fn in_jobs(self, isolation: Arc<dyn Isolation>, may_do_without: bool) -> Self {
        let hands = Hands::Jobs(isolation, may_do_without);
        Self { hands, ..self }
    }

    /// The same; the log says once why there are no jobs.
    #[must_use]
    pub fn without_jobs(self, why: String) -> Self {
        let hands = Hands::OwnFor(why, AtomicBool::new(false));
        Self { hands, ..self }
    }

    /// Git inside a job, whose worker takes connections at `endpoint`.
    pub(super) fn inside(settings: Settings, endpoint: SocketAddr) -> Self {
        Self {
            endpoint: Some(endpoint),
            ..Self::new(settings)
        }
    }

    /// Who runs the jobs for a repository, if it is read in jobs.
    pub(super) fn jobs_for(&self, location: &GitLocation, events: &dyn Events) -> Option<&dyn Isolation> {
        if location.scheme() == Scheme::File {
            return None;
        }
        match &self.hands {
            Hands::Own => None,
            Hands::OwnFor(why, was_told) => {
                if !was_told.swap(true, Ordering::Relaxed) {
                    warn_of_no_job(events, why);
                }
                None
            }
            Hands::Jobs(isolation, _) => Some(isolation.as_ref()),
        }
    }

    /// What to do where a job could not begin.
    pub(super) fn do_without_job(&self, location: &GitLocation, events: &dyn Events) -> Result<(), GitError> {
        if let Hands::Jobs(_, false) = &self.hands {
            return Err(GitError::Job {
                url: location.to_string(),
                why: "cannot run on this machine".to_owned(),
            });
        }
        warn_of_no_job(events, "this program cannot run in a sandbox of its own");
        Ok(())
    }

    /// Finds the commit that `url` means, and brings its files into the mirror. A whole commit that is in the mirror
    /// costs no request; a branch or tag costs one list of refs, and a fetch if it moved.
    pub fn resolve(
        &self,
        url: &GitUrl,
        named_by: NamedBy,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<Resolved, GitError> {
        self.check_plain_http(&url.location)?;
        if let Some(isolation) = self.jobs_for(&url.location, events) {
            match self.resolve_in_job(isolation, url, named_by, events, cancel)? {
                Some(resolved) => return Ok(resolved),
                None => self.do_without_job(&url.location, events)?,
            }
        }
        let mirror = Mirror::open(
            &self.settings.mirrors_directory,
            &url.location,
            named_by,
            Purpose::Fetch,
            cancel,
        )?;
        self.resolve_in(&mirror, url, named_by, events, cancel)
    }

    /// The same with an open mirror.
    pub(super) fn resolve_in(
        &self,
        mirror: &Mirror,
        url: &GitUrl,
        named_by: NamedBy,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<Resolved, GitError> {
        let revision = url.revision.as_deref();
        let (commit, name) = match revision
            .filter(|revision| is_full_commit(revision))
            .and_then(|hex| mirror.commit(hex))
        {
            Some(commit) => (commit, None),
            None => self.find(mirror, url, named_by, events, cancel)?,
        };
        describe(mirror, url, commit, name, named_by)
    }

    fn find(
        &self,
        mirror: &Mirror,
        url: &GitUrl,
        named_by: NamedBy,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<(Oid, Option<String>), GitError> {
        let connection = Arc::new(self.connection(&url.location, named_by, cancel)?);
        let revision = url.revision.as_deref();
        let tried = connected(mirror, &connection, events, |session| {
            find_by_ref(session, mirror, revision)
        });
        let hex = match (tried, revision) {
            (Ok(Found::Commit(commit, name)), _) => return Ok((commit, name)),
            (Ok(Found::Search), Some(revision)) => revision,
            // The server gives no commit by its id alone; git's own servers do not, unless told to.
            (Err(GitError::Library { .. }), Some(revision)) if is_full_commit(revision) => revision,
            (Ok(Found::Search), None) => return Err(missing(url, "HEAD", Vec::new())),
            (Ok(Found::Nothing(near)), revision) => {
                return Err(missing(url, revision.unwrap_or("HEAD"), near));
            }
            (Err(error), _) => return Err(error),
        };
        connected(mirror, &connection, events, |session| fetch_all(session, url))?;
        search(mirror, url, hex).map(|commit| (commit, None))
    }

    pub(super) fn connection(
        &self,
        location: &GitLocation,
        named_by: NamedBy,
        cancel: &Cancel,
    ) -> Result<Connection, GitError> {
        let client = match location.scheme() {
            Scheme::Https | Scheme::Http if self.endpoint.is_none() => {
                Some(BlockingClient::new(&self.settings.http).map_err(GitError::Http)?)
            }
            Scheme::Https | Scheme::Http | Scheme::Ssh | Scheme::File => None,
        };
        Ok(Connection::new(
            location.clone(),
            named_by,
            Arc::clone(&self.settings),
            client,
            self.endpoint,
            cancel.clone(),
        ))
    }

    fn check_plain_http(&self, location: &GitLocation) -> Result<(), GitError> {
        let authority = match location.port() {
            Some(port) => format!("{}:{port}", location.host()),
            None => location.host().to_owned(),
        };
        let is_named = self.settings.plain_http_hosts.contains(&authority);
        if location.scheme() != Scheme::Http || location.is_loopback() || is_named {
            return Ok(());
        }
        Err(GitError::PlainHttp {
            url: location.to_string(),
        })
    }
}

fn warn_of_no_job(events: &dyn Events, why: &str) {
    events.tell(Event::Warning {
        text: format!("git reads the repository in this process and not in a sandbox: {why}"),
    });
}

/// What came of looking through the remote's list.
enum Found {
    /// The commit, now in the mirror, and the name that was asked for.
    Commit(Oid, Option<String>),
    /// It may be a commit that no ref points to.
    Search,
    /// There is no such name; names like it.
    Nothing(Vec<String>),
}

fn find_by_ref(
    session: &mut Session<'_, '_>,
    mirror: &Mirror,
    revision: Option<&str>,
) -> Result<Found, GitError> {
    let commit = revision.filter(|revision| is_full_commit(revision));
    if let Some(chosen) = choose(&session.refs, revision) {
        let name = Some(chosen.short_name().to_owned()).filter(|name| name != "HEAD");
        return fetch_chosen(session, mirror, &chosen, name);
    }
    if let Some(chosen) = commit.and_then(|commit| choose_by_commit(&session.refs, commit)) {
        return fetch_chosen(session, mirror, &chosen, None);
    }
    if let Some(commit) = commit {
        session.fetch(&[format!("+{commit}:{}", kept_ref(commit))], History::Tip)?;
        return Ok(mirror
            .commit(commit)
            .map_or(Found::Search, |commit| Found::Commit(commit, None)));
    }
    match revision {
        Some(revision) if is_short_commit(revision) => Ok(Found::Search),
        revision => Ok(Found::Nothing(near_misses(
            &session.refs,
            revision.unwrap_or("HEAD"),
        ))),
    }
}

fn fetch_chosen(
    session: &mut Session<'_, '_>,
    mirror: &Mirror,
    chosen: &Chosen,
    name: Option<String>,
) -> Result<Found, GitError> {
    if mirror.commit(&chosen.commit).is_none() {
        session.fetch(
            &[format!("+{}:{}", chosen.name, kept_ref(&chosen.name))],
            History::Tip,
        )?;
    }
    let commit = mirror.commit(&chosen.commit);
    Ok(commit.map_or(Found::Nothing(Vec::new()), |commit| Found::Commit(commit, name)))
}

/// Fetches every branch and tag with all history: a short commit is unique only among all of them.
fn fetch_all(session: &mut Session<'_, '_>, url: &GitUrl) -> Result<(), GitError> {
    let names = session.refs.iter().map(|advertised| advertised.name.as_str());
    let is_wanted = |name: &str| {
        (name.starts_with("refs/heads/") || name.starts_with("refs/tags/")) && !name.ends_with("^{}")
    };
    let refspecs: Vec<String> = names
        .filter(|name| is_wanted(name))
        .map(|name| format!("+{name}:{}", kept_ref(name)))
        .collect();
    if refspecs.len() > REFS_SEARCHED_MAX {
        let limit = REFS_SEARCHED_MAX as u64;
        return Err(GitError::TooLarge {
            url: url.location.to_string(),
            limit,
            unit: "branches and tags to search".into(),
        });
    }
    if refspecs.is_empty() {
        Ok(())
    } else {
        session.fetch(&refspecs, History::Full)
    }
}

fn search(mirror: &Mirror, url: &GitUrl, hex: &str) -> Result<Oid, GitError> {
    match mirror
        .repository
        .find_object_by_prefix(hex, Some(ObjectType::Commit))
    {
        Ok(commit) => Ok(commit.id()),
        Err(error) if error.code() == ErrorCode::Ambiguous => Err(GitError::RevisionAmbiguous {
            url: url.location.to_string(),
            revision: hex.to_owned(),
        }),
        Err(_) => Err(missing(url, hex, Vec::new())),
    }
}

fn describe(
    mirror: &Mirror,
    url: &GitUrl,
    commit: Oid,
    name: Option<String>,
    named_by: NamedBy,
) -> Result<Resolved, GitError> {
    let failed = |source| GitError::Library {
        doing: "read".into(),
        url: url.location.to_string(),
        source,
    };
    let found = mirror.repository.find_commit(commit).map_err(failed)?;
    let tree = match &url.subdirectory {
        None => found.tree_id(),
        Some(subdirectory) => {
            let entry = found.tree().map_err(failed)?.get_path(subdirectory.as_ref()).ok();
            let entry = entry.filter(|entry| entry.kind() == Some(ObjectType::Tree));
            entry
                .map(|entry| entry.id())
                .ok_or_else(|| GitError::SubdirectoryNotFound {
                    url: url.location.to_string(),
                    subdirectory: subdirectory.clone(),
                    commit: commit.to_string(),
                })?
        }
    };
    Ok(Resolved {
        url: url.clone(),
        commit: commit.to_string(),
        commit_time: Timestamp(found.time().seconds()),
        tree: tree.to_string(),
        name,
        canonical: url.canonical_url(),
        named_by,
    })
}

fn missing(url: &GitUrl, revision: &str, near: Vec<String>) -> GitError {
    GitError::RevisionNotFound {
        url: url.location.to_string(),
        revision: revision.to_owned(),
        near,
    }
}
