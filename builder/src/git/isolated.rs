//! The worker's side of git in a job: hands out the task, stands for the remote, and checks all that comes back.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::events::Cancel;
use crate::events::Cancelled;
use crate::events::Events;
use crate::events::Moving;
use crate::events::Unit;
use crate::git::error::GitError;
use crate::git::isolation::Channel;
use crate::git::isolation::Ended;
use crate::git::isolation::Endpoint;
use crate::git::isolation::Isolation;
use crate::git::isolation::Work;
use crate::git::mirror;
use crate::git::mirror::Purpose;
use crate::git::quarantine::Quarantine;
use crate::git::quarantine::give;
use crate::git::relay::Relay;
use crate::git::repository::Git;
use crate::git::repository::Resolved;
use crate::git::revision::is_full_commit;
use crate::git::settings::Limits;
use crate::git::task::Found;
use crate::git::task::Said;
use crate::git::task::Task;
use crate::git::task::shown;
use crate::git::written_tree;
use crate::git::written_tree::Counted;
use crate::model::named_by::NamedBy;
use crate::model::source::GitUrl;
use crate::model::source::location::GitLocation;
use crate::model::source::location::Scheme;
use crate::model::timestamp::Timestamp;

/// Bytes of one line of a job: the names of many submodules and large files.
const LINE_BYTES_MAX: usize = 32 << 20;
/// Bytes of a job's messages that an error shows.
const MESSAGE_BYTES_MAX: usize = 500;
/// The longest name of a branch.
const NAME_BYTES_MAX: usize = 1024;

/// A tree for a job to write.
pub(super) struct TreeTask<'a> {
    pub(super) resolved: &'a Resolved,
    pub(super) destination: &'a Path,
    /// Whether the submodules are to be listed.
    pub(super) with_modules: bool,
    /// What other trees of the same checkout have used up.
    pub(super) before: Counted,
}

/// What a job came to that wrote a tree.
pub(super) enum Wrote {
    /// All of it.
    Tree(Found, Counted),
    /// The mirror has no such commit.
    NoCommit,
    /// The job could not begin.
    Nothing,
}

