//! What cgroups there are and which limits a job would get, found by making its cgroups and removing them again.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::sandbox::cgroup::Cgroup;
use crate::sandbox::cgroup::Limited;
use crate::sandbox::cgroup_place::mount_points;
use crate::sandbox::cgroup_place::version_2_parents;

/// Limits that are only tried, and hold nobody.
const MEMORY_BYTES: u64 = 1 << 30;
const PROCESSES: u64 = 4096;

/// How the hierarchies are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hierarchy {
    /// No cgroup file system is mounted.
    None,
    /// v1 alone.
    Version1,
    /// Both; the controllers are with v1.
    Hybrid,
    /// v2 alone.
    Version2,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cgroups {
    /// How they are arranged.
    pub hierarchy: Hierarchy,
    /// This process's own v2 cgroup.
    pub own: Option<PathBuf>,
    /// Controllers that its v2 cgroup has (`cgroup.controllers`): what was delegated.
    pub controllers: Vec<String>,
    /// The limits that a job would have, in words.
    pub limits: Vec<String>,
    /// What it would not have, and what stands for it.
    pub notes: Vec<String>,
}

impl Cgroups {
    /// Whether memory and processes are limited by a cgroup.
    pub fn limits_all(&self) -> bool {
        self.notes.is_empty() && self.limits.iter().all(|limit| limit.contains("cgroup"))
    }

    /// Looks and tries.
    pub(crate) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::of(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo"))
    }

    /// The same of the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
    fn of(own: &str, mounts: &str) -> Self {
        let has = |wanted: &str| mount_points(mounts, |kind, _| kind == wanted).next().is_some();
        let hierarchy = match (has("cgroup"), has("cgroup2")) {
            (false, false) => Hierarchy::None,
            (true, false) => Hierarchy::Version1,
            (true, true) => Hierarchy::Hybrid,
            (false, true) => Hierarchy::Version2,
        };
        let parents = version_2_parents(own, mounts);
        let controllers = parents
            .first()
            .and_then(|path| fs::read_to_string(path.join("cgroup.controllers")).ok())
            .unwrap_or_default();
        let id = format!("doctor-{}", std::process::id());
        let limited = Limited {
            job_directory: Path::new(""),
            id: &id,
            memory_bytes_max: Some(MEMORY_BYTES),
            processes_max: PROCESSES,
            cpu_hundredths_max: None,
        };
        let tried = Cgroup::try_out(own, mounts, limited);
        Self {
            hierarchy,
            own: parents.into_iter().next(),
            controllers: controllers.split_whitespace().map(str::to_owned).collect(),
            limits: tried.limits,
            notes: tried.notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree in the form of a pure v2 hierarchy, with `controllers` in the cgroup of a user's session.
    fn pure_version_2(controllers: &str) -> (tempfile::TempDir, Cgroups) {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("user.slice/session.scope");
        fs::create_dir_all(&own).unwrap();
        for path in [&own, own.parent().unwrap()] {
            fs::write(path.join("cgroup.controllers"), controllers).unwrap();
            fs::write(path.join("cgroup.procs"), "").unwrap();
        }
        let mounts = format!(
            "30 25 0:26 / {} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            folder.path().display()
        );
        let cgroups = Cgroups::of("0::/user.slice/session.scope\n", &mounts);
        (folder, cgroups)
    }

    #[test]
    fn a_pure_version_2_hierarchy_with_delegated_controllers_limits_all() {
        let (folder, cgroups) = pure_version_2("cpu memory pids\n");
        assert_eq!(cgroups.hierarchy, Hierarchy::Version2);
        assert_eq!(cgroups.controllers, ["cpu", "memory", "pids"]);
        assert_eq!(cgroups.own, Some(folder.path().join("user.slice/session.scope")));
        assert_eq!(cgroups.limits, ["processes by cgroup v2", "memory by cgroup v2"]);
        assert!(cgroups.limits_all());
    }

    #[test]
    fn without_memory_delegated_it_limits_by_the_substitutes() {
        let (_folder, cgroups) = pure_version_2("pids\n");
        assert_eq!(cgroups.limits, ["processes by RLIMIT_NPROC"]);
        assert!(!cgroups.limits_all());
        assert_eq!(cgroups.notes.len(), 1, "{:?}", cgroups.notes);
    }

    #[test]
    fn a_machine_without_cgroups_says_so() {
        let cgroups = Cgroups::of("", "30 25 0:26 / / rw - ext4 /dev/vda rw\n");
        assert_eq!((cgroups.hierarchy, cgroups.own.clone()), (Hierarchy::None, None));
        assert!(!cgroups.limits_all());
    }

    #[test]
    fn what_is_tried_is_removed() {
        let count = || {
            let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let points = mount_points(&text, |kind, _| kind.starts_with("cgroup"));
            let name = format!("packhorse-doctor-{}", std::process::id());
            points.filter(|(_, point)| point.join(&name).exists()).count()
        };
        let _tried = Cgroups::read();
        assert_eq!(count(), 0);
    }
}
