//! Limits by cgroup: v2 where its controllers are there, else v1 as root, else none; and it says which.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Pid;

use crate::sandbox::cgroup_place::version_1_parent;
use crate::sandbox::cgroup_place::version_2_parents;
use crate::sandbox::cgroup_v2;
use crate::sandbox::cgroup_v2::Parent;
use crate::sandbox::cgroup_v2::Way;
use crate::sandbox::directory;
use crate::sandbox::message::Counters;

/// Tries to remove a cgroup whose last process has just died.
const REMOVE_TRIES_MAX: u32 = 200;
/// Processor time is given out anew for each such time: the kernel's default.
pub(crate) const CPU_PERIOD_MICROSECONDS: u64 = 100_000;

/// The cgroups of one job.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    /// v1 directories, joined by writing a process id.
    version_1: Vec<PathBuf>,
    /// The v2 directory, joined by clone3.
    version_2: Option<(PathBuf, OwnedFd)>,
    /// Why there is no v2 directory.
    why_no_version_2: Option<String>,
    /// The files that tell what is used up.
    pub(crate) counters: Counters,
    /// The limits that are in force, in words.
    pub(crate) limits: Vec<String>,
    /// What is not in force, and what stands for it.
    pub(crate) notes: Vec<String>,
    /// Whether the number of processes is limited here.
    pub(crate) limits_processes: bool,
    limits_processors: bool,
}

/// Where the cgroups of one job may be made.
#[derive(Debug)]
struct Places {
    version_2: Vec<PathBuf>,
    pids: Option<PathBuf>,
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

impl Places {
    fn of(own: &str, mounts: &str, id: &str) -> Self {
        let name = format!("packhorse-{id}");
        let version_1 =
            |controller| version_1_parent(own, mounts, controller).map(|parent| parent.join(&name));
        let is_leaf = |path: &PathBuf| path.file_name().is_some_and(|name| name == cgroup_v2::LEAF);
        Self {
            version_2: version_2_parents(own, mounts)
                .into_iter()
                // A worker that has moved makes them where it came from.
                .filter(|parent| !is_leaf(parent))
                .map(|parent| parent.join(&name))
                .collect(),
            pids: version_1("pids"),
            memory: version_1("memory"),
            cpu: version_1("cpu"),
        }
    }

    fn all(&self, limited: Limited<'_>) -> Vec<PathBuf> {
        let memory = self.memory.iter().filter(|_| limited.memory_bytes_max.is_some());
        let cpu = self.cpu.iter().filter(|_| limited.cpu_hundredths_max.is_some());
        let version_1 = self.pids.iter().chain(memory).chain(cpu);
        self.version_2.iter().chain(version_1).cloned().collect()
    }
}

/// What to limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limited<'a> {
    pub(crate) job_directory: &'a Path,
    pub(crate) id: &'a str,
    pub(crate) memory_bytes_max: Option<u64>,
    pub(crate) processes_max: u64,
    pub(crate) cpu_hundredths_max: Option<u64>,
}

/// Whether anything is done that outlives the look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Job,
    Try,
}

impl Cgroup {
    /// Makes what the machine allows, below the monitor's own cgroup, so that what limits the worker limits the job.
    pub(crate) fn make(limited: Limited<'_>) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = Places::of(&own, &mounts, limited.id);
        let mut cgroup = Self::default();
        if directory::record_cgroups(limited.job_directory, &places.all(limited)).is_ok() {
            cgroup.make_at(&places, limited, Purpose::Job);
        }
        cgroup.tell_what_is_missing(limited);
        cgroup
    }

    /// What a job would get here: made as for a job, empty, and removed at once. `own` and `mounts` are the texts of
    /// `/proc/self/cgroup` and `/proc/self/mountinfo`.
    pub(crate) fn try_out(own: &str, mounts: &str, limited: Limited<'_>) -> Self {
        let mut cgroup = Self::default();
        cgroup.make_at(&Places::of(own, mounts, limited.id), limited, Purpose::Try);
        cgroup.tell_what_is_missing(limited);
        cgroup.remove();
        cgroup
    }

    fn make_at(&mut self, places: &Places, limited: Limited<'_>, purpose: Purpose) {
        for path in &places.version_2 {
            match self.make_version_2(path, limited, purpose) {
                Ok(()) => return,
                Err(why) => {
                    self.why_no_version_2.get_or_insert(why);
                }
            }
        }
        self.make_version_1(places, limited);
    }

