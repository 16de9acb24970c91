//! Many sandboxes, 16 at once, in one worker: none fails, and nothing of them is left.
//!
//! `PACKHORSE_TEST_SANDBOXES` is how many: 100 without it, 1,000 in the long form.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use packhorse::sandbox;
use packhorse::sandbox::command::Exit;
use packhorse::sandbox::job::Job as _;

use crate::sandbox::World;
use crate::sandbox::a_user_with_ids;
use crate::sandbox::run;
use crate::sandbox::shell;
use crate::support::image::is_root;
use crate::support::left_out::left_out;
use crate::support::remains::adopt_orphans;
use crate::support::remains::control_groups;
use crate::support::remains::mounts_and_loops_of;
use crate::support::remains::own_program;
use crate::support::remains::run_alone;
use crate::support::remains::still_running;
use crate::support::remains::visible;

const SANDBOXES: &str = "PACKHORSE_TEST_SANDBOXES";
const SANDBOXES_OF_A_NORMAL_RUN: u32 = 100;
const AT_ONCE: u32 = 16;
const TEST: &str = "crowd::a_crowd_in_a_process_of_its_own";
/// Kinds of namespaces, as `unshare` and `/proc/sys/user/max_KIND_namespaces` call them, and how many this process has.
const NAMESPACES: [(&str, &str, u32); 7] = [
    ("user", "--user", 0),
    ("mnt", "--mount", 1),
    ("pid", "--pid", 0),
    ("ipc", "--ipc", 0),
    ("uts", "--uts", 0),
    ("net", "--net", 0),
    ("cgroup", "--cgroup", 0),
];
/// A network namespace goes in the kernel's own time.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_crowd_of_sandboxes_leaves_nothing() {
    if !is_root() {
        left_out("not root");
        return;
    }
    run_alone(own_program(), TEST);
}

/// Here the kernel counts the namespaces for one user alone.
#[test]
fn a_crowd_of_a_plain_user_leaves_nothing() {
    let Some(user) = is_root().then(a_user_with_ids).flatten() else {
        left_out("not root, or no user has subordinate ids here");
        return;
    };
    let mut command = Command::new("setpriv");
    command
        .args([
            &format!("--reuid={user}"),
            &format!("--regid={user}"),
            "--init-groups",
        ])
        .args(["unshare", "--user", "--map-root-user", "--map-auto", "--mount"])
        .arg(std::env::current_exe().unwrap());
    run_alone(command, TEST);
}

/// Not a test by itself: what the others run.
#[test]
#[ignore = "run by a_crowd_of_sandboxes_leaves_nothing, in a process of its own"]
fn a_crowd_in_a_process_of_its_own() {
    adopt_orphans();
    let count = std::env::var(SANDBOXES).map_or(SANDBOXES_OF_A_NORMAL_RUN, |text| text.parse().unwrap());
    let world = World::new();
    // What is made once for all is no leak.
    one(&world, count).unwrap();
    let before = seen(&world);
    let next = AtomicU32::new(0);
    let failed = Mutex::new(Vec::new());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    if let Err(why) = one(&world, number) {
                        failed.lock().unwrap().push(format!("{number}: {why}"));
                    }
                }
            });
        }
    });
    let elapsed = begin.elapsed();
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {count}: {failed:#?}", failed.len());
    let alive = still_running();
    assert!(alive.is_empty(), "{alive:?}");
    // A thread that was waited for is in `/proc` for a moment still.
    let mut after = seen(&world);
    for _ in 0..100 {
        if after == before {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        after = seen(&world);
    }
    eprintln!(
        "{count} sandboxes, {AT_ONCE} at once, on {}: {} ms; before and after: {after:?}",
        world.ground().words(),
        elapsed.as_millis()
    );
    assert_eq!(before, after);
    no_namespace_is_left();
}

/// One sandbox with a layer, limits, and a process that is left running.
fn one(world: &World, number: u32) -> Result<(), String> {
    let mut spec = world.spec();
    spec.layers.directory = world.path(&format!("layers-{number}"));
    spec.limits.memory_bytes_max = Some(256 << 20);
    spec.network = packhorse::sandbox::spec::Network::Listeners { ports: vec![8080] };
    let layers = spec.layers.directory.clone();
    let job = sandbox::start(spec).map_err(|error| error.to_string())?;
    job.attach_layers().map_err(|error| error.to_string())?;
    let script = format!("setsid sleep 3606 >/dev/null 2>&1 & echo {number} > /layers/number; echo {number}");
    let ran = run(&job, &shell(&script));
    if ran.exit != Exit::Code(0) || ran.stdout != format!("{number}\n") {
        return Err(format!("{:?} {}{}", ran.exit, ran.stdout, ran.stderr));
    }
    if number.is_multiple_of(2) {
        job.sweep().map_err(|error| error.to_string())?;
    }
    drop(job);
    fs::remove_dir_all(layers).map_err(|error| error.to_string())
}

/// What a worker may leak, counted.
fn seen(world: &World) -> BTreeMap<&'static str, usize> {
    let entries = |path: &str| fs::read_dir(path).unwrap().count();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let groups = control_groups(&format!("packhorse-test-{}-", std::process::id()));
    BTreeMap::from([
        ("descriptors", entries("/proc/self/fd")),
        ("threads", entries("/proc/self/task")),
        ("processes", still_running().len()),
        ("mounts", mounts.lines().count()),
        (
            "mounts and loop devices of the jobs",
            mounts_and_loops_of(&world.path("")).len(),
        ),
        ("control groups", groups.len()),
        ("job directories", visible(&world.path("jobs")).len()),
        ("folders", visible(&world.path("")).len()),
        ("network namespaces", network_namespaces()),
    ])
}

/// How many different ones are held by processes that this one may look at, without those of other tests' children.
fn network_namespaces() -> usize {
    let own: Vec<u64> = crate::support::processes::descendants(std::process::id())
        .iter()
        .filter_map(|process| fs::metadata(format!("/proc/{}/ns/net", process.id())).ok())
        .map(|namespace| namespace.ino())
        .collect();
    own.len()
}

/// In a user namespace of its own the kernel says how many there are: one more than there are is refused.
fn no_namespace_is_left() {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    if map.split_whitespace().nth(2) == Some("4294967295") {
        return;
    }
    for (kind, option, own) in NAMESPACES {
        let limit = Path::new("/proc/sys/user").join(format!("max_{kind}_namespaces"));
        fs::write(&limit, (own + 1).to_string()).unwrap();
        let begin = Instant::now();
        while !can_unshare(option) {
            assert!(begin.elapsed() < PATIENCE, "a namespace is left: {kind}");
            std::thread::sleep(Duration::from_millis(50));
        }
        fs::write(&limit, own.to_string()).unwrap();
        assert!(
            !can_unshare(option),
            "the limit of {kind} namespaces does not hold"
        );
        fs::write(&limit, "10000").unwrap();
    }
}

fn can_unshare(option: &str) -> bool {
    let mut command = Command::new("unshare");
    command.args([option, "true"]).output().unwrap().status.success()
}
