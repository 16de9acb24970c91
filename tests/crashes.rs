//! SIGKILL at random moments of a build: nothing of it runs on, the next build clears all of it away and makes the same image.
//!
//! `PACKHORSE_TEST_KILLS` is how many moments, spread over the whole build: 10 without it, 200 in the long form.
//! `PACKHORSE_TEST_SEED` repeats a run, which says its seed at the start and in every failure.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

use crate::support::app::Folder;
use crate::support::chance::Chance;
use crate::support::home::Machine;
use crate::support::processes::Process;
use crate::support::processes::descendants;
use crate::support::remains::adopt_orphans;
use crate::support::remains::control_groups;
use crate::support::remains::mounts_and_loops_of;
use crate::support::remains::own_program;
use crate::support::remains::run_alone;
use crate::support::remains::still_running;
use crate::support::remains::visible;
use crate::support::remains::walk;
use crate::support::run::Running;

/// How many moments.
const KILLS: &str = "PACKHORSE_TEST_KILLS";
const KILLS_OF_A_NORMAL_RUN: u32 = 10;
/// The argument of monitors, which init inherits.
const MONITOR: &str = "__monitor";

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Worker,
    Monitor,
    Both,
    Init,
    All,
}

const VICTIMS: [Victim; 5] = [
    Victim::Worker,
    Victim::Monitor,
    Victim::Both,
    Victim::Init,
    Victim::All,
];

#[test]
fn whoever_is_killed_when_the_next_build_finds_nothing_of_it() {
    run_alone(own_program(), "crashes::kills_in_a_process_of_their_own");
}

/// Not a test by itself: what the other one runs.
#[test]
#[ignore = "run by whoever_is_killed_when_the_next_build_finds_nothing_of_it, in a process of its own"]
fn kills_in_a_process_of_their_own() {
    adopt_orphans();
    let kills = std::env::var(KILLS).map_or(KILLS_OF_A_NORMAL_RUN, |text| text.parse().unwrap());
    let mut chance = Chance::seeded();
    let site = Site::new();
    let digest = site.build();
    let begin = Instant::now();
    assert_eq!(site.build(), digest, "{chance}");
    let whole = begin.elapsed();
    eprintln!(
        "a build takes {} ms; {kills} moments, {chance}",
        whole.as_millis()
    );
    for number in 0..kills {
        // One moment in each part, so that the whole build is met.
        let thousandths = 1000 * number + chance.below(1000);
        let moment = whole * thousandths / (1000 * kills);
        let victim = VICTIMS[chance.below(5) as usize];
        let context = format!(
            "kill {number}, {victim:?} after {} ms, {chance}",
            moment.as_millis()
        );
        let met = site.kill(victim, moment, &context);
        let alive = still_running();
        assert!(alive.is_empty(), "{context}: {alive:?}");
        site.start_again();
        let left = site.left();
        assert!(left.is_empty(), "{context} ({met}): {left:#?}");
        let begin = Instant::now();
        assert_eq!(site.build(), digest, "{context}");
        let left = [site.left(), temporaries(&site.output())].concat();
        assert!(left.is_empty(), "{context} ({met}): {left:#?}");
        eprintln!(
            "{context}: {met}; built again in {} ms",
            begin.elapsed().as_millis()
        );
    }
    site.machine.run(&["cache", "prune"]).ok();
    let trash = fs::read_dir(site.machine.store().join("trash")).unwrap();
    assert_eq!(trash.count(), 0, "{chance}");
}

/// A machine with an app whose build does everything that a build can do.
struct Site {
    machine: Machine,
    app: Folder,
    buildpack: Folder,
    /// The ids of the jobs that were killed.
    jobs: RefCell<Vec<String>>,
}

impl Site {
    fn new() -> Self {
        let detect = "sleep 3605 >/dev/null 2>&1 & test -f hello.txt; sleep 0.03";
        // Layers of every use, what is kept changes with each build, and of two daemons one does not want to go.
        let build = "cd $1
for use in launch cache; do
  mkdir -p $use; test -s $use/bulk || seq 1 1500000 > $use/bulk
  printf '[types]\\n%s = true\\n' $use > $use.toml
done
mkdir -p both; echo text > both/file; printf '[types]\\nlaunch = true\\ncache = true\\nbuild = true\\n' > both.toml
echo x >> cache/builds; rm -rf cache/old; test ! -e cache/new || mv cache/new cache/old
mkdir cache/new; for one in 1 2 3 4 5 6 7 8 9; do echo $one > cache/new/$one; done
sleep 3605 >/dev/null 2>&1 &
(trap '' HUP TERM INT; exec setsid sleep 3605) >/dev/null 2>&1 &
sleep 0.1";
        Self {
            machine: Machine::alone(),
            app: Folder::new(&[("hello.txt", "hello")]),
            buildpack: Folder::scripts("crash", detect, build),
            jobs: RefCell::default(),
        }
    }

    fn output(&self) -> PathBuf {
        self.machine.folder().join("image")
    }

