//! What is looked at while a command runs, so that a message can say who used a limit up: afterwards they are gone.

use std::fs;
use std::io::Read as _;
use std::io::Seek as _;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::TryLockError;
use std::time::Duration;
use std::time::Instant;

use crate::model::limit_reached::Limit;
use crate::model::limit_reached::LimitReached;
use crate::sandbox::cgroup;
use crate::sandbox::disk_usage;
use crate::sandbox::native::NativeJob;
use crate::sandbox::process_usage;
use crate::sandbox::process_usage::Process;

/// How often the memory of a cgroup is asked for, which is one small file.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);
/// How often processes are looked at while memory is nearly used up.
const MEMORY_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How often processes are counted where no cgroup does it.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of one command's use.
pub(crate) struct Watch<'a> {
    job: &'a NativeJob,
    /// When it last wrote something, or began.
    heard: Instant,
    idle_timeout: Option<Duration>,
    refusals: Option<Refusals>,
    /// The names of which there were the most when no more could be started.
    most_processes: Option<Vec<String>>,
    /// Processes by memory when there was little left.
    most_memory: Option<Sample>,
    next_memory: Option<Instant>,
    next_count: Option<Instant>,
    next_disk: Option<Instant>,
}

/// The file of a cgroup that counts processes that were refused. It becomes ready for `POLLPRI` when it changes.
struct Refusals {
    file: fs::File,
    before: u64,
}

struct Sample {
    usage_bytes: u64,
    /// What the processes had together.
    seen_bytes: u64,
    at: Instant,
    used_by: Vec<String>,
}

impl<'a> Watch<'a> {
    /// Begins with a command. One that somebody sits before, `is_attached`, is not ended for silence or for what lies on
    /// disk.
    pub(crate) fn begin(job: &'a NativeJob, is_attached: bool) -> Self {
        let now = Instant::now();
        let refusals = job.counters.refused_processes.as_ref().and_then(|path| {
            let mut file = fs::File::open(path).ok()?;
            let before = cgroup::refusals(&text(&mut file)?);
            Some(Refusals { file, before })
        });
        let is_counted = job.counters.refused_processes.is_none();
        let watches_memory = job.counters.memory_usage.is_some() && job.limits.memory_bytes_max.is_some();
        Self {
            job,
            heard: now,
            idle_timeout: job.limits.idle_timeout.filter(|_| !is_attached),
            refusals,
            most_processes: None,
            most_memory: None,
            next_memory: watches_memory.then_some(now),
            next_count: is_counted.then_some(now + COUNT_INTERVAL),
            next_disk: (job.has_disk_limit && !is_attached).then_some(now + disk_usage::LOOK_INTERVAL),
        }
    }

    /// The file to poll for refused processes; none once one was refused.
    pub(crate) fn refusals(&self) -> Option<&fs::File> {
        let refusals = self.refusals.as_ref()?;
        self.most_processes.is_none().then_some(&refusals.file)
    }

    /// Output came.
    pub(crate) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// When to look again, if at all.
    pub(crate) fn next(&self) -> Option<Instant> {
        let idle = self.idle_timeout.map(|timeout| self.heard + timeout);
        [idle, self.next_memory, self.next_count, self.next_disk]
            .into_iter()
            .flatten()
            .min()
    }

    /// Looks at what it is time for. A limit that is reached ends the command.
    pub(crate) fn look(&mut self) -> Option<LimitReached> {
        let now = Instant::now();
        self.look_at_refusals();
        if is_time(&mut self.next_memory, now, MEMORY_INTERVAL) {
            self.look_at_memory(now);
        }
        if is_time(&mut self.next_count, now, COUNT_INTERVAL) {
            self.count(&self.processes());
        }
        if let Some(after) = self.idle_timeout
            && now >= self.heard + after
        {
            return Some(self.by_time(Limit::IdleOutput(after)));
        }
        if is_time(&mut self.next_disk, now, disk_usage::LOOK_INTERVAL) {
            return self.look_at_disk();
        }
        None
    }

    /// The wall clock's end, with who is busy now.
    pub(crate) fn timed_out(&self, after: Duration) -> LimitReached {
        self.by_time(Limit::WallClock(after))
    }

    /// The end of memory, with who used it when it was last looked at.
    pub(crate) fn out_of_memory(&self) -> LimitReached {
        LimitReached {
            limit: Limit::Memory(self.job.limits.memory_bytes_max.unwrap_or(0)),
            used_by: self
                .most_memory
                .as_ref()
                .map(|sample| sample.used_by.clone())
                .unwrap_or_default(),
        }
    }