impl Git {
    /// [`Git::resolve`] in a job; none if it could not even begin, so that nothing of the remote was read.
    pub(super) fn resolve_in_job(
        &self,
        isolation: &dyn Isolation,
        url: &GitUrl,
        named_by: NamedBy,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<Option<Resolved>, GitError> {
        let directory = &self.settings.mirrors_directory;
        let location = &url.location;
        let quarantine = Quarantine::open(directory, location, named_by, isolation.owner(), cancel)?;
        let connection = Arc::new(self.connection(location, named_by, cancel)?);
        let relay = Relay::new(Arc::clone(&connection));
        let task = Task::Resolve {
            revision: url.revision.clone(),
            subdirectory: url.subdirectory.clone(),
            is_stream: location.scheme() == Scheme::Ssh,
            limits: self.settings.limits.clone(),
        };
        let job = Job {
            isolation,
            limits: &self.settings.limits,
            location,
            mirror: quarantine.path().to_owned(),
            tree: None,
            cancel,
        };
        let outcome = job.run(&task, Some(&relay), events);
        let left = quarantine.end()?;
        let said = match outcome? {
            None => return Ok(None),
            Some(Said::Failed(told)) => {
                let kept = connection.take_failure();
                return Err(kept.unwrap_or_else(|| told.into_error(&location.to_string(), &job.mirror, None)));
            }
            Some(said) => said,
        };
        if let Err(odd) = left {
            return Err(job.odd(format!("left what no mirror has: {odd}")));
        }
        match said {
            Said::Resolved {
                commit,
                time,
                tree,
                name,
            } if is_full_commit(&commit) && is_full_commit(&tree) && name.as_deref().is_none_or(is_name) => {
                Ok(Some(Resolved {
                    url: url.clone(),
                    commit,
                    commit_time: Timestamp(time),
                    tree,
                    name,
                    canonical: url.canonical_url(),
                    named_by,
                }))
            }
            _ => Err(job.odd("gave an odd answer".to_owned())),
        }
    }

    /// Writes a tree into an empty folder in a job, which has no network.
    pub(super) fn write_in_job(
        &self,
        isolation: &dyn Isolation,
        tree: &TreeTask<'_>,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<Wrote, GitError> {
        let (resolved, limits) = (tree.resolved, &self.settings.limits);
        let location = &resolved.url.location;
        let mirror = mirror::path_of(&self.settings.mirrors_directory, location, resolved.named_by);
        let lock = mirror::locked(&mirror.with_extension("lock"), Purpose::Read, cancel)?;
        if !mirror.exists() {
            return Ok(Wrote::NoCommit);
        }
        give(tree.destination, isolation.owner())?;
        let task = Task::Write {
            commit: resolved.commit.clone(),
            tree: resolved.tree.clone(),
            with_modules: tree.with_modules,
            entries: tree.before.entries,
            bytes: tree.before.bytes,
            limits: limits.clone(),
        };
        let job = Job {
            isolation,
            limits,
            location,
            mirror,
            tree: Some(tree.destination),
            cancel,
        };
        let said = job.run(&task, None, events)?;
        drop(lock);
        let found = match said {
            None => return Ok(Wrote::Nothing),
            Some(Said::NoCommit) => return Ok(Wrote::NoCommit),
            Some(Said::Written(found)) => found,
            Some(Said::Failed(told)) => {
                return Err(told.into_error(&location.to_string(), &job.mirror, job.tree));
            }
            Some(_) => return Err(job.odd("gave an odd answer".to_owned())),
        };
        let counted = written_tree::count(tree.destination, limits)
            .map_err(|odd| job.odd(format!("wrote what no checkout has: {odd}")))?;
        let is_known = |(path, commit): &(String, String)| {
            is_full_commit(commit) && written_tree::is_empty_folder(tree.destination, path)
        };
        if !found.submodules.iter().all(is_known) {
            return Err(job.odd("names a submodule that is no empty folder".to_owned()));
        }
        let large_files = found.large_files.iter().map(|path| shown(path)).collect();
        Ok(Wrote::Tree(Found { large_files, ..found }, counted))
    }
}

/// A branch's or tag's name, as it may stand in a label.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

/// One job of git.
struct Job<'a> {
    isolation: &'a dyn Isolation,
    limits: &'a Limits,
    location: &'a GitLocation,
    mirror: std::path::PathBuf,
    tree: Option<&'a Path>,
    cancel: &'a Cancel,
}

