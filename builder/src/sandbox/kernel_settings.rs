//! What files below `/proc`, `/sys` and `/etc` say of the kernel and of a container around: read, not tried.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Bytes of one of these files that are looked at.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Around packhorse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// A pod of Kubernetes.
    Kubernetes,
    /// A container of Docker.
    Docker,
    /// A container of podman.
    Podman,
    /// None that leaves a mark.
    NotSeen,
}

/// Everything that is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelSettings {
    /// `6.1.0-18-amd64`.
    pub release: String,
    /// Which container is around.
    pub container: Container,
    /// How many user namespaces there may be.
    pub user_namespaces_max: Option<u64>,
    /// Debian's switch for user namespaces of plain users; none: the kernel has no such switch.
    pub user_namespaces_for_all: Option<bool>,
    /// Ubuntu's switch: `AppArmor` takes every right in a user namespace from programs without a profile.
    pub apparmor_restricts: Option<bool>,
    /// The `AppArmor` profile of this process (`unconfined`, `docker-default (enforce)`); none: there is no `AppArmor`.
    pub apparmor_profile: Option<String>,
    /// Whether `SELinux` enforces; none: there is no `SELinux`.
    pub selinux_enforces: Option<bool>,
    /// Places below `/proc` that something is mounted over, as containers do.
    pub covered_proc: Vec<String>,
}

impl KernelSettings {
    /// Reads them; `root` is `/`, and in tests a made-up tree.
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| read_text(&root.join(path));
        let number = |path: &str| text(path)?.parse::<u64>().ok();
        let switch = |path: &str| number(path).map(|number| number != 0);
        let is_there = |path: &str| root.join(path).exists();
        let container = if is_there("var/run/secrets/kubernetes.io") || is_there("run/secrets/kubernetes.io")
        {
            Container::Kubernetes
        } else if is_there("run/.containerenv") {
            Container::Podman
        } else if is_there(".dockerenv") {
            Container::Docker
        } else {
            Container::NotSeen
        };
        let apparmor = text("sys/module/apparmor/parameters/enabled").as_deref() == Some("Y");
        // The common file is that of whichever security module is there; this one is AppArmor's own since Linux 5.8.
        let profile = text("proc/self/attr/apparmor/current").or_else(|| text("proc/self/attr/current"));
        Self {
            release: text("proc/sys/kernel/osrelease").unwrap_or_default(),
            container,
            user_namespaces_max: number("proc/sys/user/max_user_namespaces"),
            user_namespaces_for_all: switch("proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts: switch("proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            apparmor_profile: apparmor.then(|| profile.unwrap_or_default()),
            selinux_enforces: switch("sys/fs/selinux/enforce"),
            covered_proc: covered_proc(&text("proc/self/mountinfo").unwrap_or_default()),
        }
    }
}

fn read_text(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(FILE_BYTES_MAX as u64).read_to_string(&mut text).ok()?;
    Some(text.trim().trim_end_matches('\0').to_owned())
}

/// Mount points below `/proc` (`proc_pid_mountinfo(5)`). A service for binary formats is no cover.
fn covered_proc(mounts: &str) -> Vec<String> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| point.starts_with("/proc/") && *point != "/proc/sys/fs/binfmt_misc")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> KernelSettings {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        KernelSettings::read(folder.path())
    }

    #[test]
    fn a_machine_that_says_nothing_has_nothing() {
        let settings = tree(&[]);
        assert_eq!(settings.container, Container::NotSeen);
        assert_eq!(settings.user_namespaces_max, None);
        assert_eq!(settings.apparmor_restricts, None);
        assert_eq!(settings.apparmor_profile, None);
        assert_eq!(settings.selinux_enforces, None);
    }

    #[test]
    fn an_ubuntu_machine_is_known_by_its_switches() {
        let settings = tree(&[
            ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
            ("proc/sys/user/max_user_namespaces", "15000\n"),
            ("sys/module/apparmor/parameters/enabled", "Y\n"),
            ("proc/self/attr/apparmor/current", "unconfined\n"),
            ("proc/sys/kernel/osrelease", "6.8.0-31-generic\n"),
        ]);
        assert_eq!(settings.apparmor_restricts, Some(true));
        assert_eq!(settings.apparmor_profile.as_deref(), Some("unconfined"));
        assert_eq!(settings.user_namespaces_max, Some(15_000));
        assert_eq!(settings.release, "6.8.0-31-generic");
    }

    #[test]
    fn containers_are_known_by_their_marks_and_their_covered_proc() {
        let mounts = "600 500 0:50 / /proc rw - proc proc rw\n\
                      601 600 0:50 /bus /proc/bus ro - proc proc rw\n\
                      602 600 0:51 / /proc/kcore rw - tmpfs tmpfs rw\n\
                      603 600 0:52 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw\n";
        let settings = tree(&[(".dockerenv", ""), ("proc/self/mountinfo", mounts)]);
        assert_eq!(settings.container, Container::Docker);
        assert_eq!(settings.covered_proc, ["/proc/bus", "/proc/kcore"]);
        let pod = tree(&[
            (".dockerenv", ""),
            ("var/run/secrets/kubernetes.io/serviceaccount/token", ""),
        ]);
        assert_eq!(pod.container, Container::Kubernetes);
        assert_eq!(tree(&[("run/.containerenv", "")]).container, Container::Podman);
        assert_eq!(
            tree(&[("sys/fs/selinux/enforce", "1")]).selinux_enforces,
            Some(true)
        );
    }
}
