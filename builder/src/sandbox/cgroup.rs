//! Limits by cgroup: v2 where its controllers are there, else v1 as root, else none; and it says which.

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

use crate::sandbox::directory;

/// Tries to remove a cgroup whose last process has just died.
const REMOVE_TRIES_MAX: u32 = 200;

/// The cgroups of one job.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    /// v1 directories, joined by writing a process id.
    version_1: Vec<PathBuf>,
    /// The v2 directory, joined by clone3.
    version_2: Option<(PathBuf, OwnedFd)>,
    /// The file whose `oom_kill` line counts processes that the kernel killed for memory.
    pub(crate) memory_events: Option<PathBuf>,
    /// The limits that are in force, in words.
    pub(crate) limits: Vec<String>,
    /// What is not in force, and what stands for it.
    pub(crate) notes: Vec<String>,
    /// Whether the number of processes is limited here.
    pub(crate) limits_processes: bool,
}

/// Where the cgroups of one job may be made.
#[derive(Debug)]
struct Places {
    version_2: Vec<PathBuf>,
    pids: Option<PathBuf>,
    memory: Option<PathBuf>,
}

impl Places {
    fn of(own: &str, mounts: &str, id: &str) -> Self {
        let name = format!("packhorse-{id}");
        let version_1 =
            |controller| version_1_parent(own, mounts, controller).map(|parent| parent.join(&name));
        Self {
            version_2: version_2_parents(own, mounts)
                .into_iter()
                .map(|parent| parent.join(&name))
                .collect(),
            pids: version_1("pids"),
            memory: version_1("memory"),
        }
    }

    fn all(&self) -> Vec<PathBuf> {
        let version_1 = self.pids.iter().chain(&self.memory);
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
}

impl Cgroup {
    /// Makes what the machine allows, below the monitor's own cgroup, so that what limits the worker limits the job.
    pub(crate) fn make(limited: Limited<'_>) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = Places::of(&own, &mounts, limited.id);
        let mut cgroup = Self::default();
        if directory::record_cgroups(limited.job_directory, &places.all()).is_ok() {
            cgroup.make_at(&places, limited);
        }
        cgroup.tell_what_is_missing(limited);
        cgroup
    }

    /// What a job would get here: made as for a job, empty, and removed at once. `own` and `mounts` are the texts of
    /// `/proc/self/cgroup` and `/proc/self/mountinfo`.
    pub(crate) fn try_out(own: &str, mounts: &str, limited: Limited<'_>) -> Self {
        let mut cgroup = Self::default();
        cgroup.make_at(&Places::of(own, mounts, limited.id), limited);
        cgroup.tell_what_is_missing(limited);
        cgroup.remove();
        cgroup
    }

    fn make_at(&mut self, places: &Places, limited: Limited<'_>) {
        for path in &places.version_2 {
            if self.version_2.is_none() {
                self.make_version_2(path, limited);
            }
        }
        if self.version_2.is_none() {
            self.make_version_1(places.pids.as_deref(), places.memory.as_deref(), limited);
        }
    }

    fn make_version_2(&mut self, path: &Path, limited: Limited<'_>) {
        let Some(parent) = path.parent() else { return };
        let controllers = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
        let has = |controller: &str| controllers.split_whitespace().any(|one| one == controller);
        if !has("pids") || (limited.memory_bytes_max.is_some() && !has("memory")) {
            return;
        }
        // Refused when processes live in the parent; then it works only where it is already done.
        drop(fs::write(parent.join("cgroup.subtree_control"), "+pids +memory"));
        let made = fs::create_dir(path)
            .and_then(|()| fs::write(path.join("pids.max"), limited.processes_max.to_string()))
            .and_then(|()| {
                limited
                    .memory_bytes_max
                    .map_or(Ok(()), |bytes| set_memory_version_2(path, bytes))
            })
            .and_then(|()| {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)
            });
        let Ok(descriptor) = made else {
            drop(fs::remove_dir(path));
            return;
        };
        self.version_2 = Some((path.to_owned(), descriptor));
        self.limits_processes = true;
        self.limits.push("processes by cgroup v2".to_owned());
        if limited.memory_bytes_max.is_some() {
            self.limits.push("memory by cgroup v2".to_owned());
            self.memory_events = Some(path.join("memory.events"));
        }
    }

