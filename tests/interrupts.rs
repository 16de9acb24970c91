//! Ctrl-C in every phase: gone at once, with 130, and nothing left.

use std::time::Duration;
use std::time::Instant;

use crate::support::app::Folder;
use crate::support::git::GitServer;
use crate::support::git::Work;
use crate::support::home::Machine;
use crate::support::home::succeed;
use crate::support::image::Image;
use crate::support::processes::descendants;
use crate::support::proxy::Act;
use crate::support::proxy::Proxy;
use crate::support::registry::DockerRegistry;
use crate::support::registry::Guard;
use crate::support::run::Run;
use crate::support::run::Running;

/// The specification says one second. Here other tests' builds share the processors, and the program is not optimised.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Interrupts and checks how it ends. That no process, job or temporary file is left is checked by the wait.
fn interrupted(mut running: Running) -> Run {
    running.interrupt();
    let start = Instant::now();
    let run = running.wait();
    assert!(start.elapsed() < AT_ONCE, "took {:?}: {run:?}", start.elapsed());
    run.fails(130, "interrupted")
}

/// Whether a process has a handler for SIGINT.
fn catches_interrupts(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << 1) != 0)
}

fn app() -> Folder {
    Folder::new(&[("hello.txt", "hello")])
}

/// A build that has just started.
fn start(machine: &Machine, source: &str, buildpack: &Folder, output: &[&str]) -> Running {
    machine
        .packhorse(&[&["build", source, "--buildpack", &buildpack.text()], output].concat())
        .start()
}

fn layout_in(machine: &Machine) -> String {
    format!("oci:{}", machine.folder().join("image").display())
}

#[test]
fn while_a_large_source_is_hashed() {
    let machine = Machine::bare();
    let (source, buildpack) = (app(), Folder::buildpack("two-scripts"));
    // One hole: it takes no room, and minutes to hash.
    source.shell("truncate -s 500G large");
    let output = ["-o", &layout_in(&machine), "--progress", "json"];
    let mut running = start(&machine, &source.text(), &buildpack, &output);
    running.until_said("\"hash ");
    interrupted(running);
}

#[test]
fn while_a_large_source_is_copied() {
    let machine = Machine::alone();
    let (source, buildpack) = (app(), Folder::buildpack("two-scripts"));
    // Names cost nearly nothing here, but each becomes a file of its own in the workspace.
    for folder in ["a", "b", "c"] {
        source.write(&format!("{folder}/0"), "x");
        let folder = source.path().join(folder);
        (1..60_000).for_each(|number| {
            std::fs::hard_link(folder.join("0"), folder.join(number.to_string())).unwrap();
        });
    }
    let output = ["-o", &layout_in(&machine)];
    let mut running = start(&machine, &source.text(), &buildpack, &output);
    let jobs = machine.store().join("jobs");
    running.until("began to copy", |_| {
        let jobs = std::fs::read_dir(&jobs).into_iter().flatten().flatten();
        let mut copies = jobs.map(|job| job.path().join("workspace"));
        copies.any(|copy| std::fs::read_dir(copy).is_ok_and(|mut names| names.next().is_some()))
    });
    interrupted(running);
}

#[test]
fn a_second_time_while_the_first_is_not_heard() {
    let machine = Machine::bare();
    let work = Work::new();
    work.commit("hello.txt", "1");
    // Whoever opens it waits for a writer.
    let config = work.path().join(".git/config");
    std::fs::remove_file(&config).unwrap();
    succeed(std::process::Command::new("mkfifo").arg(&config));
    let buildpack = Folder::buildpack("two-scripts");
    let source = work.path().display().to_string();
    let mut running = start(&machine, &source, &buildpack, &["-o", &layout_in(&machine)]);
    running.until("took over the signals", |run| catches_interrupts(run.id()));
    std::thread::sleep(Duration::from_millis(500));
    running.interrupt();
    std::thread::sleep(Duration::from_millis(500));
    running.interrupt();
    let start = Instant::now();
    assert_eq!(running.wait().code, Some(130));
    assert!(start.elapsed() < AT_ONCE, "took {:?}", start.elapsed());
}

#[test]
fn during_the_fetch() {
    let machine = Machine::new();
    let work = Work::new();
    work.commit("hello.txt", "1");
    let server = GitServer::start(work.folder.path(), None);
    let slow = Proxy::start(&server.authority(), |_, target| {
        if target.contains("info/refs") {
            Act::Hold
        } else {
            Act::Forward
        }
    });
    let source = format!("http://{}/app/.git", slow.host());
    let buildpack = Folder::buildpack("two-scripts");
    let mut running = start(&machine, &source, &buildpack, &["-o", &layout_in(&machine)]);
    running.until("asked for the repository", |_| !slow.requests().is_empty());
    interrupted(running);
}

#[test]
fn during_the_fetch_of_a_pack() {
    let machine = Machine::new();
    let work = Work::new();
    work.commit("hello.txt", "1");
    let server = GitServer::start(work.folder.path(), None);
    let slow = Proxy::start(&server.authority(), |method, _| {
        if method == "POST" { Act::Hold } else { Act::Forward }
    });
    let source = format!("http://{}/app/.git", slow.host());
    let buildpack = Folder::buildpack("two-scripts");
    let mut running = start(&machine, &source, &buildpack, &["-o", &layout_in(&machine)]);
    running.until("asked for a pack", |_| {
        slow.requests().iter().any(|request| request.starts_with("POST"))
    });
    interrupted(running);
}