    fn make_version_2(&mut self, path: &Path, limited: Limited<'_>, purpose: Purpose) -> Result<(), String> {
        let parent = path.parent().unwrap_or(path);
        let failed = |error: io::Error| format!("cannot make `{}`: {error}", path.display());
        let found = Parent::read(parent);
        let way = found.way(limited, is_ours)?;
        let is_made = purpose == Purpose::Job || !matches!(way, Way::MoveAndEnable(..));
        if is_made {
            found.prepare(&way).map_err(failed)?;
            cgroup_v2::make(path, limited, way.controllers()).map_err(failed)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let descriptor = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
                drop(fs::remove_dir(path));
                failed(error.into())
            })?;
            self.version_2 = Some((path.to_owned(), descriptor));
        }
        self.limits_processes = true;
        self.counters.refused_processes = Some(path.join("pids.events").into());
        self.limits.push("processes by cgroup v2".to_owned());
        if limited.memory_bytes_max.is_some() {
            self.limits.push("memory by cgroup v2".to_owned());
            self.counters.memory_events = Some(path.join("memory.events").into());
            self.counters.memory_usage = Some(path.join("memory.current").into());
        }
        if limited.cpu_hundredths_max.is_some() && way.controllers().contains("cpu") {
            self.limits_processors = true;
            self.limits.push("processors by cgroup v2".to_owned());
        }
        Ok(())
    }

    fn make_version_1(&mut self, places: &Places, limited: Limited<'_>) {
        let set_pids = |path: &Path| fs::write(path.join("pids.max"), limited.processes_max.to_string());
        if let Some(path) = &places.pids
            && make_with(path, set_pids).is_ok()
        {
            self.version_1.push(path.clone());
            self.limits_processes = true;
            self.counters.refused_processes = existing(path.join("pids.events"));
            self.limits.push("processes by cgroup v1".to_owned());
        }
        if let (Some(path), Some(bytes)) = (&places.memory, limited.memory_bytes_max)
            && make_with(path, |path| set_memory_version_1(path, bytes)).is_ok()
        {
            self.version_1.push(path.clone());
            self.counters.memory_events = Some(path.join("memory.oom_control").into());
            self.counters.memory_usage = Some(path.join("memory.usage_in_bytes").into());
            self.limits.push("memory by cgroup v1".to_owned());
        }
        if let (Some(path), Some(hundredths)) = (&places.cpu, limited.cpu_hundredths_max)
            && make_with(path, |path| set_cpu_version_1(path, hundredths)).is_ok()
        {
            self.version_1.push(path.clone());
            self.limits_processors = true;
            self.limits.push("processors by cgroup v1".to_owned());
        }
    }

    fn tell_what_is_missing(&mut self, limited: Limited<'_>) {
        if !self.limits_processes {
            self.limits.push("processes by RLIMIT_NPROC".to_owned());
        }
        let because = self
            .why_no_version_2
            .as_ref()
            .filter(|_| !self.limits_processes)
            .map_or_else(String::new, |why| format!(" ({why})"));
        if limited.memory_bytes_max.is_some() && self.counters.memory_events.is_none() {
            self.notes.push(format!(
                "no cgroup is writable here{because}, so memory is watched and not limited: a job over its limit is killed \
                 within a second"
            ));
        }
        if limited.cpu_hundredths_max.is_some() && !self.limits_processors {
            self.notes.push(format!(
                "no cgroup for processors is writable here{because}, so the limit on them is not in force"
            ));
        }
    }

    /// The v2 cgroup that init is to be born in.
    pub(crate) fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        self.version_2.as_ref().map(|(_, descriptor)| descriptor.as_fd())
    }

    /// Moves init into the cgroups.
    pub(crate) fn join(&self, pid: Pid) -> io::Result<()> {
        let version_2 = self.version_2.iter().map(|(path, _)| path);
        // Of v2 where it was not born in it; else nothing changes.
        self.version_1
            .iter()
            .chain(version_2)
            .try_for_each(|path| fs::write(path.join("cgroup.procs"), pid.as_raw_nonzero().to_string()))
    }

    /// Removes them; to be called when every process in them is dead.
    pub(crate) fn remove(&self) {
        let version_2 = self.version_2.iter().map(|(path, _)| path);
        for path in self.version_1.iter().chain(version_2) {
            // What stays is written down in the job's directory.
            drop(remove_dying(path));
        }
    }
}

