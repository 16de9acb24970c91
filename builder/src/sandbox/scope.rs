//! A scope of systemd's for this process alone, in which cgroups may be made: where a plain user has a manager of its own
//! and lives in a cgroup that is not delegated (systemd-run(1)).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use crate::model::limits::Limits;
use crate::sandbox::cgroup::Limited;
use crate::sandbox::cgroup::is_ours;
use crate::sandbox::cgroup_place::mount_points;
use crate::sandbox::cgroup_place::version_2_parents;
use crate::sandbox::cgroup_v2::Parent;

/// Why a scope would not help, or must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Root needs no scope to make cgroups.
    Root,
    /// v2 is not the only hierarchy: a user's manager then has no controllers to give.
    OtherHierarchies,
    /// A job's cgroup can be made as things are.
    Delegated,
    /// The user's manager cannot be spoken to.
    NoManager,
    /// There is nothing to limit that only a cgroup limits well.
    NothingLimited,
}

/// Everything that speaks against a scope; nothing does where this is empty. `runtime_directory` is the user's, where the
/// socket of its manager is.
pub fn obstacles(limits: &Limits, runtime_directory: Option<&Path>) -> Vec<Obstacle> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let has_manager = runtime_directory.is_some_and(|folder| folder.join("bus").exists());
    let is_root = rustix::process::geteuid().is_root();
    [(is_root, Obstacle::Root), (!has_manager, Obstacle::NoManager)]
        .into_iter()
        .filter_map(|(is_there, obstacle)| is_there.then_some(obstacle))
        .chain(of_hierarchy(
            &text("/proc/self/cgroup"),
            &text("/proc/self/mountinfo"),
            limits,
        ))
        .collect()
}

/// What the texts of `/proc/self/cgroup` and `/proc/self/mountinfo` say against it.
fn of_hierarchy(own: &str, mounts: &str, limits: &Limits) -> Vec<Obstacle> {
    let has = |wanted: &str| mount_points(mounts, |kind, _| kind == wanted).next().is_some();
    let limited = Limited {
        job_directory: Path::new(""),
        id: "",
        memory_bytes_max: limits.memory_bytes_max,
        processes_max: limits.processes_max,
        cpu_hundredths_max: limits.cpu_hundredths_max,
    };
    let mut parents = version_2_parents(own, mounts).into_iter();
    let is_limited = limits.memory_bytes_max.is_some()
        || limits.cpu_hundredths_max.is_some()
        || limits.processes_max != Limits::default().processes_max;
    let mut found = Vec::new();
    if !has("cgroup2") || has("cgroup") {
        found.push(Obstacle::OtherHierarchies);
    }
    if parents.any(|path| Parent::read(&path).way(limited, is_ours).is_ok()) {
        found.push(Obstacle::Delegated);
    }
    if !is_limited {
        found.push(Obstacle::NothingLimited);
    }
    found
}

/// Becomes this program again, with the same `words`, in a scope. `guard` is the variable that says so to it. Comes back
/// only when there is no scope to be had, and then nothing has changed.
pub fn enter(words: &[OsString], guard: &str) -> io::Error {
    match attempt(words, guard) {
        Ok(mut command) => command.exec(),
        Err(error) => error,
    }
}

/// The command, once a scope was to be had for a program that does nothing.
fn attempt(words: &[OsString], guard: &str) -> io::Result<Command> {
    let program = fs::read_link("/proc/self/exe")?;
    let tried = in_scope(Path::new("true"), &[], guard)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !tried.success() {
        return Err(io::Error::other(format!("systemd-run ended with {tried}")));
    }
    Ok(in_scope(&program, words.get(1..).unwrap_or_default(), guard))
}

fn in_scope(program: &Path, arguments: &[OsString], guard: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the sandbox owns what it runs in")]
    let mut command = Command::new("systemd-run");
    command
        .args([
            "--user",
            "--scope",
            "--quiet",
            "--collect",
            "-p",
            "Delegate=yes",
            "--",
        ])
        .arg(program)
        .args(arguments)
        .env(guard, "1");
    command
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_speaks_against_a_scope_is_read_from_the_hierarchy() {
        let root = tempfile::tempdir().unwrap();
        let session = root.path().join("user.slice/session-3.scope");
        fs::create_dir_all(&session).unwrap();
        let mounts = format!("30 25 0:26 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let limits = Limits {
            memory_bytes_max: Some(1 << 30),
            ..Limits::default()
        };
        let look =
            |mounts: &str, limits: &Limits| of_hierarchy("0::/user.slice/session-3.scope\n", mounts, limits);
        assert_eq!(look(&mounts, &limits), []);
        assert_eq!(look(&mounts, &Limits::default()), [Obstacle::NothingLimited]);
        let hybrid = format!("{mounts}35 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
        assert_eq!(look(&hybrid, &limits), [Obstacle::OtherHierarchies]);
        assert_eq!(look("", &limits), [Obstacle::OtherHierarchies]);
        fs::write(session.join("cgroup.controllers"), "memory pids\n").unwrap();
        fs::write(session.join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(look(&mounts, &limits), [Obstacle::Delegated]);
    }

    #[test]
    fn without_a_manager_there_is_no_scope() {
        let folder = tempfile::tempdir().unwrap();
        let has_manager =
            |folder: Option<&Path>| !obstacles(&Limits::default(), folder).contains(&Obstacle::NoManager);
        assert!(!has_manager(None) && !has_manager(Some(folder.path())));
        fs::write(folder.path().join("bus"), "").unwrap();
        assert!(has_manager(Some(folder.path())));
    }

    #[test]
    fn the_program_is_started_with_its_words_and_the_guard() {
        let folder = tempfile::tempdir().unwrap();
        let fake = folder.path().join("systemd-run");
        let script = "#!/bin/sh\necho \"$@\"\nwhile [ \"$1\" != -- ]; do shift; done; shift\nexec \"$@\"\n";
        fs::write(&fake, script).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        let words = ["-c", "echo \"inside $GUARD $0\"", "a b"].map(OsString::from);
        let output = in_scope(Path::new("/bin/sh"), &words, "GUARD")
            .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines();
        assert_eq!(
            lines.next().map(
                |line| line.starts_with("--user --scope --quiet --collect -p Delegate=yes -- /bin/sh -c")
            ),
            Some(true),
            "{text}"
        );
        assert_eq!(lines.next(), Some("inside 1 a b"), "{text}");
    }
}