#[test]
fn during_detection() {
    let machine = Machine::new();
    let hangs = Folder::scripts(
        "hangs",
        "(trap '' INT TERM; exec sleep 3601) & sleep 3602",
        "exit 0",
    );
    let source = app();
    let mut running = start(&machine, &source.text(), &hangs, &["-o", &layout_in(&machine)]);
    running.until("ran detect", |run| {
        descendants(run.id())
            .iter()
            .filter(|process| process.is_named("sleep"))
            .count()
            == 2
    });
    interrupted(running);
}

#[test]
fn during_the_build() {
    let machine = Machine::new();
    let (source, hangs) = (app(), Folder::buildpack("hangs"));
    let mut running = start(&machine, &source.text(), &hangs, &["-o", &layout_in(&machine)]);
    running.until_said("going to sleep");
    let run = interrupted(running);
    insta::assert_snapshot!(run.message());
    // The next build finds everything as it was.
    let buildpack = Folder::buildpack("two-scripts");
    machine
        .run(&[
            "build",
            &source.text(),
            "--buildpack",
            &buildpack.text(),
            "-o",
            &layout_in(&machine),
        ])
        .ok();
}

#[test]
fn during_the_export() {
    let machine = Machine::alone();
    let writes =
        "mkdir $1/large; truncate -s 3G $1/large/file; printf '[types]\\nlaunch = true\\n' > $1/large.toml";
    let large = Folder::scripts("large", "exit 0", writes);
    let source = app();
    let mut running = start(
        &machine,
        &source.text(),
        &large,
        &["-o", &layout_in(&machine), "--progress", "json"],
    );
    running.until("began to export", |run| {
        run.stdout()
            .lines()
            .any(|line| line.contains("\"export\"") && !line.contains("elapsed"))
    });
    interrupted(running);
    let blobs = succeed(
        std::process::Command::new("find")
            .arg(machine.store().join("blobs"))
            .args(["-name", "*tmp*"]),
    );
    assert_eq!(blobs, "");
    assert!(!Image::try_read(&layout_in(&machine)));
}

#[test]
fn during_the_push() {
    let machine = Machine::new();
    let registry = DockerRegistry::start(Guard::Open);
    let slow = Proxy::start(&registry.host(), |method, target| match method {
        "PATCH" => Act::Hold,
        "PUT" if target.contains("/blobs/") => Act::Hold,
        _ => Act::Forward,
    });
    let tag = format!("{}/interrupted:1", slow.host());
    let (source, buildpack) = (app(), Folder::buildpack("two-scripts"));
    let mut running = start(&machine, &source.text(), &buildpack, &["-t", &tag]);
    running.until("pushed", |_| {
        slow.requests().iter().any(|request| {
            request.starts_with('P') && request.contains("/blobs/uploads/") && !request.starts_with("POST")
        })
    });
    interrupted(running);
}

#[test]
fn while_the_base_is_fetched() {
    let machine = Machine::bare();
    let silent = Proxy::start("127.0.0.1:1", |_, _| Act::Hold);
    let mirror = silent.host();
    let config = machine.write("packhorse.toml", &format!("[base]\nmirror = \"http://{mirror}/debian\"\nsecurity-mirror = \"http://{mirror}/debian-security\"\n"));
    let mut running = machine
        .packhorse(&["base", "create"])
        .env("PACKHORSE_CONFIG", config)
        .start();
    running.until("asked the mirror", |_| !silent.requests().is_empty());
    interrupted(running);
}

#[test]
fn while_an_image_runs() {
    let machine = Machine::new();
    let process = "printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"sh\", \"-c\", \"echo up; sleep 3603\"]\\ndefault = true\\n' > $1/launch.toml";
    let sleeps = Folder::scripts("sleeps", "exit 0", process);
    let source = app();
    machine
        .run(&[
            "build",
            &source.text(),
            "--buildpack",
            &sleeps.text(),
            "-o",
            &layout_in(&machine),
        ])
        .ok();
    let mut running = machine.packhorse(&["run", &layout_in(&machine)]).start();
    running.until_said("up");
    running.interrupt();
    let start = Instant::now();
    running.wait();
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_killed_build_is_cleaned_up_by_the_next() {
    let machine = Machine::alone();
    let (source, hangs, buildpack) = (
        app(),
        Folder::buildpack("hangs"),
        Folder::buildpack("two-scripts"),
    );
    let mut running = start(&machine, &source.text(), &hangs, &["-o", &layout_in(&machine)]);
    running.until_said("going to sleep");
    running.note_processes();
    let processes = running.kill();
    let start_of_wait = Instant::now();
    while processes.iter().any(crate::support::processes::Process::is_alive) {
        assert!(
            start_of_wait.elapsed() < AT_ONCE,
            "the sandbox outlives its worker: {processes:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    machine
        .run(&[
            "build",
            &source.text(),
            "--buildpack",
            &buildpack.text(),
            "-o",
            &layout_in(&machine),
        ])
        .ok();
    let names = std::fs::read_dir(machine.store().join("jobs"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name());
    // What is hidden belongs to all jobs.
    let jobs: Vec<_> = names
        .filter(|name| !name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(jobs.is_empty(), "{jobs:?}");
}
