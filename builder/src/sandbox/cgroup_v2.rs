//! A job's cgroup in the unified hierarchy, and how a cgroup becomes fit to be its parent (cgroup-v2.rst and
//! systemd's notes on delegation: controllers are turned on below a cgroup only when no process lives in it).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Access;

use crate::sandbox::cgroup::CPU_PERIOD_MICROSECONDS;
use crate::sandbox::cgroup::Limited;
use crate::sandbox::cgroup::cpu_quota_microseconds;

/// The leaf into which the worker moves, so that its own cgroup holds no process. It goes with the scope or container.
pub(crate) const LEAF: &str = "packhorse-worker";

/// What is known of a cgroup that may become a parent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parent {
    /// Where it is.
    path: PathBuf,
    /// The controllers that it may give to its children.
    controllers: BTreeSet<String>,
    /// Those that they have.
    enabled: BTreeSet<String>,
    /// Who lives in it; 0 is a process of another namespace.
    processes: Vec<u32>,
    /// The kernel's own root, to which the rule about processes does not apply.
    is_root: bool,
    /// Whether cgroups can be made in it and processes moved.
    is_writable: bool,
}

/// How a parent becomes fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is, with these controllers.
    Ready(BTreeSet<String>),
    /// These must be turned on.
    Enable(BTreeSet<String>),
    /// The same, after these processes have moved into a leaf.
    MoveAndEnable(BTreeSet<String>, Vec<u32>),
}

impl Parent {
    /// Reads it.
    pub(crate) fn read(path: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        let words = |name: &str| text(name).split_whitespace().map(str::to_owned).collect();
        let may_write = |place: &Path| rustix::fs::access(place, Access::WRITE_OK).is_ok();
        Self {
            path: path.to_owned(),
            controllers: words("cgroup.controllers"),
            enabled: words("cgroup.subtree_control"),
            processes: text("cgroup.procs")
                .lines()
                .filter_map(|line| line.parse().ok())
                .collect(),
            is_root: !path.join("cgroup.type").exists(),
            is_writable: may_write(path) && may_write(&path.join("cgroup.procs")),
        }
    }

    /// How it can give what is limited to a child, or why it cannot. Only processes that `is_ours` may be moved.
    pub(crate) fn way(&self, limited: Limited<'_>, is_ours: impl Fn(u32) -> bool) -> Result<Way, String> {
        let path = self.path.display();
        let needed = ["pids"]
            .into_iter()
            .chain(limited.memory_bytes_max.map(|_| "memory"));
        let wished = limited.cpu_hundredths_max.map(|_| "cpu");
        if let Some(missing) = needed
            .clone()
            .find(|controller| !self.controllers.contains(*controller))
        {
            return Err(format!("`{path}` has no controller `{missing}`"));
        }
        if !self.is_writable {
            return Err(format!("`{path}` is not delegated to this user"));
        }
        let wanted: BTreeSet<String> = needed
            .chain(wished.filter(|cpu| self.controllers.contains(*cpu)))
            .map(str::to_owned)
            .collect();
        if wanted.is_subset(&self.enabled) {
            return Ok(Way::Ready(wanted));
        }
        if self.is_root || self.processes.is_empty() {
            return Ok(Way::Enable(wanted));
        }
        if self.processes.iter().all(|process| is_ours(*process)) {
            return Ok(Way::MoveAndEnable(wanted, self.processes.clone()));
        }
        Err(format!("other processes live in `{path}`"))
    }

    /// Makes it fit. What was moved goes back when the controllers cannot be turned on.
    pub(crate) fn prepare(&self, way: &Way) -> io::Result<()> {
        let enable = |controllers: &BTreeSet<String>| {
            let words: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
            fs::write(self.path.join("cgroup.subtree_control"), words.join(" "))
        };
        match way {
            Way::Ready(_) => Ok(()),
            Way::Enable(controllers) => enable(controllers),
            Way::MoveAndEnable(controllers, processes) => {
                let leaf = self.path.join(LEAF);
                match fs::create_dir(&leaf) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
                move_all(processes, &leaf)
                    .and_then(|()| enable(controllers))
                    .inspect_err(|_| {
                        drop(move_all(processes, &self.path));
                        drop(fs::remove_dir(&leaf));
                    })
            }
        }
    }
}

impl Way {
    /// What a child will have.
    pub(crate) fn controllers(&self) -> &BTreeSet<String> {
        match self {
            Self::Ready(controllers) | Self::Enable(controllers) | Self::MoveAndEnable(controllers, _) => {
                controllers
            }
        }
    }
}

/// Makes the job's cgroup at `path`, whose parent is fit.
pub(crate) fn make(path: &Path, limited: Limited<'_>, controllers: &BTreeSet<String>) -> io::Result<()> {
    fs::create_dir(path)?;
    let set = || {
        fs::write(path.join("pids.max"), limited.processes_max.to_string())?;
        if let Some(bytes) = limited.memory_bytes_max {
            fs::write(path.join("memory.max"), bytes.to_string())?;
            // Not there without swap.
            drop(fs::write(path.join("memory.swap.max"), "0"));
            // A job that has lost one process of many is of no use, and hard to tell from one that is whole.
            drop(fs::write(path.join("memory.oom.group"), "1"));
        }
        if let Some(hundredths) = limited.cpu_hundredths_max.filter(|_| controllers.contains("cpu")) {
            let quota = cpu_quota_microseconds(hundredths);
            fs::write(path.join("cpu.max"), format!("{quota} {CPU_PERIOD_MICROSECONDS}"))?;
        }
        Ok(())
    };
    set().inspect_err(|_: &io::Error| drop(fs::remove_dir(path)))
}