    /// Whether processes were refused to this command, with those of which there were the most then.
    pub(crate) fn out_of_processes(&mut self) -> Option<LimitReached> {
        // What it ended of comes before the news of it, and what it started is still there.
        self.look_at_refusals();
        if self.next_count.is_some() && self.most_processes.is_none() {
            self.count(&self.processes());
        }
        let used_by = self.most_processes.clone()?;
        let limit = Limit::Processes(self.job.limits.processes_max);
        Some(LimitReached { limit, used_by })
    }

    fn by_time(&self, limit: Limit) -> LimitReached {
        LimitReached {
            limit,
            used_by: process_usage::by_time(&self.processes()),
        }
    }

    fn processes(&self) -> Vec<Process> {
        process_usage::below(self.job.init, self.job.monitor_number())
    }

    fn look_at_refusals(&mut self) {
        let Some(refusals) = self.refusals.as_mut().filter(|_| self.most_processes.is_none()) else {
            return;
        };
        let count = text(&mut refusals.file).map_or(0, |text| cgroup::refusals(&text));
        if count > refusals.before {
            self.most_processes = Some(process_usage::by_name(&self.processes()));
        }
    }

    /// Where the kernel refuses by user and tells nobody, who is at the limit was refused some.
    fn count(&mut self, processes: &[Process]) {
        let limit = self.job.limits.processes_max;
        let count: u64 = processes.iter().map(|process| process.threads).sum();
        if count >= limit - limit / 20 {
            self.most_processes = Some(process_usage::by_name(processes));
        }
    }

    fn look_at_memory(&mut self, now: Instant) {
        let limit = self.job.limits.memory_bytes_max.unwrap_or(u64::MAX);
        let path = self.job.counters.memory_usage.as_ref();
        let usage_bytes = path.map_or(0, |path| number(Path::new(path)));
        let last = self.most_memory.as_ref();
        let last = last.map(|sample| (sample.usage_bytes, now.duration_since(sample.at)));
        if !is_worth_a_sample(usage_bytes, limit, last) {
            return;
        }
        let processes = self.processes();
        let seen_bytes = process_usage::memory_of(&processes);
        // Those that used it may be ending already, and have given it back.
        if self
            .most_memory
            .as_ref()
            .is_none_or(|last| seen_bytes >= last.seen_bytes / 2)
        {
            self.most_memory = Some(Sample {
                usage_bytes,
                seen_bytes,
                at: now,
                used_by: process_usage::by_memory(&processes),
            });
        }
    }

    fn look_at_disk(&self) -> Option<LimitReached> {
        match self.job.disk.try_lock() {
            Ok(mut disk) => disk.as_mut()?.look(),
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned).as_mut()?.look(),
            // Another command's thread looks.
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Whether it is time; then the next time is set.
fn is_time(next: &mut Option<Instant>, now: Instant, interval: Duration) -> bool {
    let is_due = next.is_some_and(|next| now >= next);
    if is_due {
        *next = Some(now + interval);
    }
    is_due
}

/// Each second while nearly all is used, and whenever it has grown by a tenth. `last` is what was used at the last sample,
/// and how long ago.
fn is_worth_a_sample(usage_bytes: u64, limit_bytes: u64, last: Option<(u64, Duration)>) -> bool {
    let (last_bytes, since) = last.unwrap_or((0, Duration::MAX));
    let is_nearly_full = usage_bytes >= limit_bytes / 10 * 8;
    is_nearly_full && since >= MEMORY_SAMPLE_INTERVAL
        || usage_bytes >= last_bytes.saturating_add(limit_bytes / 10)
}

/// A small file from its beginning.
fn text(file: &mut fs::File) -> Option<String> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

fn number(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_looked_at_when_memory_grows_or_is_nearly_full() {
        let second = Duration::from_secs(1);
        assert!(!is_worth_a_sample(5, 100, None));
        assert!(is_worth_a_sample(10, 100, None));
        assert!(!is_worth_a_sample(19, 100, Some((10, 9 * second))));
        assert!(is_worth_a_sample(20, 100, Some((10, second / 10))));
        assert!(is_worth_a_sample(80, 100, Some((80, second))));
        assert!(!is_worth_a_sample(80, 100, Some((80, second / 2))));
        assert!(!is_worth_a_sample(0, u64::MAX, None));
    }
}
