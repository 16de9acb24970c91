//! What git knows of a folder that is given as the source: commit, time, and whether the folder is that commit's.

use std::path::Path;

use git2::Repository;
use git2::StatusOptions;

use crate::git::transport::prepare;
use crate::model::source::location::GitLocation;
use crate::model::timestamp::Timestamp;

/// A folder inside a work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkTree {
    /// The commit that is checked out, in hex.
    pub commit: String,
    /// The committer's time.
    pub time: Timestamp,
    /// Whether nothing in this folder differs from the commit; files that git ignores aside.
    pub clean: bool,
    /// The remote `origin` (or the only one) as labels name it.
    pub canonical: Option<String>,
}

/// Looks at the work tree around `directory`; none if there is none, or none with a commit. Runs no hook, filter or
/// file system monitor.
pub fn work_tree(directory: &Path) -> Option<WorkTree> {
    prepare().ok()?;
    let directory = directory.canonicalize().ok()?;
    let repository = Repository::discover(&directory).ok()?;
    let root = repository.workdir()?.canonicalize().ok()?;
    let part = directory.strip_prefix(&root).ok()?.to_path_buf();
    let commit = repository.head().ok()?.peel_to_commit().ok()?;
    let is_in_commit = part.as_os_str().is_empty() || commit.tree().ok()?.get_path(&part).is_ok();
    Some(WorkTree {
        commit: commit.id().to_string(),
        time: Timestamp(commit.time().seconds()),
        clean: is_in_commit && is_clean(&repository, &part),
        canonical: canonical(&repository),
    })
}

fn is_clean(repository: &Repository, part: &Path) -> bool {
    let mut options = StatusOptions::new();
    options
        .include_untracked(true)
        .recurse_untracked_dirs(false)
        .include_ignored(false);
    options
        .exclude_submodules(false)
        .disable_pathspec_match(true)
        .no_refresh(false)
        .update_index(false);
    if !part.as_os_str().is_empty() {
        options.pathspec(part);
    }
    repository
        .statuses(Some(&mut options))
        .is_ok_and(|statuses| statuses.is_empty())
}

fn canonical(repository: &Repository) -> Option<String> {
    let remotes = repository.remotes().ok()?;
    let names: Vec<&str> = remotes.iter().flatten().flatten().collect();
    let name = names
        .iter()
        .find(|name| **name == "origin")
        .or(names.first().filter(|_| names.len() == 1))?;
    let remote = repository.find_remote(name).ok()?;
    GitLocation::parse(remote.url().ok()?).ok()?.canonical_url()
}
