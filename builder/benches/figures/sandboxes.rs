//! A sandbox started, `true` in it, and its end: ours beside bubblewrap and crun, as root and as a plain user.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;

use crate::one_job::make_root;
use crate::options::Options;
use crate::rounds::elsewhere;
use crate::table;

const ROUNDS: &str = "50";
/// Where a hybrid hierarchy has its second version; crun refuses one that has controllers.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// Who runs the sandboxes.
struct Runner<'a> {
    options: &'a Options,
    name: &'static str,
    place: PathBuf,
    /// What makes a command that user's.
    as_user: Vec<String>,
}

/// Part c.
pub(crate) fn measure(options: &Options) -> anyhow::Result<()> {
    table::heading(
        'c',
        "start of a sandbox, `true` in it, its end; a root file system of busybox",
    );
    let is_root = rustix::process::getuid().is_root();
    let plain = options.plain_user.as_deref();
    let mut runners = Vec::new();
    if is_root {
        runners.push(("root", Vec::new()));
    }
    match plain.and_then(|user| user.split_once(':')) {
        Some((uid, gid)) if is_root => {
            let words = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups"];
            runners.push(("rootless", words.map(str::to_owned).to_vec()));
        }
        _ if !is_root => runners.push(("rootless", Vec::new())),
        _ => table::line(
            "rootless",
            "left out: no user of this machine has subordinate ids",
        ),
    }
    for (name, as_user) in runners {
        let place = options.directory.join(format!("sandboxes-{name}"));
        fs::create_dir(&place)?;
        if let (Some(user), false) = (plain, as_user.is_empty()) {
            run(Command::new("chown").arg(user).arg(&place))?;
        }
        let runner = Runner {
            options,
            name,
            place,
            as_user,
        };
        runner.measure()?;
    }
    Ok(())
}

impl Runner<'_> {
    fn measure(&self) -> anyhow::Result<()> {
        let root = self.options.directory.join(format!("root-{}", self.name));
        make_root(&root).context("busybox-static is missing; `scripts/setup tests` installs it")?;
        let bwrap = self.programs(&[], &bwrap(&root));
        let beside = bwrap
            .as_ref()
            .ok()
            .map(|times| ("bwrap", times.median()))
            .filter(|(_, median)| median.is_finite());
        for (what, network) in [
            ("packhorse, no network", "none"),
            ("packhorse, as in a build", "listeners"),
        ] {
            let world = self.place.join(network).display().to_string();
            let program = self.options.packhorse.display().to_string();
            let words = ["__jobs", ROUNDS, &world, &program, network].map(str::to_owned);
            let times = elsewhere(&self.options.itself, &self.as_user, &words)?;
            table::times(&format!("{}: {what}", self.name), &times, beside);
        }
        self.tell("bwrap (no overlay, no seccomp, no cgroup)", bwrap, None);
        let bundle = self.bundle(&root)?;
        let state = self.place.join("crun").display().to_string();
        let crun = ["crun", "--root", &state, "run", "--bundle", &bundle, "bench-@"].map(str::to_owned);
        // The mount is private to the measured process.
        let hide = [
            "unshare",
            "-m",
            "sh",
            "-c",
            "umount \"$0\" && exec \"$@\"",
            UNIFIED,
        ]
        .map(str::to_owned);
        let is_hybrid = Path::new(UNIFIED).is_dir() && rustix::process::getuid().is_root();
        let mut wrapper = if is_hybrid { hide.to_vec() } else { Vec::new() };
        // Real-time processes may not join a cgroup of the first version's `cpu`.
        wrapper.extend(["chrt", "-o", "0"].map(str::to_owned));
        self.tell("crun run", self.programs(&wrapper, &crun), beside);
        Ok(())
    }

    fn programs(&self, wrapper: &[String], program: &[String]) -> anyhow::Result<table::Times> {
        let wrapper: Vec<String> = wrapper.iter().chain(&self.as_user).cloned().collect();
        let words = ["__programs", ROUNDS].map(str::to_owned);
        let words: Vec<String> = words.into_iter().chain(program.iter().cloned()).collect();
        elsewhere(&self.options.itself, &wrapper, &words)
    }

    fn tell(&self, what: &str, times: anyhow::Result<table::Times>, beside: Option<(&str, f64)>) {
        let name = format!("{}: {what}", self.name);
        match times {
            Ok(times) => table::times(&name, &times, beside),
            Err(error) => table::line(&name, &format!("does not run here: {error:#}")),
        }
    }

    fn plain(&self) -> Option<(u32, u32)> {
        let (uid, gid) = self.options.plain_user.as_deref()?.split_once(':')?;
        Some((uid.parse().ok()?, gid.parse().ok()?))
    }

    /// crun's own default specification, with another program and root.
    fn bundle(&self, root: &Path) -> anyhow::Result<String> {
        let bundle = self.options.directory.join(format!("bundle-{}", self.name));
        fs::create_dir(&bundle)?;
        let mut command = Command::new("crun");
        command.arg("spec").current_dir(&bundle);
        if self.name == "rootless" {
            command.arg("--rootless");
        }
        run(&mut command)?;
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/true"]);
        config["root"] = json!({ "path": root, "readonly": true });
        if let (Some((uid, gid)), false) = (self.plain(), self.as_user.is_empty()) {
            let map = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
            config["linux"]["uidMappings"] = map(uid);
            config["linux"]["gidMappings"] = map(gid);
        }
        fs::write(&path, config.to_string())?;
        Ok(bundle.display().to_string())
    }
}

fn bwrap(root: &Path) -> Vec<String> {
    let root = root.display().to_string();
    let words = [
        "bwrap",
        "--bind",
        &root,
        "/",
        "--unshare-all",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "/bin/true",
    ];
    words.map(str::to_owned).to_vec()
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
