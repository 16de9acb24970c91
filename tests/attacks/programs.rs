//! The attack programs of `testdata/attacks`, compiled for one test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::app::testdata;
use crate::support::home::succeed;

/// The programs; each is a file `testdata/attacks/NAME.c`.
pub(super) const PROGRAMS: [&str; 9] = [
    "files",
    "processes",
    "privilege",
    "kernel_files",
    "network",
    "identity",
    "terminal",
    "resources",
    "gateway",
];
/// The library that is loaded into packhorse.
pub(super) const PRELOAD: &str = "preload.so";

/// Compiles all of them into a folder that everybody may read.
pub(super) fn compile() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("packhorse-attacks-")
        .tempdir()
        .unwrap();
    let sources = testdata("attacks");
    for program in PROGRAMS {
        succeed(
            Command::new("gcc")
                .args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
                .arg(folder.path().join(program))
                .arg(sources.join("attack.c"))
                .arg(sources.join(format!("{program}.c"))),
        );
    }
    succeed(
        Command::new("gcc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(folder.path().join(PRELOAD))
            .arg(sources.join("preload.c")),
    );
    for entry in fs::read_dir(folder.path()).unwrap().flatten() {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The names of a program's attacks.
pub(super) fn attacks_of(folder: &Path, program: &str) -> Vec<String> {
    let listed = succeed(Command::new(folder.join(program)).arg("--list"));
    listed.lines().map(str::to_owned).collect()
}
