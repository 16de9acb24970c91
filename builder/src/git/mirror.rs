//! The bare mirror of one remote, `<data>/git/<hash>.git`: what was fetched once is not fetched again.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use git2::Oid;
use git2::Repository;
use git2::RepositoryInitOptions;
use rustix::fs::FlockOperation;
use rustix::fs::flock;

use crate::events::Cancel;
use crate::git::error::GitError;
use crate::git::transport::prepare;
use crate::model::digest::Digest;
use crate::model::named_by::NamedBy;
use crate::model::source::location::GitLocation;
use crate::model::source::location::Scheme;
use crate::oci::removal;

/// How often a waiting caller tries for the lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);
/// Each fetch leaves a pack; with more than these the mirror is made anew, which costs one shallow fetch.
const PACKS_MAX: usize = 60;

/// An open mirror under its lock.
pub(super) struct Mirror {
    pub(super) repository: Repository,
    /// None inside a job, whose worker holds it.
    _lock: Option<File>,
}

/// What the holder of a mirror's lock means to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Read; others may read too.
    Read,
    /// Fetch; nobody else has it open.
    Fetch,
}

impl Mirror {
    /// Opens the mirror of `location` for those who named it, made if need be, and waits for its lock.
    pub(super) fn open(
        directory: &Path,
        location: &GitLocation,
        named_by: NamedBy,
        purpose: Purpose,
        cancel: &Cancel,
    ) -> Result<Self, GitError> {
        prepare().map_err(|source| GitError::Library {
            doing: "prepare for".into(),
            url: location.to_string(),
            source,
        })?;
        let path = path_of(directory, location, named_by);
        fs::create_dir_all(directory).map_err(|source| file_error("make", directory, source))?;
        let lock = locked(&path.with_extension("lock"), purpose, cancel)?;
        if purpose == Purpose::Fetch && has_too_many_packs(&path) {
            remove(&path)?;
        }
        let repository = open_or_make(&path, location, purpose)?;
        Ok(Self {
            repository,
            _lock: Some(lock),
        })
    }

    /// Opens the mirror that a job has at `path`; made if there is none, and again if what is there is none.
    pub(super) fn open_in_job(
        path: &Path,
        location: &GitLocation,
        purpose: Purpose,
    ) -> Result<Self, GitError> {
        let wrong = |doing: &'static str, source| GitError::Library {
            doing: doing.into(),
            url: format!("the mirror of {location}"),
            source,
        };
        prepare().map_err(|error| wrong("prepare for", error))?;
        let opened = Repository::open_bare(path);
        let repository = match opened {
            Err(_) if purpose == Purpose::Fetch => {
                let entries = fs::read_dir(path).map_err(|source| file_error("read", path, source))?;
                for entry in entries.flatten() {
                    remove(&entry.path())?;
                }
                make(path).map_err(|error| wrong("make", error))?
            }
            opened => opened.map_err(|error| wrong("open", error))?,
        };
        Ok(Self {
            repository,
            _lock: None,
        })
    }

    /// The object with this id in hex, if the mirror has it, as a commit: an annotated tag is peeled.
    pub(super) fn commit(&self, object: &str) -> Option<Oid> {
        let object = self
            .repository
            .find_object(Oid::from_str(object).ok()?, None)
            .ok()?;
        Some(object.peel_to_commit().ok()?.id())
    }

    /// Whether history was cut off when it was fetched.
    pub(super) fn is_shallow(&self) -> bool {
        self.repository.is_shallow()
    }
}

/// The ref under which a fetched ref or commit is kept, so that the next fetch can build on it. Flat, for a branch
/// `a` may give way to `a/b`.
pub(super) fn kept_ref(name: &str) -> String {
    format!("refs/packhorse/{}", &Digest::of(name.as_bytes()).hex()[..32])
}

/// The mirror's folder. The scheme is part of its name: what one may read by ssh is not what all may read by HTTP. So is
/// whether the source named it: what credentials have brought here is not for whoever writes `.gitmodules`.
pub(super) fn path_of(directory: &Path, location: &GitLocation, named_by: NamedBy) -> PathBuf {
    let user = match location.scheme() {
        Scheme::Ssh => location.user().unwrap_or_default(),
        Scheme::Https | Scheme::Http | Scheme::File => "",
    };
    let reader = match named_by {
        NamedBy::User | NamedBy::Operator => "",
        NamedBy::Source => "source\0",
    };
    let key = format!("{reader}{user}\0{}", location.request_url());
    directory.join(format!("{}.git", &Digest::of(key.as_bytes()).hex()[..40]))
}

pub(super) fn locked(path: &Path, purpose: Purpose, cancel: &Cancel) -> Result<File, GitError> {
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    let lock = lock.map_err(|source| file_error("open", path, source))?;
    let operation = match purpose {
        Purpose::Read => FlockOperation::NonBlockingLockShared,
        Purpose::Fetch => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        cancel.check()?;
        match flock(&lock, operation) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => thread::sleep(LOCK_INTERVAL),
            Err(error) => return Err(file_error("lock", path, error.into())),
        }
    }
}

fn open_or_make(path: &Path, location: &GitLocation, purpose: Purpose) -> Result<Repository, GitError> {
    let wrong = |doing: &'static str, source| GitError::Library {
        doing: doing.into(),
        url: format!("the mirror of {location}"),
        source,
    };
    match Repository::open_bare(path) {
        Ok(repository) => return Ok(repository),
        Err(error) if purpose == Purpose::Read => return Err(wrong("open", error)),
        // Not there yet, or broken: a mirror holds nothing that cannot be fetched again.
        Err(_) => remove(path)?,
    }
    let unfinished = path.with_extension("new");
    remove(&unfinished)?;
    make(&unfinished).map_err(|error| wrong("make", error))?;
    fs::rename(&unfinished, path).map_err(|source| file_error("rename", &unfinished, source))?;
    Repository::open_bare(path).map_err(|error| wrong("open", error))
}

pub(super) fn make(path: &Path) -> Result<Repository, git2::Error> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).external_template(false).no_reinit(true);
    Repository::init_opts(path, &options)
}

/// Whether a mirror is better made anew.
pub(super) fn has_too_many_packs(path: &Path) -> bool {
    packs(path) > PACKS_MAX
}

fn packs(path: &Path) -> usize {
    let entries = fs::read_dir(path.join("objects/pack"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "pack")
        })
        .count()
}

pub(super) fn remove(path: &Path) -> Result<(), GitError> {
    removal::remove(path).map_err(|source| file_error("remove", path, source))
}

pub(super) fn file_error(doing: &'static str, path: &Path, source: std::io::Error) -> GitError {
    GitError::File {
        doing: doing.into(),
        path: path.to_owned(),
        source,
    }
}
