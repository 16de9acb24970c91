//! Runs a command with scratch folders at `/layers`, `/workspace` and `/cnb`, and the machine's own programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use crate::recorded::Outcome;

/// Closes what the test runner's parents left open, so that programs see the descriptors of a container.
const CLOSE_DESCRIPTORS: &str = r#"for file in /proc/self/fd/*; do number=${file##*/}; [ "$number" -le 2 ] || eval "exec $number>&-"; done; exec "$@""#;

/// After this time a command counts as hanging.
const SECONDS_MAX: &str = "60";

/// The folders of a sandbox.
pub(crate) struct Sandbox {
    /// `/workspace`.
    pub(crate) workspace: PathBuf,
    /// `/layers`.
    pub(crate) layers: PathBuf,
    /// `/cnb`.
    pub(crate) cnb: PathBuf,
    /// `/tmp`.
    pub(crate) temporary: PathBuf,
}

impl Sandbox {
    /// Makes the folders in a scratch folder.
    pub(crate) fn new(scratch: &Path) -> Self {
        let folder = |name: &str| {
            let path = scratch.join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        Self {
            workspace: folder("workspace"),
            layers: folder("layers"),
            cnb: folder("cnb"),
            temporary: folder("temporary"),
        }
    }

    /// Runs a command in `/workspace` with just these variables; the command's name is looked for in `PATH`.
    pub(crate) fn run(&self, environment: &BTreeMap<String, String>, command: &[String]) -> Outcome {
        let variables = environment.iter().map(|(name, value)| format!("{name}={value}"));
        let output = self
            .bubblewrap()
            .args([
                "bash",
                "-c",
                CLOSE_DESCRIPTORS,
                "bash",
                "env",
                "--chdir=/workspace",
                "-i",
            ])
            .args(variables)
            .args(command)
            .output()
            .unwrap();
        let outcome = Outcome {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            exit: output.status.code().unwrap(),
        };
        let is_broken = ["bwrap: ", "timeout: "]
            .iter()
            .any(|program| outcome.stderr.starts_with(program));
        assert!(
            !is_broken,
            "these tests need bubblewrap's program `bwrap`, and it does not work here: {outcome:?}"
        );
        outcome
    }

    #[expect(clippy::disallowed_methods, reason = "tests start programs themselves")]
    fn bubblewrap(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args([SECONDS_MAX, "bwrap"]);
        command.args([
            "--unshare-all",
            "--die-with-parent",
            "--uid",
            "1000",
            "--gid",
            "1000",
            "--hostname",
            "vec",
        ]);
        command.args([
            "--ro-bind",
            "/usr",
            "/usr",
            "--ro-bind",
            "/etc",
            "/etc",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ]);
        for link in ["bin", "sbin", "lib", "lib64"] {
            command.args(["--symlink", &format!("usr/{link}"), &format!("/{link}")]);
        }
        command.args(["--dir", "/home/cnb", "--dir", "/platform"]);
        let folders = [
            (&self.workspace, "/workspace"),
            (&self.layers, "/layers"),
            (&self.cnb, "/cnb"),
            (&self.temporary, "/tmp"),
        ];
        for (outside, inside) in folders {
            command.arg("--bind").arg(outside).arg(inside);
        }
        command.arg("--").stdin(Stdio::null());
        command
    }
}