    fn make_version_1(&mut self, pids: Option<&Path>, memory: Option<&Path>, limited: Limited<'_>) {
        let set_pids = |path: &Path| fs::write(path.join("pids.max"), limited.processes_max.to_string());
        if let Some(path) = pids
            && make_with(path, set_pids).is_ok()
        {
            self.version_1.push(path.to_owned());
            self.limits_processes = true;
            self.limits.push("processes by cgroup v1".to_owned());
        }
        if let (Some(path), Some(bytes)) = (memory, limited.memory_bytes_max)
            && make_with(path, |path| set_memory_version_1(path, bytes)).is_ok()
        {
            self.version_1.push(path.to_owned());
            self.memory_events = Some(path.join("memory.oom_control"));
            self.limits.push("memory by cgroup v1".to_owned());
        }
    }

    fn tell_what_is_missing(&mut self, limited: Limited<'_>) {
        if !self.limits_processes {
            self.limits.push("processes by RLIMIT_NPROC".to_owned());
        }
        if limited.memory_bytes_max.is_some() && self.memory_events.is_none() {
            self.notes.push(
                "no cgroup is writable here, so memory is watched and not limited: a job over its limit is killed \
                 within a second"
                    .to_owned(),
            );
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

/// How many processes the kernel has killed for memory, by the text of `memory.events` or `memory.oom_control`.
pub(crate) fn out_of_memory_kills(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        .unwrap_or(0)
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

fn set_memory_version_2(path: &Path, bytes: u64) -> io::Result<()> {
    fs::write(path.join("memory.max"), bytes.to_string())?;
    let swap = path.join("memory.swap.max");
    if swap.exists() {
        fs::write(swap, "0")
    } else {
        Ok(())
    }
}

/// The process's own cgroup of a v1 controller, as a path.
fn version_1_parent(own: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let inside = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        controllers
            .split(',')
            .any(|one| one == controller)
            .then(|| fields.next())?
    })?;
    mount_points(mounts, |kind, options| {
        kind == "cgroup" && options.split(',').any(|one| one == controller)
    })
    .find_map(|(root, point)| existing(&root, &point, inside))
}

/// Where a v2 cgroup may be made: below the process's own, or beside it in a subtree that is delegated.
pub(crate) fn version_2_parents(own: &str, mounts: &str) -> Vec<PathBuf> {
    let Some(inside) = own.lines().find_map(|line| line.strip_prefix("0::")) else {
        return Vec::new();
    };
    let own = mount_points(mounts, |kind, _| kind == "cgroup2")
        .find_map(|(root, point)| Some((existing(&root, &point, inside)?, point)));
    match own {
        Some((own, top)) if own != top => {
            let beside = own.parent().map(Path::to_owned);
            [Some(own), beside].into_iter().flatten().collect()
        }
        Some((own, _)) => vec![own],
        None => Vec::new(),
    }
}

/// Root and mount point of the mounts that `wanted` takes by type and super options.
pub(crate) fn mount_points(
    mounts: &str,
    wanted: impl Fn(&str, &str) -> bool,
) -> impl Iterator<Item = (String, PathBuf)> {
    mounts.lines().filter_map(move |line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        wanted(kind, options).then(|| (root.to_owned(), PathBuf::from(point)))
    })
}

/// A container often mounts only its own part, at the mount point itself.
fn existing(root: &str, point: &Path, inside: &str) -> Option<PathBuf> {
    let below = inside
        .strip_prefix(root)
        .unwrap_or(inside)
        .trim_start_matches('/');
    let path = if below.is_empty() {
        point.to_owned()
    } else {
        point.join(below)
    };
    if path.is_dir() {
        Some(path)
    } else {
        point.is_dir().then(|| point.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "35 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                          41 31 0:38 / / rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_parent_is_the_own_cgroup_or_the_mount_point() {
        let parents = version_2_parents("0::/no/such/folder\n4:memory:/x\n", MOUNTS);
        assert_eq!(parents, [PathBuf::from("/")]);
        assert_eq!(
            version_2_parents("0::/usr/bin\n", MOUNTS),
            [PathBuf::from("/usr/bin"), PathBuf::from("/usr")]
        );
        assert_eq!(version_1_parent("4:memory:/x\n", "", "memory"), None);
        assert_eq!(version_1_parent("4:cpu:/x\n", MOUNTS, "memory"), None);
    }

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
}
