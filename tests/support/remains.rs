//! What of sandboxes may outlive them on a machine, looked for from a process that adopts whatever is left below it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use rustix::process::WaitOptions;

use crate::support::processes::Process;
use crate::support::processes::descendants;

/// The kernel ends a sandbox's processes in its own time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs one ignored test of this program by itself, so that nobody else's processes and files are counted.
pub(crate) fn run_alone(mut command: Command, test: &str) {
    let output = command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && said.contains("test result: ok. 1 passed"),
        "{test}: {said}"
    );
    eprintln!("{said}");
}

/// This program.
pub(crate) fn own_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// Makes this process the parent of all that is left below it.
pub(crate) fn adopt_orphans() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
}

/// What still runs below this process after some patience. Whoever calls it has no child of its own.
pub(crate) fn still_running() -> Vec<Process> {
    let begin = Instant::now();
    loop {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        let left = descendants(std::process::id());
        if left.is_empty() || begin.elapsed() > PATIENCE {
            return left;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every control group whose name begins so.
pub(crate) fn control_groups(prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 6, &mut |path| {
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with(prefix) && path.is_dir() {
            found.push(path.to_owned());
        }
    });
    found
}

/// The mounts of this process, and the loop devices, that are of something below `place`.
pub(crate) fn mounts_and_loops_of(place: &Path) -> Vec<String> {
    let place = place.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<String> = mounts
        .lines()
        .filter(|line| line.contains(&place))
        .map(str::to_owned)
        .collect();
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if file.contains(&place) {
            found.push(format!("{}: {file}", device.path().display()));
        }
    }
    found
}

/// What is in a folder and not hidden.
pub(crate) fn visible(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path().display().to_string())
        .collect()
}

/// Calls `look` with everything below a folder, not through links, at most so deep.
pub(crate) fn walk(folder: &Path, depth: u32, look: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        look(&entry.path());
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth - 1, look);
        }
    }
}
