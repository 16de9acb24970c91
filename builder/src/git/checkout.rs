//! Writes a commit's files and those of its submodules, each tree by itself: here, or in a job.

use std::fs;
use std::path::Path;

use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::git::error::GitError;
use crate::git::isolated::TreeTask;
use crate::git::isolated::Wrote;
use crate::git::mirror::Mirror;
use crate::git::mirror::Purpose;
use crate::git::repository::Git;
use crate::git::repository::Resolved;
use crate::git::submodule;
use crate::git::task::Found;
use crate::git::tree_files::TreePlace;
use crate::git::written_tree::Counted;
use crate::oci::removal;

/// Large files and submodules that a warning names.
const NAMED_MAX: usize = 5;

/// Whether submodules are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submodules {
    /// They stay empty folders, with a warning.
    Skip,
    /// They are fetched without credentials.
    Fetch,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedOut {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files that are pointers of Git LFS and not the files themselves; relative paths.
    pub large_files: Vec<String>,
    /// Submodules that stayed empty; relative paths.
    pub skipped_submodules: Vec<String>,
}

impl Git {
    /// Writes the tree of `resolved` into `destination`, which must not exist or be empty. Modes are 0644 and 0755,
    /// links are links, times are now, owners are ours. On failure nothing stays.
    pub fn checkout(
        &self,
        resolved: &Resolved,
        destination: &Path,
        submodules: Submodules,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<CheckedOut, GitError> {
        let mut checkout = Checkout::new(self, submodules, events, cancel);
        let outcome = prepare(destination).and_then(|()| checkout.write(resolved, destination, "", 0));
        if let Err(error) = outcome {
            // The first failure is the one to tell.
            let _removed = removal::remove(destination);
            return Err(error);
        }
        checkout.warn();
        Ok(checkout.written)
    }
}

/// A checkout in progress, with what its submodules add to it.
pub(super) struct Checkout<'a> {
    pub(super) git: &'a Git,
    pub(super) submodules: Submodules,
    pub(super) events: &'a dyn Events,
    pub(super) cancel: &'a Cancel,
    pub(super) written: CheckedOut,
    /// Submodules so far.
    pub(super) count: usize,
}

impl<'a> Checkout<'a> {
    pub(super) fn new(
        git: &'a Git,
        submodules: Submodules,
        events: &'a dyn Events,
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            git,
            submodules,
            events,
            cancel,
            written: CheckedOut::default(),
            count: 0,
        }
    }

    /// Counts from here: what other trees of the same checkout hold.
    pub(super) fn begin_at(&mut self, before: Counted) {
        (self.written.entries, self.written.bytes) = (before.entries, before.bytes);
    }

    /// Writes the tree of `resolved` into the empty folder `destination`, then its submodules.
    pub(super) fn write(
        &mut self,
        resolved: &Resolved,
        destination: &Path,
        prefix: &str,
        depth: usize,
    ) -> Result<(), GitError> {
        let found = self.lay_out(resolved, destination)?;
        let named = |path: &String| format!("{prefix}{path}");
        self.written
            .large_files
            .extend(found.large_files.iter().map(named));
        if self.submodules == Submodules::Skip {
            self.written
                .skipped_submodules
                .extend(found.submodules.iter().map(|(path, _)| named(path)));
            return Ok(());
        }
        for (path, commit) in &found.submodules {
            submodule::write(
                self,
                resolved,
                &found.modules,
                path,
                commit,
                &destination.join(path),
                prefix,
                depth,
            )?;
        }
        Ok(())
    }

    /// Writes the tree alone, in a job if there are jobs.
    fn lay_out(&mut self, resolved: &Resolved, destination: &Path) -> Result<Found, GitError> {
        let (git, location) = (self.git, &resolved.url.location);
        if let Some(isolation) = git.jobs_for(location, self.events) {
            let task = TreeTask {
                resolved,
                destination,
                with_modules: self.submodules == Submodules::Fetch,
                before: Counted {
                    entries: self.written.entries,
                    bytes: self.written.bytes,
                },
            };
            let mut wrote = git.write_in_job(isolation, &task, self.events, self.cancel)?;
            if matches!(wrote, Wrote::NoCommit) {
                // Another build had the mirror made anew meanwhile.
                git.resolve(&resolved.url, resolved.named_by, self.events, self.cancel)?;
                wrote = git.write_in_job(isolation, &task, self.events, self.cancel)?;
            }
            if let Wrote::Tree(found, counted) = wrote {
                self.begin_at(task.before.plus(counted));
                return Ok(found);
            }
            git.do_without_job(location, self.events)?;
        }
        let directory = &git.settings.mirrors_directory;
        let open = || Mirror::open(directory, location, resolved.named_by, Purpose::Read, self.cancel);
        let mut mirror = open()?;
        if mirror.commit(&resolved.commit).is_none() {
            // As above.
            drop(mirror);
            git.resolve(&resolved.url, resolved.named_by, self.events, self.cancel)?;
            mirror = open()?;
        }
        let place = TreePlace {
            repository: &mirror.repository,
            url: &location.to_string(),
            commit: &resolved.commit,
            tree: &resolved.tree,
        };
        self.write_here(&place, destination)
    }

    fn warn(&self) {
        let tell = |text| self.events.tell(Event::Warning { text });
        if !self.written.large_files.is_empty() {
            let named = named(&self.written.large_files);
            tell(format!(
                "{named} are pointers of Git LFS, not the files themselves; Git LFS is not fetched"
            ));
        }
        if !self.written.skipped_submodules.is_empty() {
            let named = named(&self.written.skipped_submodules);
            tell(format!(
                "the submodules {named} are left empty; ask for them with `--submodules`"
            ));
        }
    }
}

fn prepare(destination: &Path) -> Result<(), GitError> {
    let failed = |doing: &'static str, source| GitError::File {
        doing: doing.into(),
        path: destination.to_owned(),
        source,
    };
    match fs::create_dir(destination) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(destination).map_err(|source| failed("read", source))?;
            match entries.next() {
                None => Ok(()),
                Some(_) => Err(failed(
                    "check out into",
                    std::io::ErrorKind::DirectoryNotEmpty.into(),
                )),
            }
        }
        other => other.map_err(|source| failed("make", source)),
    }
}

fn named(paths: &[String]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .take(NAMED_MAX)
        .map(|path| format!("`{path}`"))
        .collect();
    match paths.len().saturating_sub(NAMED_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
