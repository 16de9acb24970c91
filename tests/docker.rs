//! Docker takes the image and runs it, where root has a daemon to start.

use std::fs;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::fs::Access;
use rustix::fs::access;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tempfile::TempDir;

use crate::support::app::Folder;
use crate::support::home::Machine;
use crate::support::home::succeed;
use crate::support::image::is_root;
use crate::support::image::skopeo;
use crate::support::left_out::left_out;

/// What shows that Docker's daemon is the machine's to start.
fn can_start() -> Result<(), &'static str> {
    if !is_root() {
        return Err("only root can start Docker's daemon");
    }
    if access("/sys/fs/cgroup", Access::WRITE_OK).is_err() {
        return Err("Docker needs control groups that can be written");
    }
    match Command::new("dockerd").arg("--version").output() {
        Ok(_) => Ok(()),
        Err(_) => Err("dockerd is not installed"),
    }
}

/// A Docker daemon of the test's own: its folder, its socket, its control group, no network.
struct Docker {
    daemon: Child,
    folder: TempDir,
    control_group: String,
}

impl Docker {
    /// Starts it.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control_group = format!("packhorse-docker-{}", std::process::id());
        let at = |name: &str| folder.path().join(name).display().to_string();
        let log = fs::File::create(at("log")).unwrap();
        // The daemon refuses a file that is named and is not there; the machine's own file is not for it.
        fs::write(at("settings"), "{}").unwrap();
        // In a mount namespace, so that no mount outlives it; without the machine's containerd, whose socket is in /run.
        let script = "mount -t tmpfs tmpfs /run && exec dockerd \"$@\"";
        let daemon = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid"), "--config-file", &at("settings")])
            .args(["--host", &format!("unix://{}", at("socket"))])
            .args(["--iptables=false", "--bridge=none"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--cgroup-parent", &control_group])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut docker = Self {
            daemon,
            folder,
            control_group,
        };
        let start = Instant::now();
        while !docker.answers() {
            let is_gone = docker.daemon.try_wait().unwrap().is_some();
            if is_gone || start.elapsed() > Duration::from_secs(60) {
                let log = fs::read_to_string(docker.folder.path().join("log")).unwrap();
                panic!("Docker's daemon does not start: {log}");
            }
            thread::sleep(Duration::from_millis(200));
        }
        docker
    }

    fn answers(&self) -> bool {
        let asked = self.command(&["version"]).output();
        asked.expect("docker is not installed").status.success()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        let socket = self.folder.path().join("socket");
        command
            .env("DOCKER_CONFIG", self.folder.path())
            .args(["--host", &format!("unix://{}", socket.display())])
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
        // Docker removes its containers' groups and leaves their parent, in each hierarchy.
        let _removed = Command::new("find")
            .args(["/sys/fs/cgroup", "-depth", "-type", "d"])
            .args(["-path", &format!("*/{}*", self.control_group), "-delete"])
            .status();
    }
}

#[test]
fn docker_loads_and_runs_the_image() {
    if let Err(why) = can_start() {
        left_out(why);
        return;
    }
    let docker = Docker::start();
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
    assert_eq!(
        String::from_utf8_lossy(&first.stdout),
        "hello from docker\n",
        "{errors}"
    );
    let second = run(&["--entrypoint", "launcher", "hello:1", "id -u; pwd; exit 7"]);
    assert_eq!(String::from_utf8_lossy(&second.stdout), "1000\n/workspace\n");
    assert_eq!(second.status.code(), Some(7));
}