    /// Builds over what a killed build has left, to the end, and gives the digest.
    fn build(&self) -> String {
        let index = self.output().join("index.json");
        // With the image there, nothing would be built.
        if fs::read_to_string(&index).is_ok_and(|text| text.contains("sha256:")) {
            fs::remove_dir_all(self.output()).unwrap();
        }
        self.start().wait().ok();
        let index = fs::read_to_string(index).unwrap();
        let begin = index.find("sha256:").unwrap();
        index[begin..begin + 71].to_owned()
    }

    /// Whatever is started next clears away, of whatever app that is.
    fn start_again(&self) {
        let other = Folder::new(&[("hello.txt", "another")]);
        let buildpack = Folder::scripts("other", "exit 0", "exit 0");
        self.machine
            .run(&["plan", &other.text(), "--buildpack", &buildpack.text()])
            .ok();
    }

    fn start(&self) -> Running {
        self.machine
            .packhorse(&[
                "build",
                &self.app.text(),
                "--buildpack",
                &self.buildpack.text(),
                "-o",
                &format!("oci:{}", self.output().display()),
                "--progress",
                "json",
            ])
            .start()
    }

    /// Kills, and says what was met.
    fn kill(&self, victim: Victim, moment: Duration, context: &str) -> String {
        // With the image there, nothing would be built.
        drop(fs::remove_dir_all(self.output()));
        let begin = Instant::now();
        let running = self.start();
        std::thread::sleep(moment.saturating_sub(begin.elapsed()));
        let worker = running.id();
        // Stopped, it starts nobody while its processes are looked for.
        signal(worker, Signal::STOP);
        let jobs = visible(&self.machine.store().join("jobs")).into_iter();
        let ids = jobs.filter_map(|path| Some(Path::new(&path).file_name()?.to_str()?.to_owned()));
        self.jobs.borrow_mut().extend(ids);
        let (monitors, inits) = sandbox_of(worker);
        let mut dying: Vec<u32> = Vec::new();
        let worker_dies =
            matches!(victim, Victim::Worker | Victim::Both | Victim::All) || monitors.is_empty();
        if worker_dies {
            dying.push(worker);
        }
        if matches!(victim, Victim::Monitor | Victim::Both | Victim::All) {
            dying.extend(&monitors);
        }
        if matches!(victim, Victim::Init | Victim::All) {
            dying.extend(&inits);
        }
        // None sees the end of another before its own.
        for deadly in [Signal::STOP, Signal::KILL] {
            for process in &dying {
                signal(*process, deadly);
            }
        }
        signal(worker, Signal::CONT);
        let met = format!(
            "in {}, with {} monitors and {} inits",
            phase(&running.stdout()),
            monitors.len(),
            inits.len()
        );
        if worker_dies {
            drop(running.kill());
        } else {
            // It was done with the sandbox or fails, and removes everything itself, which `wait` checks.
            let run = running.wait();
            let is_told = run.stdout.contains("\"code\":\"sandbox_");
            assert!(run.code == Some(0) || is_told, "{context}, {met}: {run:?}");
        }
        met
    }

    /// What is left of all builds.
    fn left(&self) -> Vec<String> {
        let store = self.machine.store();
        let mut left = visible(&store.join("jobs"));
        left.extend(visible(&self.machine.temporary()));
        left.extend(temporaries(store));
        left.extend(mounts_and_loops_of(self.machine.folder()));
        for job in self.jobs.borrow().iter() {
            let groups = control_groups(&format!("packhorse-{job}"));
            left.extend(groups.iter().map(|path| path.display().to_string()));
        }
        left
    }
}

/// What is half made in a folder. What was discarded goes when there is time.
fn temporaries(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(folder, 6, &mut |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_pending = path.parent().is_some_and(|parent| parent.ends_with("pending"));
        let is_temporary = name.starts_with(".tmp-") && !path.starts_with(folder.join("trash"));
        if is_temporary || is_pending || name.ends_with(".partial") {
            found.push(path.display().to_string());
        }
    });
    found
}

/// The monitors of a worker and their first processes.
fn sandbox_of(worker: u32) -> (Vec<u32>, Vec<u32>) {
    let below = |process: u32| -> Vec<u32> {
        let all = descendants(process).into_iter();
        all.filter(|process| process.has_argument(MONITOR))
            .map(|process| Process::id(&process))
            .collect()
    };
    let all = below(worker);
    let inits: Vec<u32> = all.iter().flat_map(|process| below(*process)).collect();
    let monitors = all
        .into_iter()
        .filter(|process| !inits.contains(process))
        .collect();
    (monitors, inits)
}

fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    // It may have ended meanwhile.
    let _ = kill_process(process, signal);
}

/// The phase that began last.
fn phase(said: &str) -> String {
    let started = said.lines().rev().find(|line| line.contains("\"phase_started\""));
    let after = started.and_then(|line| line.split("\"phase\":\"").nth(1));
    let phase = after.and_then(|rest| rest.split('"').next());
    phase.unwrap_or("nothing yet").to_owned()
}