impl Job<'_> {
    /// Runs it to its end; its last word, or none if it could not begin.
    fn run(
        &self,
        task: &Task,
        endpoint: Option<&dyn Endpoint>,
        events: &dyn Events,
    ) -> Result<Option<Said>, GitError> {
        let task = serde_json::to_string(task).map_err(|error| self.odd(format!("has no task: {error}")))?;
        let work = Work {
            task: &task,
            mirror: &self.mirror,
            writes_mirror: self.tree.is_none(),
            tree: self.tree,
            timeout: self.limits.job_timeout,
            memory_bytes_max: self.limits.job_memory_bytes_max,
        };
        let heard = Mutex::new(Heard::new(events, &format!("fetch {}", self.location)));
        let hear = |channel, bytes: &[u8]| {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.take(channel, bytes);
        };
        let ended = self.isolation.run(&work, endpoint, &hear, self.cancel);
        let heard = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.cancel.check()?;
        let ended = ended.map_err(|error| GitError::Sandbox {
            message: error.message,
            facts: error.facts,
        })?;
        self.last_word(heard, ended)
    }

    fn last_word(&self, heard: Heard<'_>, ended: Ended) -> Result<Option<Said>, GitError> {
        let too_large = |limit, unit: &'static str| GitError::TooLarge {
            url: self.location.to_string(),
            limit,
            unit: unit.into(),
        };
        let messages = || shown(String::from_utf8_lossy(&heard.messages).trim());
        match (ended, heard.last) {
            (Ended::Cancelled, _) => Err(Cancelled.into()),
            (Ended::Code(0), Some(said)) if !heard.is_odd => Ok(Some(said)),
            (Ended::NotStarted(_) | Ended::Code(_) | Ended::Signal(_), _) if !heard.is_ready => {
                tracing::debug!(messages = messages(), "git's job did not begin");
                Ok(None)
            }
            (Ended::OutOfMemory, _) => Err(too_large(
                self.limits.job_memory_bytes_max,
                "bytes of memory to read it",
            )),
            (Ended::TimedOut, _) => Err(too_large(self.limits.job_timeout.as_secs(), "seconds to read it")),
            (Ended::TooMuchOutput, _) => Err(self.odd("says too much".to_owned())),
            (Ended::Signal(number), _) => Err(self.odd(format!("was ended by signal {number}"))),
            (Ended::NotStarted(why), _) => Err(self.odd(format!("could not be started: {why}"))),
            (Ended::Code(code), _) => Err(self.odd(
                format!("ended with code {code}: {}", messages())
                    .trim_end_matches([':', ' '])
                    .to_owned(),
            )),
        }
    }

    fn odd(&self, why: String) -> GitError {
        GitError::Job {
            url: self.location.to_string(),
            why,
        }
    }
}

/// What a job has said so far.
struct Heard<'a> {
    line: Vec<u8>,
    messages: Vec<u8>,
    is_ready: bool,
    /// Whether something could not be understood.
    is_odd: bool,
    last: Option<Said>,
    moving: Moving<'a>,
}

impl<'a> Heard<'a> {
    fn new(events: &'a dyn Events, what: &str) -> Self {
        Self {
            line: Vec::new(),
            messages: Vec::new(),
            is_ready: false,
            is_odd: false,
            last: None,
            moving: Moving::new(events, what, None, Unit::Objects),
        }
    }

    fn take(&mut self, channel: Channel, bytes: &[u8]) {
        if channel == Channel::Messages {
            let room = MESSAGE_BYTES_MAX.saturating_sub(self.messages.len());
            self.messages.extend_from_slice(&bytes[..room.min(bytes.len())]);
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                self.is_odd = true;
                self.line.clear();
                continue;
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.understand(&line);
            }
        }
    }

    fn understand(&mut self, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(Said::Ready) => self.is_ready = true,
            Ok(Said::Progress { done, total }) => {
                if let Some(total) = total {
                    self.moving.of(total);
                }
                self.moving.tell(done);
            }
            Ok(last) => self.last = Some(last),
            Err(_) => self.is_odd = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Silence;

    #[test]
    fn lines_are_put_together_and_what_is_none_is_noticed() {
        let mut heard = Heard::new(&Silence, "fetch");
        heard.take(Channel::Output, b"\"Rea");
        assert!(!heard.is_ready);
        heard.take(
            Channel::Output,
            b"dy\"\n{\"Progress\":{\"done\":1,\"total\":2}}\n\"NoCom",
        );
        heard.take(Channel::Output, b"mit\"\n");
        assert!(heard.is_ready && !heard.is_odd);
        assert_eq!(heard.last, Some(Said::NoCommit));
        heard.take(Channel::Messages, &[b'x'; 10_000]);
        assert_eq!(heard.messages.len(), MESSAGE_BYTES_MAX);
        heard.take(Channel::Output, b"fatal: not JSON\n");
        assert!(heard.is_odd);
    }

    #[test]
    fn names_of_branches_are_words() {
        assert!(is_name("feature/x") && is_name("v1.0"));
        assert!(!is_name("") && !is_name("a\nb") && !is_name(&"x".repeat(2000)));
    }
}
