//! What the probe found is kept, so that a machine is tried once and not in each build.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::oci::temporary;
use crate::sandbox::identity::Surroundings;
use crate::sandbox::probe;
use crate::sandbox::probe::Found;

/// The file's name in the data directory.
const NAME: &str = "sandbox.json";
/// What of `/proc/self/status` decides what the kernel allows.
const STATUS_LINES: [&str; 6] = [
    "Groups:",
    "CapPrm:",
    "CapBnd:",
    "NoNewPrivs:",
    "Seccomp:",
    "Seccomp_filters:",
];
/// Settings that close user namespaces.
const SETTINGS: [&str; 3] = [
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
];

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    surroundings: Vec<String>,
    found: Found,
}

/// What was found in these surroundings before, else what is found now. `data_directory` need not be there yet; then
/// nothing is kept. Only for a process with one thread.
pub(crate) fn found(surroundings: &Surroundings, data_directory: &Path) -> std::io::Result<Found> {
    let path = data_directory.join(NAME);
    let now = fingerprint(surroundings);
    let known = fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    if let Some(record) = known.filter(|record| record.surroundings == now) {
        return Ok(record.found);
    }
    let found = probe::probe(surroundings.uid == 0, data_directory)?;
    let record = Record {
        surroundings: now,
        found,
    };
    // What is not kept is found again.
    drop(keep(&path, &record));
    Ok(found)
}

fn keep(path: &Path, record: &Record) -> std::io::Result<()> {
    temporary::write_expendable(path, &serde_json::to_vec(record)?)
}

/// Everything that decides what the probe would find; it changes with each boot.
fn fingerprint(surroundings: &Surroundings) -> Vec<String> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let status = text("/proc/self/status");
    let lines = status
        .lines()
        .filter(|line| STATUS_LINES.iter().any(|name| line.starts_with(name)));
    let mounts = text("/proc/self/mountinfo");
    let proc_mounts = mounts.lines().filter(|line| {
        line.split(' ')
            .nth(4)
            .is_some_and(|point| point.starts_with("/proc"))
    });
    [
        text("/proc/sys/kernel/random/boot_id"),
        text("/proc/self/attr/current"),
        format!("{}:{}", surroundings.uid, surroundings.gid),
        surroundings.uid_map.clone(),
    ]
    .into_iter()
    .chain(SETTINGS.iter().map(|path| text(path)))
    .chain(lines.chain(proc_mounts).map(str::to_owned))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_tried_once_and_again_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let surroundings = Surroundings::read(None, None);
        let first = found(&surroundings, folder.path()).unwrap();
        let kept = fs::read(&path).unwrap();
        assert_eq!(found(&surroundings, folder.path()).unwrap(), first);

        let lie = Found {
            without_user_namespace: Some(probe::Refused {
                obstacle: probe::Obstacle::Mount,
                number: 1,
            }),
            ..first
        };
        let record = |surroundings: &Surroundings| Record {
            surroundings: fingerprint(surroundings),
            found: lie,
        };
        keep(&path, &record(&surroundings)).unwrap();
        assert_eq!(found(&surroundings, folder.path()).unwrap(), lie);

        let other = Surroundings {
            uid_map: "0 1 2".to_owned(),
            ..surroundings.clone()
        };
        keep(&path, &record(&other)).unwrap();
        assert_eq!(found(&surroundings, folder.path()).unwrap(), first);
        assert_eq!(fs::read(&path).unwrap(), kept);
    }
}
