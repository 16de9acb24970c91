//! A conversation with a remote: its refs are listed, and what is missing in the mirror is fetched.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;

use git2::AutotagOption;
use git2::Direction;
use git2::FetchOptions;
use git2::Remote;
use git2::RemoteCallbacks;

use crate::events::Events;
use crate::events::Moving;
use crate::events::Unit;
use crate::git::error::GitError;
use crate::git::mirror::Mirror;
use crate::git::revision::Advertised;
use crate::git::transport::Connection;
use crate::git::transport::REMOTE_URL;
use crate::git::transport::with_connection;
use crate::model::source::location::GitLocation;
use crate::model::source::location::Scheme;

/// How much history a fetch brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    /// The commit alone, where the transport can.
    Tip,
    /// All of it.
    Full,
}

/// A connected remote.
pub(super) struct Session<'session, 'mirror> {
    remote: &'session mut Remote<'mirror>,
    connection: &'session Connection,
    mirror: &'session Mirror,
    events: &'session dyn Events,
    /// What the remote lists.
    pub(super) refs: Vec<Advertised>,
}

/// Connects, lists the refs and does `work`.
pub(super) fn connected<T>(
    mirror: &Mirror,
    connection: &Arc<Connection>,
    events: &dyn Events,
    work: impl FnOnce(&mut Session<'_, '_>) -> Result<T, GitError>,
) -> Result<T, GitError> {
    with_connection(connection, || {
        connection.cancel.check()?;
        let location = &connection.location;
        let url = match location.scheme() {
            Scheme::File if git2::Repository::open(location.path()).is_err() => {
                return Err(no_repository(location));
            }
            // A bare path with a colon in it would be ssh to libgit2.
            Scheme::File => format!("file://{}", location.path().replace('%', "%25")),
            Scheme::Https | Scheme::Http | Scheme::Ssh => REMOTE_URL.to_owned(),
        };
        let failed = |error| failure(connection, "connect to", error);
        let mut remote = mirror.repository.remote_anonymous(&url).map_err(failed)?;
        let mut connected = remote
            .connect_auth(Direction::Fetch, None, None)
            .map_err(failed)?;
        let refs = list(connection, connected.remote())?;
        work(&mut Session {
            remote: connected.remote(),
            connection,
            mirror,
            events,
            refs,
        })
    })
}

impl Session<'_, '_> {
    /// Fetches what `refspecs` name.
    pub(super) fn fetch(&mut self, refspecs: &[String], history: History) -> Result<(), GitError> {
        let limit = self.connection.settings.limits.fetch_bytes_max;
        let objects_max = self.connection.settings.limits.fetch_objects_max;
        let (too_large, too_many) = (Cell::new(false), Cell::new(false));
        let what = format!("fetch {}", self.connection.location);
        let cancel = &self.connection.cancel;
        let mut moving = Moving::new(self.events, &what, None, Unit::Objects);
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(|progress| {
            too_large.set(progress.received_bytes() as u64 > limit);
            let (done, total) = (
                progress.received_objects() as u64,
                progress.total_objects() as u64,
            );
            too_many.set(total > objects_max);
            moving.of(total);
            moving.tell(done);
            !cancel.is_cancelled() && !too_large.get() && !too_many.get()
        });
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(callbacks)
            .download_tags(AutotagOption::None)
            .update_fetchhead(false);
        match history {
            // libgit2's local transport has no shallow fetch.
            History::Tip if self.connection.location.scheme() == Scheme::File => {}
            History::Tip => {
                options.depth(1);
            }
            History::Full if self.mirror.is_shallow() => {
                options.depth(i32::MAX);
            }
            History::Full => {}
        }
        let fetched = self.remote.fetch(refspecs, Some(&mut options), None);
        drop(options);
        for (is_over, limit, unit) in [
            (too_large.get(), limit, "bytes to fetch"),
            (too_many.get(), objects_max, "objects to fetch"),
        ] {
            if is_over {
                return Err(GitError::TooLarge {
                    url: self.connection.location.to_string(),
                    limit,
                    unit: unit.into(),
                });
            }
        }
        fetched.map_err(|error| failure(self.connection, "fetch", error))
    }
}

fn list(connection: &Connection, remote: &Remote<'_>) -> Result<Vec<Advertised>, GitError> {
    let heads = remote
        .list()
        .map_err(|error| failure(connection, "list", error))?;
    let limit = connection.settings.limits.refs_max;
    if heads.len() > limit {
        let url = connection.location.to_string();
        return Err(GitError::TooLarge {
            url,
            limit: limit as u64,
            unit: "branches and tags".into(),
        });
    }
    let advertised = heads.iter().filter_map(|head| {
        // git2 panics on a name that is not UTF-8; such a ref cannot be asked for and is passed over.
        catch_unwind(AssertUnwindSafe(|| Advertised {
            name: head.name().to_owned(),
            object: head.oid().to_string(),
            target: head.symref_target().map(str::to_owned),
        }))
        .ok()
    });
    Ok(advertised.collect())
}

/// What a failure of libgit2 means: the transport's own failure, if it kept one.
fn failure(connection: &Connection, doing: &'static str, source: git2::Error) -> GitError {
    if let Some(kept) = connection.take_failure() {
        return kept;
    }
    if let Err(cancelled) = connection.cancel.check() {
        return cancelled.into();
    }
    GitError::Library {
        doing: doing.into(),
        url: connection.location.to_string(),
        source,
    }
}

fn no_repository(location: &GitLocation) -> GitError {
    GitError::NoRepository {
        url: location.to_string(),
        why: "there is none at this path".to_owned(),
    }
}
