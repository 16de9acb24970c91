//! What the worker and git inside a job say to each other: one task in, lines of JSON out.
//!
//! The task holds no credential and no address. What comes back is what a hostile remote may have made of it: it is read
//! with bounds, and every word of it is checked before it is used.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::git::error::GitError;
use crate::git::isolation::MIRROR;
use crate::git::isolation::TREE;
use crate::git::settings::Limits;
use crate::git::submodule::Module;

/// What stands for the repository's URL inside a job.
pub(super) const NO_URL: &str = "https://remote/repository";
/// Characters of a text from a job that are shown.
const TEXT_CHARACTERS_MAX: usize = 4096;

/// What a job is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Task {
    /// Find a commit and bring it into the mirror.
    Resolve {
        /// A branch, tag or commit.
        revision: Option<String>,
        /// The app's folder.
        subdirectory: Option<String>,
        /// Whether the worker's endpoint is one stream to and fro, as ssh is, and not questions and answers.
        is_stream: bool,
        /// Bounds.
        limits: Limits,
    },
    /// Write the files of a tree.
    Write {
        /// The commit whose `.gitmodules` counts.
        commit: String,
        /// The tree.
        tree: String,
        /// Whether the submodules are to be listed.
        with_modules: bool,
        /// What other trees of the same checkout have used up: files, folders and links.
        entries: u64,
        /// Their bytes.
        bytes: u64,
        /// Bounds.
        limits: Limits,
    },
}

/// One line of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Said {
    /// It runs; nothing of a repository was read before.
    Ready,
    /// How many objects have come, of how many.
    Progress {
        /// So many.
        done: u64,
        /// Of so many.
        total: Option<u64>,
    },
    /// The commit that was looked for.
    Resolved {
        /// In hex.
        commit: String,
        /// Seconds since 1970.
        time: i64,
        /// The app's tree, in hex.
        tree: String,
        /// The branch or tag.
        name: Option<String>,
    },
    /// The mirror lacks the commit that is to be written.
    NoCommit,
    /// A tree was written.
    Written(Found),
    /// It came to nothing.
    Failed(Told),
}

/// What a written tree has beside files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    /// Submodules: where, and at which commit.
    pub(super) submodules: Vec<(String, String)>,
    /// What `.gitmodules` says.
    pub(super) modules: Vec<Module>,
    /// Files that are pointers of Git LFS.
    pub(super) large_files: Vec<String>,
}

/// A failure on its way out of a job. The URL is the worker's to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    /// [`GitError::RevisionNotFound`].
    RevisionNotFound { revision: String, near: Vec<String> },
    /// [`GitError::RevisionAmbiguous`].
    RevisionAmbiguous { revision: String },
    /// [`GitError::SubdirectoryNotFound`].
    SubdirectoryNotFound { subdirectory: String, commit: String },
    /// [`GitError::TooLarge`].
    TooLarge { limit: u64, unit: String },
    /// [`GitError::Entry`].
    Entry { path: String, why: String },
    /// [`GitError::Library`].
    Library {
        doing: String,
        url: String,
        text: String,
    },
    /// [`GitError::File`].
    File {
        doing: String,
        path: PathBuf,
        number: Option<i32>,
        text: String,
    },
    /// Any other; its message.
    Other(String),
}

impl Told {
    /// A failure in the words that cross.
    pub(super) fn of(error: GitError) -> Self {
        match error {
            GitError::RevisionNotFound { revision, near, .. } => Self::RevisionNotFound { revision, near },
            GitError::RevisionAmbiguous { revision, .. } => Self::RevisionAmbiguous { revision },
            GitError::SubdirectoryNotFound {
                subdirectory, commit, ..
            } => Self::SubdirectoryNotFound { subdirectory, commit },
            GitError::TooLarge { limit, unit, .. } => Self::TooLarge {
                limit,
                unit: unit.into_owned(),
            },
            GitError::Entry { path, why, .. } => Self::Entry {
                path,
                why: why.into_owned(),
            },
            GitError::Library { doing, url, source } => Self::Library {
                doing: doing.into_owned(),
                url,
                text: source.to_string(),
            },
            GitError::File { doing, path, source } => Self::File {
                doing: doing.into_owned(),
                path,
                number: source.raw_os_error(),
                text: source.to_string(),
            },
            other => Self::Other(other.to_string()),
        }
    }

