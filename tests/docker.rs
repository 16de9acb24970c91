//! Docker takes the image and runs it, where its daemon can be started.

use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tempfile::TempDir;

use crate::support::app::Folder;
use crate::support::home::Machine;
use crate::support::home::succeed;
use crate::support::image::is_root;
use crate::support::image::skopeo;

/// A Docker daemon of the test's own: its folder, its socket, no network.
struct Docker {
    daemon: Child,
    folder: TempDir,
}

impl Docker {
    /// Starts it, or says why it does not start.
    fn start() -> Result<Self, String> {
        if !is_root() {
            return Err("only root can start Docker's daemon".to_owned());
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let log = std::fs::File::create(at("log")).unwrap();
        let daemon = Command::new("dockerd")
            .args([
                "--data-root",
                &at("data"),
                "--exec-root",
                &at("exec"),
                "--pidfile",
                &at("pid"),
            ])
            .args([
                "--host",
                &format!("unix://{}", at("socket")),
                "--iptables=false",
                "--bridge=none",
                "--config-file",
                &at("none"),
            ])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("dockerd: {error}"))?;
        let mut docker = Self { daemon, folder };
        let start = Instant::now();
        while !docker
            .command(&["version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
        {
            if docker.daemon.try_wait().unwrap().is_some() || start.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(docker.folder.path().join("log")).unwrap_or_default();
                return Err(log.lines().last().unwrap_or("it says nothing").to_owned());
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(docker)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args([
                "--host",
                &format!("unix://{}", self.folder.path().join("socket").display()),
            ])
            .args(arguments);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Asked, so that it ends its own children and mounts.
        if kill_process(Pid::from_child(&self.daemon), Signal::TERM).is_ok() {
            let start = Instant::now();
            while self.daemon.try_wait().is_ok_and(|ended| ended.is_none())
                && start.elapsed() < Duration::from_secs(30)
            {
                thread::sleep(Duration::from_millis(50));
            }
        }
        let _ended = self.daemon.kill();
        let _reaped = self.daemon.wait();
    }
}

#[test]
fn docker_loads_and_runs_the_image() {
    let docker = match Docker::start() {
        Ok(docker) => docker,
        Err(why) => {
            eprintln!("left out: Docker's daemon does not start here: {why}");
            return;
        }
    };
    let machine = Machine::new();
    let (app, buildpack) = (
        Folder::new(&[("hello.txt", "hello from docker\n")]),
        Folder::buildpack("two-scripts"),
    );
    let layout = format!("oci:{}", machine.folder().join("image").display());
    machine
        .run(&[
            "build",
            &app.text(),
            "--buildpack",
            &buildpack.text(),
            "-o",
            &layout,
        ])
        .ok();
    let archive = machine.folder().join("image.tar").display().to_string();
    skopeo(&["copy", &layout, &format!("docker-archive:{archive}:hello:1")]);
    succeed(&mut docker.command(&["load", "--input", &archive]));
    let run = |arguments: &[&str]| {
        docker
            .command(&[&["run", "--rm", "--network", "none"], arguments].concat())
            .output()
            .unwrap()
    };
    let first = run(&["hello:1"]);
    let errors = String::from_utf8_lossy(&first.stderr).into_owned();
    if errors.contains("cgroup") || errors.contains("runc create failed") {
        eprintln!("left out: Docker cannot start containers here: {errors}");
        return;
    }
    assert_eq!(
        String::from_utf8_lossy(&first.stdout),
        "hello from docker\n",
        "{errors}"
    );
    let second = run(&["--entrypoint", "launcher", "hello:1", "id -u; pwd; exit 7"]);
    assert_eq!(String::from_utf8_lossy(&second.stdout), "1000\n/workspace\n");
    assert_eq!(second.status.code(), Some(7));
}