/// Kills whatever is still in it (Linux 5.14).
pub(crate) fn kill(path: &Path) {
    let file = path.join("cgroup.kill");
    if file.exists() {
        drop(fs::write(file, "1"));
    }
}

fn move_all(processes: &[u32], into: &Path) -> io::Result<()> {
    for process in processes {
        match fs::write(into.join("cgroup.procs"), process.to_string()) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: u32 = 4000;

    fn limited(id: &str) -> Limited<'_> {
        Limited {
            job_directory: Path::new(""),
            id,
            memory_bytes_max: Some(1 << 30),
            processes_max: 100,
            cpu_hundredths_max: Some(150),
        }
    }

    /// A cgroup in a fake tree; files that a kernel would have are there.
    fn cgroup(root: &Path, name: &str, controllers: &str, enabled: &str, processes: &str) -> PathBuf {
        let path = root.join(name);
        fs::create_dir_all(&path).unwrap();
        for (file, text) in [
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", enabled),
            ("cgroup.procs", processes),
            ("cgroup.type", "domain\n"),
        ] {
            fs::write(path.join(file), text).unwrap();
        }
        path
    }

    fn way(path: &Path) -> Result<Way, String> {
        Parent::read(path).way(limited("x"), |process| process == OURS)
    }

    fn names(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_delegated_scope_is_emptied_into_a_leaf_first() {
        let root = tempfile::tempdir().unwrap();
        let scope = cgroup(
            root.path(),
            "run-1.scope",
            "cpuset cpu io memory pids\n",
            "\n",
            "4000\n",
        );
        let way = way(&scope).unwrap();
        assert_eq!(way, Way::MoveAndEnable(names("cpu memory pids"), vec![OURS]));
        Parent::read(&scope).prepare(&way).unwrap();
        let read = |name: &str| fs::read_to_string(scope.join(name)).unwrap();
        assert_eq!(read("packhorse-worker/cgroup.procs"), "4000");
        assert_eq!(read("cgroup.subtree_control"), "+cpu +memory +pids");
        let job = scope.join("packhorse-job");
        make(&job, limited("x"), way.controllers()).unwrap();
        assert_eq!(read("packhorse-job/pids.max"), "100");
        assert_eq!(read("packhorse-job/memory.max"), "1073741824");
        assert_eq!(read("packhorse-job/memory.swap.max"), "0");
        assert_eq!(read("packhorse-job/memory.oom.group"), "1");
        assert_eq!(read("packhorse-job/cpu.max"), "150000 100000");
        fs::write(job.join("cgroup.kill"), "").unwrap();
        kill(&job);
        assert_eq!(read("packhorse-job/cgroup.kill"), "1");
    }

    #[test]
    fn the_worker_in_its_leaf_has_a_parent_that_is_ready() {
        let root = tempfile::tempdir().unwrap();
        let scope = cgroup(
            root.path(),
            "run-1.scope",
            "cpu memory pids\n",
            "cpu memory pids\n",
            "",
        );
        assert_eq!(way(&scope), Ok(Way::Ready(names("cpu memory pids"))));
    }

    #[test]
    fn where_others_live_nothing_is_moved() {
        let root = tempfile::tempdir().unwrap();
        let shared = cgroup(
            root.path(),
            "session.scope",
            "cpu memory pids\n",
            "",
            "4000\n17\n",
        );
        let why = way(&shared).unwrap_err();
        assert!(why.starts_with("other processes live in"), "{why}");
        // A process of another pid namespace.
        let nested = cgroup(root.path(), "nested", "cpu memory pids\n", "", "0\n4000\n");
        assert!(way(&nested).is_err());
    }

    #[test]
    fn controllers_that_are_missing_are_named() {
        let root = tempfile::tempdir().unwrap();
        let bare = cgroup(root.path(), "bare", "cpuset cpu\n", "", "4000\n");
        assert!(way(&bare).unwrap_err().ends_with("has no controller `pids`"));
        let some = cgroup(root.path(), "some", "pids\n", "", "4000\n");
        assert!(way(&some).unwrap_err().ends_with("has no controller `memory`"));
        // Processors are limited where it can be.
        let most = cgroup(root.path(), "most", "memory pids\n", "memory pids\n", "");
        assert_eq!(way(&most), Ok(Way::Ready(names("memory pids"))));
    }

    #[test]
    fn without_delegation_it_says_so() {
        let parent = Parent {
            path: "/sys/fs/cgroup/user.slice/session-3.scope".into(),
            controllers: names("cpu memory pids"),
            processes: vec![OURS],
            ..Parent::default()
        };
        let why = parent.way(limited("x"), |_| true).unwrap_err();
        assert_eq!(
            why,
            "`/sys/fs/cgroup/user.slice/session-3.scope` is not delegated to this user"
        );
    }

    #[test]
    fn the_kernels_root_may_have_processes() {
        let root = tempfile::tempdir().unwrap();
        let top = cgroup(root.path(), "top", "cpu memory pids\n", "", "1\n2\n4000\n");
        fs::remove_file(top.join("cgroup.type")).unwrap();
        assert_eq!(way(&top), Ok(Way::Enable(names("cpu memory pids"))));
    }

    #[test]
    fn what_cannot_be_turned_on_is_moved_back() {
        let root = tempfile::tempdir().unwrap();
        let scope = cgroup(root.path(), "run-1.scope", "cpu memory pids\n", "", "4000\n");
        let parent = Parent::read(&scope);
        let way = way(&scope).unwrap();
        fs::remove_file(scope.join("cgroup.subtree_control")).unwrap();
        fs::create_dir(scope.join("cgroup.subtree_control")).unwrap();
        assert!(parent.prepare(&way).is_err());
        assert_eq!(fs::read_to_string(scope.join("cgroup.procs")).unwrap(), "4000");
    }
}
