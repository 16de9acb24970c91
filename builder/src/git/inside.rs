//! Git inside a job: the hidden entry `packhorse __git TASK`. Holds no credential, and knows no address but its worker's.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::git::checkout::Checkout;
use crate::git::checkout::Submodules;
use crate::git::error::GitError;
use crate::git::isolation::ENDPOINT_PORT;
use crate::git::isolation::MIRROR;
use crate::git::isolation::TREE;
use crate::git::mirror::Mirror;
use crate::git::mirror::Purpose;
use crate::git::repository::Git;
use crate::git::settings::Limits;
use crate::git::settings::Settings;
use crate::git::task::NO_URL;
use crate::git::task::Said;
use crate::git::task::Task;
use crate::git::task::Told;
use crate::git::tree_files::TreePlace;
use crate::git::written_tree::Counted;
use crate::model::named_by::NamedBy;
use crate::model::source::GitUrl;
use crate::model::source::location::GitLocation;

/// Stands for a repository that is one stream.
const NO_SSH_URL: &str = "ssh://remote/repository";

/// Does the one task and says what came of it, on standard output; its exit code.
pub fn main(words: &[OsString]) -> i32 {
    const REFUSED: i32 = 125;
    let task = words.first().and_then(|word| word.to_str());
    let Some(task) = task.and_then(|text| serde_json::from_str(text).ok()) else {
        return REFUSED;
    };
    let Ok(output) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3) else {
        return REFUSED;
    };
    let speaker = Speaker(Mutex::new(output.into()));
    speaker.say(&Said::Ready);
    let said = work(task, &speaker).unwrap_or_else(|error| Said::Failed(Told::of(error)));
    speaker.say(&said);
    0
}

fn work(task: Task, speaker: &Speaker) -> Result<Said, GitError> {
    match task {
        Task::Resolve {
            revision,
            subdirectory,
            is_stream,
            limits,
        } => {
            let location = location(if is_stream { NO_SSH_URL } else { NO_URL })?;
            let mirror = Mirror::open_in_job(Path::new(MIRROR), &location, Purpose::Fetch)?;
            let url = GitUrl {
                location,
                revision,
                subdirectory,
            };
            let found = git(limits).resolve_in(&mirror, &url, NamedBy::User, speaker, &Cancel::default())?;
            Ok(Said::Resolved {
                commit: found.commit,
                time: found.commit_time.0,
                tree: found.tree,
                name: found.name,
            })
        }
        Task::Write {
            commit,
            tree,
            with_modules,
            entries,
            bytes,
            limits,
        } => {
            let mirror = Mirror::open_in_job(Path::new(MIRROR), &location(NO_URL)?, Purpose::Read)?;
            if mirror.commit(&commit).is_none() {
                return Ok(Said::NoCommit);
            }
            let (git, cancel) = (git(limits), Cancel::default());
            let submodules = if with_modules {
                Submodules::Fetch
            } else {
                Submodules::Skip
            };
            let place = TreePlace {
                repository: &mirror.repository,
                url: NO_URL,
                commit: &commit,
                tree: &tree,
            };
            let mut checkout = Checkout::new(&git, submodules, speaker, &cancel);
            checkout.begin_at(Counted { entries, bytes });
            Ok(Said::Written(checkout.write_here(&place, Path::new(TREE))?))
        }
    }
}

fn git(limits: Limits) -> Git {
    let settings = Settings {
        limits,
        ..Settings::new(MIRROR.into())
    };
    Git::inside(settings, SocketAddr::from((Ipv4Addr::LOCALHOST, ENDPOINT_PORT)))
}

fn location(url: &str) -> Result<GitLocation, GitError> {
    GitLocation::parse(url).map_err(|error| GitError::Job {
        url: url.to_owned(),
        why: error.to_string(),
    })
}

/// Says lines to the worker.
struct Speaker(Mutex<File>);

impl Speaker {
    fn say(&self, said: &Said) {
        let Ok(mut line) = serde_json::to_vec(said) else {
            return;
        };
        line.push(b'\n');
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A worker that is gone takes this process with it.
        let _unheard = output.write_all(&line);
    }
}

impl Events for Speaker {
    fn tell(&self, event: Event) {
        if let Event::Progress { done, total, .. } = event {
            self.say(&Said::Progress { done, total });
        }
    }
}
