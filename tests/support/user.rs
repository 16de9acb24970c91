//! A plain user with ids of their own, made for one process and seen by no other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::home::target;
use crate::support::run::Invocation;

/// The user's id and group.
const ID: u32 = 1000;

/// A plain user: `/etc/passwd`, `/etc/subuid` and `/etc/subgid` that only their processes see.
pub(crate) struct PlainUser {
    folder: TempDir,
}

impl PlainUser {
    /// Makes the user. Only root can.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("user-")
            .tempdir_in(target())
            .unwrap();
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let accounts = |file: &str, own: &str| {
            let old = fs::read_to_string(file).unwrap();
            let kept = old.lines().filter(|line| line.split(':').nth(2) != Some("1000"));
            kept.chain([own, ""]).collect::<Vec<_>>().join("\n")
        };
        let home = path.join("home");
        let passwd = accounts(
            "/etc/passwd",
            &format!("plain:x:{ID}:{ID}::{}:/bin/sh", home.display()),
        );
        fs::write(path.join("passwd"), passwd).unwrap();
        fs::write(
            path.join("group"),
            accounts("/etc/group", &format!("plain:x:{ID}:")),
        )
        .unwrap();
        for file in ["subuid", "subgid"] {
            fs::write(path.join(file), "plain:300000:65536\n").unwrap();
        }
        fs::write(path.join("program"), "").unwrap();
        for name in ["home", "store", "tmp"] {
            fs::create_dir(path.join(name)).unwrap();
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o700)).unwrap();
            chown(path.join(name), Some(ID), Some(ID)).unwrap();
        }
        Self { folder }
    }

    /// A file or folder below the user's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives a tree to the user.
    pub(crate) fn own(path: &Path) {
        let owner = format!("{ID}:{ID}");
        crate::support::home::succeed(
            std::process::Command::new("chown")
                .args(["-R", "-h", &owner])
                .arg(path),
        );
    }

    /// The same command as this user, in a mount namespace where they have an account and the program is theirs to run.
    pub(crate) fn runs(&self, invocation: Invocation) -> Invocation {
        let folder = self.folder.path().display();
        let binds: String = ["passwd", "group", "subuid", "subgid"]
            .map(|file| format!("mount --bind {folder}/{file} /etc/{file}; "))
            .concat();
        let program = format!("mount --bind \"$1\" {folder}/program; shift; ");
        let become_user =
            format!("exec setpriv --reuid={ID} --regid={ID} --clear-groups -- {folder}/program \"$@\"");
        let script = format!("set -e; {binds}{program}{become_user}");
        invocation
            .through(&[
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                &script,
                "sh",
            ])
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("PACKHORSE_HOME", self.path("store"))
            .within(&self.path("home"))
    }
}