    /// The failure again, of the repository at `url`, whose mirror and tree are at these places.
    pub(super) fn into_error(self, url: &str, mirror: &Path, tree: Option<&Path>) -> GitError {
        let text = |text: String| Cow::Owned(shown(&text));
        let url = url.to_owned();
        match self {
            Self::RevisionNotFound { revision, near } => GitError::RevisionNotFound {
                url,
                revision: shown(&revision),
                near: near.iter().map(|name| shown(name)).collect(),
            },
            Self::RevisionAmbiguous { revision } => GitError::RevisionAmbiguous {
                url,
                revision: shown(&revision),
            },
            Self::SubdirectoryNotFound { subdirectory, commit } => GitError::SubdirectoryNotFound {
                url,
                subdirectory: shown(&subdirectory),
                commit: shown(&commit),
            },
            Self::TooLarge { limit, unit } => GitError::TooLarge {
                url,
                limit,
                unit: text(unit),
            },
            Self::Entry { path, why } => GitError::Entry {
                url,
                path: shown(&path),
                why: text(why),
            },
            Self::Library {
                doing,
                url: named,
                text: said,
            } => GitError::Library {
                doing: text(doing),
                url: shown(&named).replace(NO_URL, &url),
                source: git2::Error::from_str(&shown(&said)),
            },
            Self::File {
                doing,
                path,
                number,
                text: said,
            } => GitError::File {
                doing: text(doing),
                path: outside(&path, mirror, tree),
                source: number.map_or_else(|| io::Error::other(shown(&said)), io::Error::from_raw_os_error),
            },
            Self::Other(said) => GitError::Job {
                url,
                why: format!("failed: {}", shown(&said)),
            },
        }
    }
}

/// A text of a job as it may stand in a message.
pub(super) fn shown(text: &str) -> String {
    let printable = |character: char| {
        if character.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            character
        }
    };
    text.chars().take(TEXT_CHARACTERS_MAX).map(printable).collect()
}

/// Where something of a job is on the machine; for messages alone.
fn outside(path: &Path, mirror: &Path, tree: Option<&Path>) -> PathBuf {
    let shown_path = PathBuf::from(shown(&path.to_string_lossy()));
    if let Ok(below) = shown_path.strip_prefix(MIRROR) {
        return mirror.join(below);
    }
    match (shown_path.strip_prefix(TREE), tree) {
        (Ok(below), Some(tree)) => tree.join(below),
        _ => shown_path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::failure::Failure as _;

    #[test]
    fn a_failure_crosses_with_its_code_and_its_words() {
        let url = "https://forge.example/app";
        let errors = |url: &str, file: &str| {
            let url = url.to_owned();
            [
                GitError::RevisionNotFound {
                    url: url.clone(),
                    revision: "mian".into(),
                    near: vec!["`main`".into()],
                },
                GitError::TooLarge {
                    url: url.clone(),
                    limit: 3,
                    unit: "files".into(),
                },
                GitError::Library {
                    doing: "read".into(),
                    url: format!("the mirror of {url}"),
                    source: git2::Error::from_str("no"),
                },
                GitError::File {
                    doing: "write".into(),
                    path: file.into(),
                    source: io::Error::from_raw_os_error(28),
                },
                GitError::Entry {
                    url,
                    path: "a".into(),
                    why: "it is odd".into(),
                },
            ]
        };
        let inside = errors(NO_URL, "/workspace/a/b");
        for (inside, expected) in inside.into_iter().zip(errors(url, "/room/tree/a/b")) {
            let line = serde_json::to_string(&Told::of(inside)).unwrap();
            let told: Told = serde_json::from_str(&line).unwrap();
            let again = told.into_error(url, Path::new("/data/git/1.git"), Some(Path::new("/room/tree")));
            assert_eq!(
                (again.to_string(), again.facts()),
                (expected.to_string(), expected.facts())
            );
        }
    }

    #[test]
    fn what_a_job_says_moves_no_terminal() {
        assert_eq!(shown("a\x1b[2J\nb").chars().filter(|c| c.is_control()).count(), 0);
        assert_eq!(shown(&"x".repeat(10_000)).len(), TEXT_CHARACTERS_MAX);
    }
}