/// Removes a cgroup whose processes have been killed but may not be gone yet. Gone already is no error.
pub(crate) fn remove_dying(path: &Path) -> io::Result<()> {
    cgroup_v2::kill(path);
    let mut tries = 0;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < REMOVE_TRIES_MAX => {
                tries += 1;
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
}

/// How many processes of a job the kernel has killed for memory until now.
pub(crate) fn memory_kills(counters: &Counters) -> u64 {
    let events = counters.memory_events.as_ref();
    let text = events.and_then(|path| fs::read_to_string(path).ok());
    out_of_memory_kills(&text.unwrap_or_default())
}

/// How many processes the kernel has killed for memory, by the text of `memory.events` or `memory.oom_control`.
fn out_of_memory_kills(text: &str) -> u64 {
    count(text, "oom_kill ")
}

/// How many processes the kernel has refused to start, by the text of `pids.events`.
pub(crate) fn refusals(text: &str) -> u64 {
    count(text, "max ")
}

fn count(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or(0)
}

/// Processor time of each period for so many hundredths of a processor.
pub(crate) fn cpu_quota_microseconds(hundredths: u64) -> u64 {
    hundredths.saturating_mul(CPU_PERIOD_MICROSECONDS / 100)
}

/// Whether a process is this one, its parent, or the parent's child: monitors are children of the worker.
pub(crate) fn is_ours(process: u32) -> bool {
    let parent = |process: u32| -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        line.trim().parse().ok()
    };
    let own = std::process::id();
    let worker = std::os::unix::process::parent_id();
    process == own
        || process == worker
        || parent(process).is_some_and(|parent| parent == own || parent == worker)
}

fn make_with(path: &Path, set: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir(path)?;
    set(path).inspect_err(|_| drop(fs::remove_dir(path)))
}

fn set_memory_version_1(path: &Path, bytes: u64) -> io::Result<()> {
    fs::write(path.join("memory.limit_in_bytes"), bytes.to_string())?;
    let with_swap = path.join("memory.memsw.limit_in_bytes");
    if with_swap.exists() {
        fs::write(with_swap, bytes.to_string())
    } else {
        Ok(())
    }
}

fn set_cpu_version_1(path: &Path, hundredths: u64) -> io::Result<()> {
    fs::write(
        path.join("cpu.cfs_period_us"),
        CPU_PERIOD_MICROSECONDS.to_string(),
    )?;
    fs::write(
        path.join("cpu.cfs_quota_us"),
        cpu_quota_microseconds(hundredths).to_string(),
    )
}

fn existing(path: PathBuf) -> Option<OsString> {
    path.exists().then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_in_both_formats() {
        assert_eq!(
            out_of_memory_kills("low 0\nhigh 0\nmax 4\noom 1\noom_kill 3\noom_group_kill 0\n"),
            3
        );
        assert_eq!(
            out_of_memory_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            2
        );
        assert_eq!(out_of_memory_kills(""), 0);
    }

    #[test]
    fn processes_that_were_refused_are_counted() {
        assert_eq!(refusals("max 12\n"), 12);
        assert_eq!(refusals(""), 0);
    }

    #[test]
    fn a_part_of_a_processor_is_a_part_of_each_period() {
        assert_eq!(cpu_quota_microseconds(150), 150_000);
        assert_eq!(cpu_quota_microseconds(1), 1000);
    }

    #[test]
    fn a_worker_that_has_moved_makes_jobs_where_it_came_from() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run-1.scope").join(cgroup_v2::LEAF)).unwrap();
        let mounts = format!("30 25 0:26 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let places = Places::of("0::/run-1.scope/packhorse-worker\n", &mounts, "1");
        assert_eq!(places.version_2, [root.path().join("run-1.scope/packhorse-1")]);
    }

    #[test]
    fn in_a_container_the_mount_point_is_the_own_cgroup() {
        let root = tempfile::tempdir().unwrap();
        // With a cgroup namespace: the container's cgroup is the root of what it sees, and it is not the kernel's.
        for (file, text) in [
            ("cgroup.controllers", "cpu memory pids\n"),
            ("cgroup.subtree_control", ""),
            ("cgroup.type", "domain\n"),
            ("cgroup.procs", "0\n"),
        ] {
            fs::write(root.path().join(file), text).unwrap();
        }
        let mounts = format!("30 25 0:26 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let limited = Limited {
            job_directory: Path::new(""),
            id: "1",
            memory_bytes_max: Some(1 << 30),
            processes_max: 100,
            cpu_hundredths_max: Some(100),
        };
        let tried = |processes: String| {
            fs::write(root.path().join("cgroup.procs"), processes).unwrap();
            Cgroup::try_out("0::/\n", &mounts, limited)
        };
        let shared = tried("0\n".to_owned());
        assert_eq!(shared.limits, ["processes by RLIMIT_NPROC"]);
        assert!(
            shared.notes[0].contains("other processes live in"),
            "{:?}",
            shared.notes
        );
        let alone = tried(format!("{}\n", std::process::id()));
        assert_eq!(
            alone.limits,
            [
                "processes by cgroup v2",
                "memory by cgroup v2",
                "processors by cgroup v2"
            ]
        );
        assert!(
            !root.path().join("packhorse-1").exists(),
            "nothing is moved to try it"
        );
    }
}
