//! A user of the machine who waits for files that a job makes: set-user-id and set-group-id programs of anybody.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use packhorse::sandbox;
use packhorse::sandbox::job::Job as _;
use packhorse::sandbox::spec::Network;

use crate::attacks::assault;
use crate::attacks::expectation::COLUMNS;
use crate::attacks::expectation::Column;
use crate::attacks::expectation::Runner;
use crate::attacks::stage::Stage;
use crate::support::home::succeed;
use crate::support::processes::descendants;

/// What a job leaves in every place that it can write to.
const LEAVES: [&str; 3] = [
    "set-user-id-in-workspace",
    "set-user-id-in-tmp",
    "set-user-id-in-layers",
];

/// In every column of root, where what a job owns on disk has the numbers that it has inside.
pub(super) fn all(folder: &Path, accomplice: &str) {
    for column in COLUMNS.iter().filter(|column| column.runner == Runner::Root) {
        for user in column.users() {
            gets_nothing(*column, *user, folder, accomplice);
        }
    }
}

fn gets_nothing(column: Column, user: u32, folder: &Path, accomplice: &str) {
    let stage = Stage::quiet(folder, Some(column));
    let mut spec = stage.spec(user, Network::None, assault::limits());
    // As in a build, where it is in the job's own directory.
    let workspace = spec.directory.path().join("workspace");
    fs::rename(&spec.workspace, &workspace).unwrap();
    spec.workspace = workspace;
    let job = sandbox::start(spec).unwrap();
    job.attach_layers().unwrap();
    assault::leave(&job, &stage, &LEAVES);
    let made: Vec<PathBuf> = set_id_files(&stage.place().join("store"))
        .into_iter()
        .chain(set_id_files(&stage.place().join("layers")))
        .collect();
    // Where the image is copied, its own are there too.
    let of_job = made.iter().filter(|path| path.ends_with("set-user-id"));
    assert_eq!(of_job.count(), LEAVES.len(), "{}: {made:?}", column.name);
    let reached = as_accomplice(accomplice, &made);
    assert_eq!(
        reached, "",
        "{} as {user}: {accomplice} reaches files of a job",
        column.name
    );
    // After the job, too, what is kept of it.
    drop(job);
    let kept = set_id_files(stage.place());
    let kept: Vec<PathBuf> = kept
        .into_iter()
        .filter(|path| !path.starts_with(stage.place().join("base")))
        .collect();
    assert_eq!(kept.len(), 1, "{}: {kept:?}", column.name);
    assert_eq!(as_accomplice(accomplice, &kept), "", "{} as {user}", column.name);
}

fn set_id_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        let status = fs::symlink_metadata(&path).unwrap();
        if status.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if status.is_file() && status.mode() & 0o6000 != 0 {
            found.push(path);
        }
    }
    found
}

/// What the accomplice gets of the files, by name and through every process: words, or nothing.
fn as_accomplice(accomplice: &str, files: &[PathBuf]) -> String {
    let script = "for file; do test -e \"$file\" && echo \"sees $file\"; \"$file\" --list 2>/dev/null && echo \"runs $file\"; done
for process in $PROCESSES; do ls -d /proc/$process/root/workspace; ls /proc/$process/cwd/ /proc/$process/fd/; done 2>/dev/null; true";
    // Monitor, init, and what runs inside; others of this machine may be the accomplice's own.
    let processes: Vec<String> = descendants(std::process::id())
        .iter()
        .map(|process| process.id().to_string())
        .collect();
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={accomplice}"),
        &format!("--regid={accomplice}"),
        "--init-groups",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    succeed(command.args(files).env("PROCESSES", processes.join(" ")))
}
