//! Whole builds by the program: the first with its base, a forced one with everything warm, one with nothing changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::ensure;
use serde_json::Value;

use crate::options::Options;
use crate::registry::Registry;
use crate::table;
use crate::table::Times;
use crate::watched;

const WARM_UPS: usize = 3;
const FORCED_TARGET_MS: f64 = 100.0;
const UNCHANGED_TARGET_MS: f64 = 50.0;

const DESCRIPTOR: &str = "api = \"0.11\"\n[buildpack]\nid = \"bench/two-scripts\"\nversion = \"1.0.0\"\n[[targets]]\nos = \"linux\"\n";
const DETECT: &str = "#!/bin/sh\ntest -f hello.txt || exit 100\n";
const BUILD: &str = "#!/bin/sh\nset -e\nmkdir \"$1/greeting\"\necho hello >\"$1/greeting/text\"\nprintf \
                     '[types]\\nlaunch = true\\n' >\"$1/greeting.toml\"\nprintf '[[processes]]\\ntype = \
                     \"web\"\\ncommand = [\"cat\", \"/layers/bench_two-scripts/greeting/text\"]\\ndefault = true\\n' \
                     >\"$1/launch.toml\"\n";

/// A small app, a buildpack of two scripts, and a data directory.
struct Setup<'a> {
    options: &'a Options,
    home: PathBuf,
    app: PathBuf,
    buildpack: PathBuf,
}

/// Parts f, a and b.
pub(crate) fn measure(options: &Options) -> anyhow::Result<()> {
    let setup = Setup::make(options)?;
    if options.home.is_none() {
        setup.first()?;
    }
    if !options.wants('a') && !options.wants('b') {
        return Ok(());
    }
    let registry = Registry::start()?;
    let tag = format!("{}/bench/app", registry.host());
    if options.wants('a') {
        setup.forced(&registry, &tag)?;
    }
    if options.wants('b') {
        setup.unchanged(&registry, &tag)?;
    }
    Ok(())
}

/// Writes a buildpack of two scripts.
pub(crate) fn write_buildpack(
    folder: &Path,
    descriptor: &str,
    detect: &str,
    build: &str,
) -> anyhow::Result<()> {
    fs::create_dir_all(folder.join("bin"))?;
    fs::write(folder.join("buildpack.toml"), descriptor)?;
    for (name, script) in [("detect", detect), ("build", build)] {
        let path = folder.join("bin").join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The data directory of this run.
pub(crate) fn home(options: &Options) -> PathBuf {
    options
        .home
        .clone()
        .unwrap_or_else(|| options.directory.join("home"))
}

/// The seconds of each phase, from the events of `--progress json`.
pub(crate) fn phases(events: &[u8]) -> BTreeMap<String, f64> {
    let text = String::from_utf8_lossy(events);
    let ended = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["event"] == "phase_ended").then_some(())?;
        Some((event["phase"].as_str()?.to_owned(), event["seconds"].as_f64()?))
    };
    text.lines().filter_map(ended).collect()
}

/// How many requests there were, and of which kinds.
fn tell_requests(requests: Vec<String>) {
    table::line("requests to the registry", &format!("{:9}", requests.len()));
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for request in requests {
        *kinds.entry(request).or_default() += 1;
    }
    for (kind, count) in kinds {
        table::line(&format!("  {kind}"), &format!("{count:9}"));
    }
}

impl<'a> Setup<'a> {
    fn make(options: &'a Options) -> anyhow::Result<Self> {
        let (app, buildpack) = (
            options.directory.join("app"),
            options.directory.join("two-scripts"),
        );
        fs::create_dir_all(&app)?;
        fs::write(app.join("hello.txt"), "hello\n")?;
        write_buildpack(&buildpack, DESCRIPTOR, DETECT, BUILD)?;
        Ok(Self {
            options,
            home: home(options),
            app,
            buildpack,
        })
    }

    fn build(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.options.packhorse);
        command
            .arg("build")
            .arg(&self.app)
            .arg("--buildpack")
            .arg(&self.buildpack)
            .arg("--home")
            .arg(&self.home)
            .args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Part f: the first build of all, nearly all of which is the base.
    fn first(&self) -> anyhow::Result<()> {
        let watched = watched::run(&mut self.build(&["--progress", "json"]))?;
        let output = &watched.output;
        ensure!(
            output.status.success(),
            "the first build failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let detect = phases(&output.stdout).get("detect").copied();
        table::heading(
            'f',
            "the first build of all: packages of the base fetched and assembled",
        );
        let detect = detect.context("the build told no phases")?;
        table::line(
            "first assembly of both flavours (phase detect)",
            &format!("{detect:9.1} s"),
        );
        let (elapsed, peak) = (watched.elapsed.as_secs_f64(), table::megabytes(watched.peak));
        table::line("the whole build", &format!("{elapsed:9.1} s"));
        table::line("peak memory of packhorse (VmHWM)", &format!("{peak:9.1} MB"));
        Ok(())
    }

    /// Part a.
    fn forced(&self, registry: &Registry, tag: &str) -> anyhow::Result<()> {
        table::heading(
            'a',
            "a two-script buildpack, everything warm, --force, to docker-registry on loopback",
        );
        let arguments = ["-t", tag, "--force"];
        let times = self.times(&arguments)?;
        let rounds = self.options.rounds;
        table::times(
            &format!("wall, median of {rounds}"),
            &times,
            Some(("the target of 100 ms", FORCED_TARGET_MS)),
        );
        let mut of_phases: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
        for _ in 0..rounds {
            let output = self
                .build(&["-t", tag, "--force", "--progress", "json"])
                .output()?;
            ensure!(output.status.success(), "a build failed");
            for (phase, seconds) in phases(&output.stdout) {
                of_phases
                    .entry(phase)
                    .or_default()
                    .push(Duration::from_secs_f64(seconds));
            }
        }
        for phase in ["source", "detect", "restore", "build", "export", "publish"] {
            let times = of_phases.remove(phase).unwrap_or_default();
            table::times(&format!("  phase {phase}"), &Times::new(times), None);
        }
        let requests = registry.requests_of(|| self.once(&arguments).map(drop))?;
        tell_requests(requests);
        Ok(())
    }

    /// Part b.
    fn unchanged(&self, registry: &Registry, tag: &str) -> anyhow::Result<()> {
        table::heading('b', "the same build again, nothing changed");
        let arguments = ["-t", tag];
        let times = self.times(&arguments)?;
        table::times(
            &format!("wall, median of {}", self.options.rounds),
            &times,
            Some(("the target of 50 ms", UNCHANGED_TARGET_MS)),
        );
        let requests = registry.requests_of(|| self.once(&arguments).map(drop))?;
        tell_requests(requests);
        Ok(())
    }

    fn times(&self, arguments: &[&str]) -> anyhow::Result<Times> {
        for _ in 0..WARM_UPS {
            self.once(arguments)?;
        }
        let times = (0..self.options.rounds).map(|_| self.once(arguments));
        Ok(Times::new(times.collect::<anyhow::Result<_>>()?))
    }

    fn once(&self, arguments: &[&str]) -> anyhow::Result<Duration> {
        let mut command = self.build(arguments);
        command.arg("-q").stdout(Stdio::null());
        let started = Instant::now();
        let status = command.status()?;
        let elapsed = started.elapsed();
        ensure!(status.success(), "a build failed");
        Ok(elapsed)
    }
}
