//! The sandbox from outside: what a job can do, what it cannot, and what is left of it.
//!
//! The job's root file system is a small tree with this machine's `/usr` bound into it, so `sh`, `perl` and the core
//! tools are there. Run as root, or in a user namespace that maps 65536 ids (`again_as_a_plain_user` does that by itself).

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use packhorse::events::Stream;
use packhorse::model::limit_reached::Limit;
use packhorse::model::limit_reached::LimitReached;
use packhorse::model::limits::Limits;
use packhorse::model::owners::Owners;
use packhorse::model::rung::Rung;
use packhorse::model::rung::RungChoice;
use packhorse::sandbox;
use packhorse::sandbox::command::Command;
use packhorse::sandbox::command::Exit;
use packhorse::sandbox::command::RunAs;
use packhorse::sandbox::directory::JobDirectory;
use packhorse::sandbox::identity;
use packhorse::sandbox::identity::Identity;
use packhorse::sandbox::identity::Surroundings;
use packhorse::sandbox::job::EntryKind;
use packhorse::sandbox::job::Job;
use packhorse::sandbox::ladder;
use packhorse::sandbox::ladder::Ground;
use packhorse::sandbox::ladder::Proc;
use packhorse::sandbox::ladder::Trees;
use packhorse::sandbox::native::NativeJob;
use packhorse::sandbox::probe::Found;
use packhorse::sandbox::spec::Bind;
use packhorse::sandbox::spec::BindMode;
use packhorse::sandbox::spec::JobSpec;
use packhorse::sandbox::spec::LayersState;
use packhorse::sandbox::spec::Network;
use packhorse::sandbox::spec::User;

use crate::support::left_out::left_out;

/// The variable that names the rung on which the tests run; without it, on the highest.
const RUNG: &str = "PACKHORSE_TEST_RUNG";
const UID: u32 = 1001;
const GID: u32 = 1002;

/// What jobs of the tests stand on.
pub(crate) fn ground() -> Ground {
    let surroundings = Surroundings::read(None, None);
    assert_eq!(
        surroundings.uid, 0,
        "run these tests as root, or in a namespace that maps 65536 ids"
    );
    let exactly = std::env::var(RUNG).ok().map(|rung| rung.parse().unwrap());
    let choice = RungChoice {
        exactly,
        minimum: None,
    };
    // Tried for real it must not be, beside the threads of other tests.
    ladder::choose(&ladder::climb(&surroundings, &Found::NOTHING_REFUSED), choice).unwrap()
}

/// A data directory with a root file system, a workspace and a place for layers.
pub(crate) struct World {
    place: tempfile::TempDir,
    ground: Ground,
}

impl World {
    pub(crate) fn new() -> Self {
        let ground = ground();
        let world = Self {
            place: tempfile::tempdir().unwrap(),
            ground,
        };
        let root = ground.owners().on_disk(0);
        for layer in ["base", "top"] {
            fs::create_dir_all(world.path(&format!("{layer}/etc"))).unwrap();
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), world.path("base").join(link)).unwrap();
        }
        fs::create_dir(world.path("base/usr")).unwrap();
        fs::write(world.path("base/etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs::write(world.path("base/etc/who"), "base").unwrap();
        fs::write(world.path("top/etc/who"), "top").unwrap();
        fs::create_dir(world.path("workspace")).unwrap();
        fs::create_dir(world.path("layers")).unwrap();
        for tree in ["base", "top"] {
            give(&world.path(tree), root, root);
        }
        give(&world.path("workspace"), world.on_disk(UID), world.on_disk(GID));
        world
    }

    pub(crate) fn ground(&self) -> Ground {
        self.ground
    }

    fn on_disk(&self, id: u32) -> u32 {
        self.ground.owners().on_disk(id)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn spec(&self) -> JobSpec {
        JobSpec {
            directory: JobDirectory::create(&self.path("jobs"), "test").unwrap(),
            program: env!("CARGO_BIN_EXE_packhorse").into(),
            ground: self.ground,
            root_layers: vec![self.path("top"), self.path("base")],
            layers: LayersState {
                lowers: Vec::new(),
                directory: self.path("layers"),
                volatile: true,
            },
            workspace: self.path("workspace"),
            binds: vec![Bind {
                source: "/usr".into(),
                target: "/usr".into(),
                mode: BindMode::ReadOnly,
            }],
            user: User {
                uid: UID,
                gid: GID,
                name: "cnb".to_owned(),
                home: "/home/cnb".into(),
            },
            limits: Limits {
                timeout: Duration::from_secs(60),
                ..Limits::default()
            },
            hostname: "job".to_owned(),
            network: Network::None,
            environment_ca: None,
            grace: Duration::from_millis(300),
        }
    }

    fn start(&self) -> NativeJob {
        sandbox::start(self.spec()).unwrap()
    }
}

fn give(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid, gid);
        }
    }
}

fn program(arguments: &[&str]) -> Command {
    Command {
        name: arguments[0].to_owned(),
        arguments: arguments.iter().map(OsString::from).collect(),
        environment: vec![("PATH".into(), "/usr/bin:/usr/sbin".into())],
        working_directory: "/".into(),
        run_as: RunAs::User,
        timeout: None,
    }
}

pub(crate) fn shell(script: &str) -> Command {
    program(&["/bin/sh", "-c", script])
}

pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn run(job: &NativeJob, command: &Command) -> Ran {
    let seen = Mutex::new((Vec::new(), Vec::new()));
    let exit = job
        .run(command, &|stream, bytes| {
            let mut seen = seen.lock().unwrap();
            match stream {
                Stream::Stdout => seen.0.extend_from_slice(bytes),
                Stream::Stderr => seen.1.extend_from_slice(bytes),
            }
        })
        .unwrap();
    let (stdout, stderr) = seen.into_inner().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran {
        exit,
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

fn succeed(job: &NativeJob, script: &str) -> String {
    let ran = run(job, &shell(script));
    assert_eq!(ran.exit, Exit::Code(0), "{script}\n{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// The limit that ended a command.
fn limit_of(exit: &Exit) -> Option<Limit> {
    match exit {
        Exit::OverLimit(reached) => Some(reached.limit),
        _ => None,
    }
}

/// Seconds to sleep that nobody else sleeps: the `again_` tests run the same at the same time.
fn mark(number: u32) -> String {
    format!("{number}{:07}", std::process::id())
}

/// Processes of the machine whose command line has `mark`.
fn processes_with(mark: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(mark) && !line.contains("processes_with"))
        .collect()
}

#[test]
fn output_and_exit_code_come_back() {
    let world = World::new();
    let job = world.start();
    let ran = run(&job, &shell("echo out; echo err >&2; exit 7"));
    assert_eq!(
        (ran.exit, ran.stdout.as_str(), ran.stderr.as_str()),
        (Exit::Code(7), "out\n", "err\n")
    );
    assert_eq!(run(&job, &shell("kill -SEGV $$")).exit, Exit::Signal(11));
    let Exit::NotStarted { why } = run(&job, &program(&["/no/such/program"])).exit else {
        panic!()
    };
    assert!(
        why.contains("/no/such/program") && why.contains("No such file"),
        "{why}"
    );
    let text = "y".repeat(3_000_000);
    let ran = run(&job, &shell("head -c 3000000 /dev/zero | tr '\\0' y"));
    assert!(ran.stdout == text, "{} bytes", ran.stdout.len());
}

#[test]
fn the_environment_is_what_was_given() {
    let world = World::new();
    let mut command = program(&["/usr/bin/env"]);
    command.environment = vec![("A".into(), "1 2".into()), ("B".into(), "ü".into())];
    assert_eq!(run(&world.start(), &command).stdout, "A=1 2\nB=ü\n");
}

#[test]
fn a_certificate_bundle_is_bound_and_named() {
    let world = World::new();
    let bundle = world.path("bundle.pem");
    fs::write(&bundle, "operator's bundle").unwrap();
    let job = sandbox::start(JobSpec {
        environment_ca: Some(bundle),
        ..world.spec()
    })
    .unwrap();
    assert_eq!(
        succeed(&job, "cat $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS"),
        "operator's bundle".repeat(2)
    );
    let mut command = program(&["/usr/bin/env"]);
    command.environment = vec![("SSL_CERT_FILE".into(), "/own".into())];
    let environment = run(&job, &command).stdout;
    assert!(environment.contains("SSL_CERT_FILE=/own\n"), "{environment}");
    assert!(
        environment.contains("CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt\n"),
        "{environment}"
    );
}

#[test]
fn the_user_has_its_ids_a_name_a_home_and_no_privilege() {
    let world = World::new();
    let job = world.start();
    assert_eq!(
        succeed(&job, "id"),
        format!("uid={UID}(cnb) gid={GID}(cnb) groups={GID}(cnb)\n")
    );
    assert_eq!(
        succeed(&job, "cd ~cnb && pwd && touch a && stat -c %U:%G:%a ."),
        "/home/cnb\ncnb:cnb:755\n"
    );
    assert_eq!(
        succeed(&job, "hostname; cat /etc/hostname; cat /etc/who"),
        "job\njob\ntop"
    );
    let status = succeed(&job, "cat /proc/self/status");
    for line in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{line}:\t0000000000000000")), "{status}");
    }
    assert!(
        status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"),
        "{status}"
    );
    assert_eq!(succeed(&job, "ls /proc/self/fd | wc -l"), "4\n");
}

#[test]
fn nothing_of_the_machine_is_in_sight() {
    let world = World::new();
    let job = world.start();
    let names = succeed(&job, "ls /");
    assert_eq!(
        names.split_whitespace().collect::<Vec<_>>().join(" "),
        "bin dev etc home layers lib lib64 proc sbin sys tmp usr workspace"
    );
    assert_eq!(
        succeed(&job, "ls /etc /sys /layers /workspace | tr '\\n' ' '").replace("group-", ""),
        {
            "/etc:\ngroup\nhostname\nhosts\npasswd\nresolv.conf\nwho\n\n/layers:\n\n/sys:\n\n/workspace:\n"
                .replace('\n', " ")
        }
    );
    assert_eq!(
        succeed(&job, "ls /dev | tr '\\n' ' '"),
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    for script in [
        "echo x > /usr/x",
        "echo x > /dev/x",
        "echo x > /etc/who",
        "echo 1 > /proc/sys/kernel/panic",
    ] {
        assert_ne!(run(&job, &shell(script)).exit, Exit::Code(0), "{script}");
    }
    let root = world.place.path().to_str().unwrap().to_owned();
    assert_ne!(run(&job, &shell(&format!("ls {root}"))).exit, Exit::Code(0));
    assert_eq!(
        succeed(&job, "cat /proc/kcore /proc/kallsyms /proc/keys | wc -c"),
        "0\n"
    );
}

#[test]
fn only_own_processes_are_in_proc() {
    let world = World::new();
    let job = world.start();
    let numbers = succeed(&job, "cd /proc; for p in [0-9]*; do echo $p; done");
    match world.ground.proc {
        // The shell alone; not even PID 1, which is another user's.
        Proc::Own => assert_eq!(numbers.lines().count(), 1, "{numbers}"),
        // Others are listed, and that is all.
        Proc::Outer => {
            let test = std::process::id();
            assert!(
                numbers.lines().any(|number| number == test.to_string()),
                "{numbers}"
            );
            let script = format!(
                "cat /proc/{test}/environ /proc/{test}/maps; ls /proc/{test}/fd/ /proc/{test}/root/ /proc/{test}/cwd/"
            );
            let ran = run(
                &job,
                &shell(&format!("({script}) 2>/dev/null | wc -c; kill -0 {test}")),
            );
            assert_eq!((ran.stdout.as_str(), ran.exit), ("0\n", Exit::Code(1)));
        }
    }
    assert_ne!(run(&job, &shell("kill -9 1")).exit, Exit::Code(0));
    assert_eq!(succeed(&job, "echo still here"), "still here\n");
}

#[test]
fn the_kernels_wide_doors_are_shut() {
    let world = World::new();
    let job = world.start();
    // Number, arguments, what perl must find in `$!`: 1 is EPERM, 38 is ENOSYS.
    let calls: &[(i64, &str, i32)] = &[
        (libc_number("mount"), "0, 0, 0, 0, 0", 1),
        (libc_number("unshare"), "0x10000000", 1),
        (libc_number("setns"), "0, 0", 1),
        (libc_number("bpf"), "0, 0, 0", 1),
        (libc_number("keyctl"), "0, 0, 0", 1),
        (libc_number("io_uring_setup"), "1, 0", 1),
        (libc_number("userfaultfd"), "0", 1),
        (libc_number("perf_event_open"), "0, 0, 0, 0, 0", 1),
        (libc_number("clone3"), "0, 0", 38),
        (libc_number("clone"), "0x10000011, 0, 0, 0, 0", 1),
        (999, "0", 38),
    ];
    for (number, arguments, error) in calls {
        let script = format!("$! = 0; syscall({number}, {arguments}); exit($!+0)");
        let ran = run(&job, &program(&["/usr/bin/perl", "-e", &script]));
        assert_eq!(ran.exit, Exit::Code(*error), "{script}");
    }
    // Families: unix, inet, inet6, netlink; then alg, vsock, packet.
    let socket = "for my $f (1,2,10,16,38,40,17) { print socket(my $s, $f, $f==16?3:1, 0) ? 0 : $!+0, ' ' }";
    let answer = run(&job, &program(&["/usr/bin/perl", "-e", socket])).stdout;
    assert_eq!(answer, "0 0 0 0 1 1 1 ");
}

#[cfg(target_arch = "x86_64")]
fn libc_number(name: &str) -> i64 {
    let numbers = [
        ("mount", 165),
        ("unshare", 272),
        ("setns", 308),
        ("bpf", 321),
        ("keyctl", 250),
        ("io_uring_setup", 425),
        ("userfaultfd", 323),
        ("perf_event_open", 298),
        ("clone3", 435),
        ("clone", 56),
    ];
    numbers.iter().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn the_wall_clock_ends_even_who_ignores_it() {
    let world = World::new();
    let job = world.start();
    let mut command = shell("trap '' TERM; while true; do sleep 1; done");
    command.timeout = Some(Duration::from_millis(200));
    let begin = Instant::now();
    assert_eq!(
        limit_of(&run(&job, &command).exit),
        Some(Limit::WallClock(Duration::from_millis(200)))
    );
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(succeed(&job, "echo next"), "next\n");
    let mut spec = world.spec();
    spec.limits.timeout = Duration::from_millis(300);
    let job = sandbox::start(spec).unwrap();
    assert_eq!(
        limit_of(&run(&job, &shell("sleep 100")).exit),
        Some(Limit::WallClock(Duration::from_millis(300)))
    );
}

#[test]
fn a_flood_of_output_ends_the_command() {
    let world = World::new();
    let mut spec = world.spec();
    spec.limits.output_bytes_max = 1000;
    let job = sandbox::start(spec).unwrap();
    for script in [
        "cat /dev/zero",
        "trap '' TERM; while :; do echo more; done",
        "head -c 1001 /dev/zero",
    ] {
        let ran = run(&job, &shell(script));
        let expected = Exit::OverLimit(LimitReached::of(Limit::Output(1000)));
        assert_eq!(
            (ran.exit, ran.stdout.len(), ran.stderr.as_str()),
            (expected, 1000, ""),
            "{script}"
        );
    }
    assert_eq!(
        run(&job, &shell("head -c 1000 /dev/zero; exit 3")).exit,
        Exit::Code(3)
    );
}

#[test]
fn a_fork_bomb_is_contained() {
    let world = World::new();
    let mut spec = world.spec();
    spec.limits.processes_max = 60;
    let job = sandbox::start(spec).unwrap();
    let mut command = shell("b() { b | b & }; b; sleep 2; exit 0");
    command.timeout = Some(Duration::from_secs(10));
    let ran = run(&job, &command);
    assert!(ran.stderr.contains("fork"), "{:?} {}", ran.exit, ran.stderr);
    job.sweep().unwrap();
    assert_eq!(succeed(&job, "echo alive"), "alive\n");
}

#[test]
fn running_out_of_memory_is_named() {
    let world = World::new();
    let mut spec = world.spec();
    spec.limits.memory_bytes_max = Some(64 << 20);
    let job = sandbox::start(spec).unwrap();
    let hog = "my @a; push @a, 'x' x 1000000 while @a < 300; sleep 3";
    let ran = run(&job, &program(&["/usr/bin/perl", "-e", hog]));
    assert_eq!(
        limit_of(&ran.exit),
        Some(Limit::Memory(64 << 20)),
        "{:?} {}",
        job.notes(),
        job.rung()
    );
}

#[test]
fn running_out_of_memory_is_not_its_neighbours_fault() {
    let world = World::new();
    let mut spec = world.spec();
    spec.limits.memory_bytes_max = Some(64 << 20);
    let job = sandbox::start(spec).unwrap();
    if !job.rung().contains("memory by cgroup") {
        left_out("without a cgroup the whole job ends, and with it the neighbour");
        return;
    }
    if job.rung().contains("memory by cgroup v2") {
        left_out("the kernel ends all of a v2 cgroup at once, and with it the neighbour");
        return;
    }
    let hog = "my @a; push @a, 'x' x 1000000 while @a < 300; sleep 3";
    std::thread::scope(|scope| {
        let waits = "until test -e /tmp/over; do sleep 0.1; done; exit 3";
        let neighbour = scope.spawn(|| run(&job, &shell(waits)).exit);
        let ran = run(&job, &program(&["/usr/bin/perl", "-e", hog])).exit;
        assert!(matches!(limit_of(&ran), Some(Limit::Memory(_))), "{ran:?}");
        succeed(&job, "touch /tmp/over");
        assert_eq!(neighbour.join().unwrap(), Exit::Code(3));
    });
}

#[test]
fn what_a_step_leaves_is_swept() {
    let world = World::new();
    let mark = mark(98);
    let job = world.start();
    let begin = Instant::now();
    succeed(
        &job,
        &format!("setsid sleep {mark} & (setsid sh -c 'kill -STOP $$; sleep {mark}' &) ; sleep 0.1"),
    );
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(!processes_with(&mark).is_empty());
    job.sweep().unwrap();
    assert_eq!(processes_with(&mark), Vec::<String>::new());
    assert_eq!(succeed(&job, "echo next"), "next\n");
}

#[test]
fn commands_run_beside_each_other() {
    let world = World::new();
    let job = world.start();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..20 {
            let job = &job;
            scope.spawn(move || {
                assert_eq!(
                    succeed(job, &format!("sleep 0.5; echo {number}")),
                    format!("{number}\n")
                );
            });
        }
    });
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_kill_from_another_thread_cancels() {
    let world = World::new();
    let mark = mark(87);
    let job = world.start();
    let handle = job.kill_handle();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            handle.kill();
        });
        let begin = Instant::now();
        assert_eq!(run(&job, &shell(&format!("sleep {mark}"))).exit, Exit::Cancelled);
        assert!(begin.elapsed() < Duration::from_secs(2));
    });
    assert_eq!(run(&job, &shell("true")).exit, Exit::Cancelled);
    drop(job);
    assert_eq!(processes_with(&mark), Vec::<String>::new());
}

#[test]
fn layers_are_written_to_the_upper_with_natural_owners() {
    let world = World::new();
    let (uid, gid) = (world.on_disk(UID), world.on_disk(GID));
    let lower = world.path("state");
    fs::create_dir_all(lower.join("pack/gone")).unwrap();
    fs::write(lower.join("pack/kept"), "old").unwrap();
    give(&lower, uid, gid);
    // The first build's one lower is an empty folder, which is not the job's.
    let empty = world.path("empty");
    fs::create_dir(&empty).unwrap();
    let mut spec = world.spec();
    spec.layers.lowers = vec![empty, lower.clone()];
    let job = sandbox::start(spec).unwrap();
    assert_eq!(succeed(&job, "ls /layers"), "");
    job.attach_layers().unwrap();
    assert!(job.attach_layers().is_err());
    assert_eq!(succeed(&job, "cat /layers/pack/kept"), "old");
    succeed(
        &job,
        "cd /layers/pack && rmdir gone && echo new > new && echo changed > kept && mkdir -p /layers/other/x",
    );
    let directory = job.open_directory(Path::new("/layers")).unwrap();
    let seen = rustix::fs::statat(&directory, "pack/new", rustix::fs::AtFlags::empty()).unwrap();
    assert_eq!(seen.st_size, 4);
    drop(directory);
    drop(job);
    let upper = world.path("layers/upper");
    let gone = fs::symlink_metadata(upper.join("pack/gone"));
    let is_whiteout = gone.map(|found| found.mode() & 0o170_000 == 0o020_000 && found.rdev() == 0);
    assert_eq!(
        is_whiteout.ok(),
        (world.ground.trees == Trees::Overlay).then_some(true)
    );
    let new = fs::metadata(upper.join("pack/new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (uid, gid));
    assert_eq!(fs::read_to_string(upper.join("pack/kept")).unwrap(), "changed\n");
    assert_eq!(fs::read_to_string(lower.join("pack/kept")).unwrap(), "old");
    // The upper serves as the newest lower of the next build.
    fs::rename(&upper, world.path("newer")).unwrap();
    fs::create_dir(world.path("layers-2")).unwrap();
    let mut spec = world.spec();
    spec.layers.lowers = match world.ground.trees {
        Trees::Overlay => vec![world.path("newer"), lower],
        Trees::Copies => vec![world.path("newer")],
    };
    spec.layers.directory = world.path("layers-2");
    let job = sandbox::start(spec).unwrap();
    job.attach_layers().unwrap();
    assert_eq!(
        succeed(&job, "ls /layers/pack; cat /layers/pack/kept"),
        "kept\nnew\nchanged\n"
    );
}

#[test]
fn what_the_image_has_cannot_be_changed() {
    let world = World::new();
    let job = world.start();
    for script in [
        "echo x > /etc/passwd",
        "echo x >> /etc/who",
        "rm /etc/who",
        "mkdir /made",
        "chmod 4755 /proc/self/exe",
        "chown 0 /workspace",
    ] {
        let ran = run(&job, &shell(script));
        assert_ne!(ran.exit, Exit::Code(0), "{script}: {}", ran.stdout);
    }
}

#[test]
fn without_a_state_layers_are_a_plain_folder() {
    let world = World::new();
    let job = world.start();
    job.attach_layers().unwrap();
    succeed(
        &job,
        "mkdir -p /layers/a /layers/e && mv /layers/a /layers/b && mkdir /layers/e/f && \
         perl -e 'rename(\"/layers/e/f\", \"/layers/b/f\") or die \"$!\"' && \
         echo x > /layers/b/c && echo y > /workspace/d",
    );
    drop(job);
    let (uid, gid) = (world.on_disk(UID), world.on_disk(GID));
    assert_eq!(fs::metadata(world.path("layers/upper/b/c")).unwrap().uid(), uid);
    assert_eq!(fs::metadata(world.path("workspace/d")).unwrap().gid(), gid);
}

#[test]
fn file_calls_act_inside_as_the_user() {
    let world = World::new();
    fs::write(world.path("secret"), "secret").unwrap();
    let job = world.start();
    let path = Path::new;
    assert_eq!(job.read_file(path("/etc/who"), 100).unwrap().unwrap(), b"top");
    assert_eq!(job.read_file(path("/no/such"), 100).unwrap(), None);
    assert!(
        job.read_file(path("/etc/who"), 2)
            .unwrap_err()
            .to_string()
            .contains("longer than 2 bytes")
    );
    assert!(
        job.read_file(path("/dev/zero"), 2)
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
    assert!(job.write_file(path("/etc/who"), b"x", 0o644).is_err());
    succeed(&job, "mkfifo /workspace/fifo");
    assert!(job.read_file(path("/workspace/fifo"), 2).is_err());
    let big = vec![7; 5 << 20];
    job.make_directory(path("/workspace/a/b")).unwrap();
    job.make_directory(path("/workspace/a/b")).unwrap();
    job.write_file(path("/workspace/a/b/big"), &big, 0o755).unwrap();
    assert_eq!(
        job.read_file(path("/workspace/a/b/big"), 10 << 20)
            .unwrap()
            .unwrap(),
        big
    );
    assert_eq!(
        succeed(&job, "stat -c %a:%U /workspace/a/b /workspace/a/b/big"),
        "755:cnb\n755:cnb\n"
    );
    job.rename(path("/workspace/a/b"), path("/workspace/a/c"))
        .unwrap();
    assert!(
        job.rename(path("/workspace/a/b"), path("/workspace/a/c"))
            .is_err()
    );
    succeed(&job, "ln -s /etc /workspace/a/link; chmod 0 /workspace/a/c");
    let listed = job.list(path("/workspace/a"), 10).unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|entry| (entry.name.to_str().unwrap(), entry.kind))
        .collect();
    assert_eq!(
        listed,
        [("c", EntryKind::Directory), ("link", EntryKind::Symlink)]
    );
    assert!(job.list(path("/workspace/a"), 1).is_err());
    assert!(job.list(path("/no/such"), 1).unwrap().is_empty());
    job.remove(path("/workspace/a")).unwrap();
    job.remove(path("/workspace/a")).unwrap();
    assert_eq!(succeed(&job, "ls /workspace; cat /etc/who"), "fifo\ntop");
}

#[test]
fn links_lead_nowhere_outside() {
    let world = World::new();
    let secret = world.path("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let job = world.start();
    let target = secret.to_str().unwrap();
    let up = "../".repeat(20);
    succeed(
        &job,
        &format!(
            "cd /workspace; ln -s {target} one; ln -s {up}{target} two; ln -s /proc/1/root{target} three; ln -s {up} four"
        ),
    );
    for name in ["one", "two", "three"] {
        let read = job.read_file(&Path::new("/workspace").join(name), 100);
        assert!(!matches!(read, Ok(Some(_))), "{name}: {read:?}");
    }
    assert!(
        job.list(Path::new("/workspace/four"), 100)
            .unwrap()
            .iter()
            .any(|entry| entry.name == "workspace")
    );
    job.write_file(Path::new("/workspace/one"), b"replaced", 0o600)
        .unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(
        job.read_file(Path::new("/workspace/one"), 100).unwrap().unwrap(),
        b"replaced"
    );
}

#[test]
fn an_image_with_hostile_links_at_mount_points_stays_inside() {
    let world = World::new();
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    let top = world.path("top");
    std::os::unix::fs::symlink("../run/dangling/resolv.conf", top.join("etc/resolv.conf")).unwrap();
    std::os::unix::fs::symlink(&outside, top.join("workspace")).unwrap();
    std::os::unix::fs::symlink("../../../../../../tmp", top.join("home")).unwrap();
    give(&top, world.on_disk(0), world.on_disk(0));
    let job = world.start();
    succeed(
        &job,
        "cat /run/dangling/resolv.conf && touch /workspace/x && test -d /tmp/cnb",
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(world.path("workspace/x").exists());
}

#[test]
fn ports_inside_are_reached_and_localhost_works() {
    use std::io::Read;
    let world = World::new();
    let job = world.start();
    let server = "use Socket; socket(S,2,1,0); setsockopt(S,1,2,1); bind(S,sockaddr_in(8080,INADDR_ANY)) or die; \
                  listen(S,5); while(accept(C,S)){ syswrite C, 'hello'; close C }";
    std::thread::scope(|scope| {
        scope.spawn(|| run(&job, &program(&["/usr/bin/perl", "-e", server])));
        let until = Instant::now() + Duration::from_secs(5);
        let socket = loop {
            match job.connect_inside(8080) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut text = String::new();
        std::net::TcpStream::from(socket)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "hello");
        let client = "use Socket; socket(S,2,1,0); connect(S,sockaddr_in(8080,inet_aton('127.0.0.1'))) or die $!; print <S>";
        assert_eq!(
            run(&job, &program(&["/usr/bin/perl", "-e", client])).stdout,
            "hello"
        );
        job.sweep().unwrap();
    });
    assert!(job.connect_inside(8080).is_err());
}

#[test]
fn a_server_that_accepts_nobody_holds_nobody_else_up() {
    let world = World::new();
    let job = world.start();
    let server = "use Socket; socket(S,2,1,0); setsockopt(S,1,2,1); bind(S,sockaddr_in(8080,INADDR_ANY)) or die; \
                  listen(S,0); sleep 3600";
    std::thread::scope(|scope| {
        scope.spawn(|| run(&job, &program(&["/usr/bin/perl", "-e", server])));
        let filling = scope.spawn(|| {
            let (mut queue, until) = (Vec::new(), Instant::now() + Duration::from_secs(60));
            loop {
                match job.connect_inside(8080) {
                    Ok(socket) => queue.push(socket),
                    Err(error) if !queue.is_empty() => return error.to_string(),
                    Err(error) => assert!(Instant::now() < until, "{error}"),
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        while !filling.is_finished() {
            let start = Instant::now();
            assert_eq!(succeed(&job, "printf here"), "here");
            assert!(start.elapsed() < Duration::from_secs(30));
        }
        let error = filling.join().unwrap();
        assert!(error.ends_with("no answer within 5 seconds"), "{error}");
        job.sweep().unwrap();
    });
}

#[test]
fn connections_to_every_address_are_taken_by_the_listeners() {
    use std::io::Write;
    let world = World::new();
    let network = Network::Listeners { ports: vec![8443] };
    let job = sandbox::start(JobSpec {
        network,
        ..world.spec()
    })
    .unwrap();
    let sockets = job.take_sockets().unwrap();
    assert!(job.take_sockets().is_none());
    let accept = std::thread::spawn(move || {
        let listeners: Vec<std::net::TcpListener> = sockets.tcp.into_iter().map(Into::into).collect();
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            for listener in &listeners {
                if let Ok((mut taken, _)) = listener.accept() {
                    taken.write_all(b"taken").unwrap();
                    return taken.local_addr().unwrap().to_string();
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        String::new()
    });
    let client = "use Socket; socket(S,2,1,0); connect(S,sockaddr_in(8443,inet_aton('203.0.113.7'))) or die $!; print <S>";
    assert_eq!(
        run(&job, &program(&["/usr/bin/perl", "-e", client])).stdout,
        "taken"
    );
    assert_eq!(accept.join().unwrap(), "203.0.113.7:8443");
    let refused = client.replace("8443", "4000");
    assert!(
        run(&job, &program(&["/usr/bin/perl", "-e", &refused]))
            .stderr
            .contains("refused")
    );
    assert_eq!(
        succeed(&job, "cat /etc/resolv.conf | head -1"),
        "nameserver 198.18.0.1\n"
    );
    drop(job);
    let job = world.start();
    assert!(
        run(&job, &program(&["/usr/bin/perl", "-e", client]))
            .stderr
            .contains("unreachable")
    );
}

#[test]
fn nothing_is_left_of_a_dropped_job() {
    let world = World::new();
    let mark = mark(76);
    let mut spec = world.spec();
    spec.limits.memory_bytes_max = Some(256 << 20);
    let job = sandbox::start(spec).unwrap();
    let (directory, id) = (
        job.directory().to_owned(),
        job.directory().file_name().unwrap().to_owned(),
    );
    succeed(
        &job,
        &format!("mkdir /tmp/x && chmod 0 /tmp/x; setsid sleep {mark} & sleep 0.05"),
    );
    drop(job);
    assert!(!directory.exists());
    assert_eq!(processes_with(&mark), Vec::<String>::new());
    assert_eq!(cgroups_of(id.to_str().unwrap()), Vec::<PathBuf>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(world.place.path().to_str().unwrap()));
}

fn cgroups_of(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((folder, depth)) = waiting.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(id) {
                    found.push(entry.path());
                }
                if depth < 4 {
                    waiting.push((entry.path(), depth + 1));
                }
            }
        }
    }
    found
}

/// Not a test by itself: the worker that `a_killed_worker_leaves_nothing` kills.
#[test]
#[ignore = "run by a_killed_worker_leaves_nothing"]
fn a_worker_to_be_killed() {
    let world = World::new();
    let mut spec = world.spec();
    spec.limits.memory_bytes_max = Some(256 << 20);
    let job = sandbox::start(spec).unwrap();
    fs::write(
        worker_report(std::process::id()),
        job.directory().to_str().unwrap(),
    )
    .unwrap();
    run(&job, &shell("setsid sleep 65432 & sleep 65432"));
}

fn worker_report(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("packhorse-test-worker-{process}"))
}

#[test]
fn a_killed_worker_leaves_nothing() {
    let arguments = ["--exact", "sandbox::a_worker_to_be_killed", "--ignored"];
    let mut worker = start_quietly(Path::new("/proc/self/exe"), &arguments);
    let report = worker_report(worker.id());
    let until = Instant::now() + Duration::from_secs(20);
    while processes_with("sleep 65432").len() < 2 {
        assert!(Instant::now() < until, "the worker did not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    let directory = PathBuf::from(fs::read_to_string(&report).unwrap());
    fs::remove_file(&report).unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();
    while !processes_with("sleep 65432").is_empty() {
        assert!(
            Instant::now() < until,
            "processes are left: {:?}",
            processes_with("sleep 65432")
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let (jobs, id) = (
        directory.parent().unwrap(),
        directory.file_name().unwrap().to_str().unwrap(),
    );
    while sandbox::directory::janitor(jobs).unwrap().removed.is_empty() {
        assert!(Instant::now() < until, "the lock is still held");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!directory.exists());
    assert_eq!(cgroups_of(id), Vec::<PathBuf>::new());
    fs::remove_dir_all(jobs.parent().unwrap()).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test runs itself again")]
fn own_program(program: &Path) -> std::process::Command {
    std::process::Command::new(program)
}

fn start_quietly(program: &Path, arguments: &[&str]) -> std::process::Child {
    let quiet = std::process::Stdio::null;
    let mut command = own_program(program);
    command
        .args(arguments)
        .stdout(quiet())
        .stderr(quiet())
        .spawn()
        .unwrap()
}

#[test]
fn many_jobs_at_once_do_not_disturb_each_other() {
    let world = World::new();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let world = &world;
            scope.spawn(move || {
                for number in 0..5 {
                    let mut spec = world.spec();
                    spec.layers.directory = world.path(&format!("layers-{worker}-{number}"));
                    let job = sandbox::start(spec).unwrap();
                    assert_eq!(
                        succeed(&job, &format!("echo {worker}.{number}")),
                        format!("{worker}.{number}\n")
                    );
                }
            });
        }
    });
    let left: Vec<_> = fs::read_dir(world.path("jobs"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        left.iter().all(|name| name.to_str().unwrap().starts_with('.')),
        "{left:?}"
    );
}

#[test]
fn a_server_may_listen_on_a_low_port_and_ipv6_is_taken_too() {
    let world = World::new();
    let job = world.start();
    let server = "use Socket; socket(S,2,1,0); bind(S,sockaddr_in(80,INADDR_ANY)) or die; listen(S,5) or die";
    assert_eq!(
        run(&job, &program(&["/usr/bin/perl", "-e", server])).exit,
        Exit::Code(0)
    );
    drop(job);
    let network = Network::Listeners { ports: Vec::new() };
    let job = sandbox::start(JobSpec {
        network,
        ..world.spec()
    })
    .unwrap();
    let client = "use Socket qw(:all); socket(S,10,1,0) or die; connect(S,pack_sockaddr_in6(443,inet_pton(10,'2001:db8::7'))) or die $!";
    let ran = run(&job, &program(&["/usr/bin/perl", "-e", client]));
    assert!(
        ran.exit == Exit::Code(0) || !job.notes().is_empty(),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_job_starts_and_ends_in_milliseconds() {
    let world = World::new();
    let fastest = (0..10).map(|number| {
        let mut spec = world.spec();
        spec.layers.directory = world.path(&format!("layers-{number}"));
        let begin = Instant::now();
        let job = sandbox::start(spec).unwrap();
        assert_eq!(run(&job, &program(&["/usr/bin/true"])).exit, Exit::Code(0));
        drop(job);
        begin.elapsed()
    });
    // Ten milliseconds on a quiet machine. The fastest and a wide limit, because the other tests run beside it.
    let fastest = fastest.min().unwrap();
    assert!(fastest < Duration::from_millis(500), "{fastest:?}");
}

#[test]
fn a_root_step_may_change_the_images_files_and_nothing_else() {
    let world = World::new();
    let job = world.start();
    let as_root = |script: &str| Command {
        run_as: RunAs::Root,
        ..shell(script)
    };
    let changed = run(
        &job,
        &as_root(
            "id -u && echo new > /etc/who && mkdir /made && chown 5:6 /made && chmod 4755 /etc/who && stat -c %u:%g /made",
        ),
    );
    if world.ground.owners() == Owners::Single || world.ground.identity == Identity::RootAlone {
        assert!(
            matches!(&changed.exit, Exit::NotStarted { why } if why.contains("no range of ids")),
            "{:?}",
            changed.exit
        );
        return;
    }
    assert_eq!(
        (changed.exit, changed.stdout.as_str()),
        (Exit::Code(0), "0\n5:6\n"),
        "{}",
        changed.stderr
    );
    assert_eq!(succeed(&job, "cat /etc/who; id -u"), format!("new\n{UID}\n"));
    for script in [
        "mount -t tmpfs x /mnt",
        "mknod /made/null c 1 3",
        "chroot / true",
        "ip link set lo down",
        "kill -9 1; kill -STOP 1; sleep 0.1; false",
        "cat /proc/1/environ",
        "ls /proc/1/root/",
        "echo 1 > /proc/sys/kernel/panic",
        "hostname other",
        "nsenter --target 1 --mount true",
        "unshare --mount true",
        // Capabilities on a file would be real ones on the machine's disk.
        "perl -e 'exit(syscall(188, \"/etc/who\", \"security.capability\", pack(\"V5\", 0x2000001, 2, 0, 0, 0), 20, 0) == 0 ? 0 : 1)'",
    ] {
        let ran = run(&job, &as_root(script));
        assert_ne!(ran.exit, Exit::Code(0), "{script}: {}", ran.stdout);
    }
    assert_eq!(succeed(&job, "echo alive"), "alive\n");
    // The step after it has nothing of it.
    assert!(succeed(&job, "cat /proc/self/status").contains("CapBnd:\t0000000000000000"));
    // In reach of nobody else on this machine, however it is owned on disk.
    let mode = fs::metadata(job.directory()).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o700);
    assert_eq!(fs::read_to_string(world.path("top/etc/who")).unwrap(), "top");
}

#[test]
fn a_user_with_number_0_is_root_of_nothing() {
    let world = World::new();
    let user = User {
        uid: 0,
        gid: 0,
        name: "root".to_owned(),
        home: "/root".into(),
    };
    let job = sandbox::start(JobSpec { user, ..world.spec() }).unwrap();
    assert_eq!(
        succeed(&job, "id -u; cd ~root; pwd; echo x > /etc/who; cat /etc/who"),
        "0\n/root\nx\n"
    );
    assert!(succeed(&job, "cat /proc/self/status").contains("CapEff:\t0000000000000000"));
    for script in [
        "kill -9 1; kill -STOP 1; sleep 0.1; false",
        "cat /proc/1/environ",
        "ls /proc/1/root/",
        "echo 1 > /proc/sys/kernel/panic",
        "echo c > /proc/sysrq-trigger",
        "chown 5 /etc/who",
        "mknod /tmp/x c 1 3",
        "echo x > /dev/x",
    ] {
        assert_ne!(run(&job, &shell(script)).exit, Exit::Code(0), "{script}");
    }
    assert_eq!(succeed(&job, "echo alive"), "alive\n");
    assert_eq!(fs::read_to_string(world.path("top/etc/who")).unwrap(), "top");
}

#[test]
fn a_killed_monitor_takes_the_job_with_it() {
    let world = World::new();
    let mark = mark(54);
    let mut spec = world.spec();
    spec.limits.memory_bytes_max = Some(256 << 20);
    let job = sandbox::start(spec).unwrap();
    let id = job.directory().file_name().unwrap().to_str().unwrap().to_owned();
    std::thread::scope(|scope| {
        let command = program(&["/usr/bin/sleep", &mark]);
        let ended = scope.spawn({
            let job = &job;
            move || job.run(&command, &|_, _| {})
        });
        let until = Instant::now() + Duration::from_secs(5);
        let process = loop {
            let found = fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .find(|path| {
                    fs::read(path.join("cmdline"))
                        .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&mark))
                });
            match found {
                Some(process) => break process,
                None => assert!(Instant::now() < until, "the command did not come up"),
            }
        };
        let monitor = parent_of(&parent_of(&process));
        let number: i32 = monitor.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert!(
            fs::read_to_string(monitor.join("cmdline"))
                .unwrap()
                .contains("__monitor")
        );
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(number).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        let error = ended.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("its monitor is gone"), "{error}");
    });
    assert_eq!(processes_with(&mark), Vec::<String>::new());
    drop(job);
    assert_eq!(cgroups_of(&id), Vec::<PathBuf>::new());
}

fn parent_of(process: &Path) -> PathBuf {
    let status = fs::read_to_string(process.join("status")).unwrap();
    let parent = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap()
        .trim()
        .to_owned();
    Path::new("/proc").join(parent)
}

#[test]
fn what_output_comes_after_the_end_is_kept() {
    let world = World::new();
    let job = world.start();
    // As `exec > >(indent)` of many a bin/build.
    assert_eq!(
        succeed(&job, "(sleep 0.05; echo late) & echo early"),
        "early\nlate\n"
    );
}

#[test]
fn programs_of_the_user_see_the_user() {
    let identity = Identity::Rootless { uid: 1234, gid: 1235 };
    let arguments = identity::as_user_arguments(identity);
    #[expect(
        clippy::disallowed_methods,
        reason = "the hidden entry is a program's first argument"
    )]
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_packhorse"))
        .args(arguments)
        .args(["sh", "-c", "id -u; id -g"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1234\n1235\n");
    assert!(identity::as_user_arguments(Identity::Root).is_empty());
}

/// All of this again without root: the program runs itself as a user who has subordinate ids.
#[test]
fn again_as_a_plain_user() {
    again_in(
        &["unshare", "--user", "--map-root-user", "--map-auto", "--mount"],
        None,
    );
}

/// And again as one who has none.
#[test]
fn again_with_a_single_id() {
    again_in(&["unshare", "--user", "--map-root-user", "--mount"], None);
}

#[test]
fn again_with_the_outer_proc() {
    again_in(
        &["unshare", "--user", "--map-root-user", "--map-auto", "--mount"],
        Some(Rung::OuterProc),
    );
}

#[test]
fn again_without_overlays() {
    again(
        &mut own_program(&std::env::current_exe().unwrap()),
        Some(Rung::NoOverlay),
    );
    again_in(
        &["unshare", "--user", "--map-root-user", "--mount"],
        Some(Rung::NoOverlay),
    );
}

#[test]
fn again_without_user_namespaces() {
    again(
        &mut own_program(&std::env::current_exe().unwrap()),
        Some(Rung::NoUserNamespace),
    );
}

/// Runs these tests again as a user who has subordinate ids, within `namespaces`.
fn again_in(namespaces: &[&str], rung: Option<Rung>) {
    let surroundings = Surroundings::read(None, None);
    let full = surroundings.uid_map.split_whitespace().nth(2) == Some("4294967295");
    let Some(user) = a_user_with_ids().filter(|_| full) else {
        left_out("no user has subordinate ids here, or not every id is mapped");
        return;
    };
    let mut command = own_program(Path::new("setpriv"));
    command
        .args([
            format!("--reuid={user}"),
            format!("--regid={user}"),
            "--init-groups".to_owned(),
        ])
        .args(namespaces)
        .arg(std::env::current_exe().unwrap());
    again(&mut command, rung);
}

fn again(command: &mut std::process::Command, rung: Option<Rung>) {
    if let Some(rung) = rung {
        command.env(RUNG, rung.name());
    }
    let output = command
        .args([
            "sandbox::",
            "--skip=again_",
            "--skip=a_killed_worker",
            "--show-output",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("test result: ok") && !text.contains("running 0 tests"),
        "{text}"
    );
    for line in text.lines() {
        if let Some(what) = line.strip_prefix("left out: ") {
            left_out(what);
        }
    }
}

pub(crate) fn a_user_with_ids() -> Option<String> {
    let subordinate = fs::read_to_string("/etc/subuid").ok()?;
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let is_plain =
        |name: &&str| *name != "root" && passwd.lines().any(|line| line.starts_with(&format!("{name}:")));
    let mut names = subordinate.lines().filter_map(|line| line.split(':').next());
    names.find(is_plain).map(str::to_owned)
}

#[test]
fn who_used_the_time_up_is_told() {
    let world = World::new();
    let job = world.start();
    let mut command = program(&["/usr/bin/perl", "-e", "1 while 1", "--", "--token=s3cret", "busy"]);
    command.timeout = Some(Duration::from_millis(700));
    let Exit::OverLimit(reached) = run(&job, &command).exit else {
        panic!("it did not end")
    };
    let busiest = &reached.used_by[0];
    assert!(busiest.contains(" s  perl (process "), "{busiest}");
    assert!(
        busiest.ends_with(": /usr/bin/perl -e 1 while 1 -- --token=… busy"),
        "{busiest}"
    );
    assert!(!busiest.starts_with("0.0 s"), "{busiest}");
}

#[test]
fn silence_ends_a_command_and_output_prolongs_it() {
    let world = World::new();
    let mut spec = world.spec();
    spec.limits.idle_timeout = Some(Duration::from_millis(700));
    let job = sandbox::start(spec).unwrap();
    let talks = run(&job, &shell("for i in 1 2 3 4 5; do sleep 0.3; echo $i; done"));
    assert_eq!(talks.exit, Exit::Code(0), "{}", talks.stdout);
    let begin = Instant::now();
    let silent = run(&job, &shell("echo begins; sleep 50")).exit;
    assert_eq!(
        limit_of(&silent),
        Some(Limit::IdleOutput(Duration::from_millis(700)))
    );
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn processors_are_limited_where_a_cgroup_does_it() {
    let world = World::new();
    let mut spec = world.spec();
    spec.limits.cpu_hundredths_max = Some(20);
    let job = sandbox::start(spec).unwrap();
    if !job.rung().contains("processors by cgroup") {
        assert!(
            job.notes().iter().any(|note| note.contains("processors")),
            "{:?}",
            job.notes()
        );
        left_out("no cgroup for processors is writable");
        return;
    }
    // Half a second of processor time takes two and a half.
    let begin = Instant::now();
    let busy = "1 while (times)[0] < 0.5";
    assert_eq!(
        run(&job, &program(&["/usr/bin/perl", "-e", busy])).exit,
        Exit::Code(0)
    );
    assert!(
        begin.elapsed() > Duration::from_millis(1500),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn what_was_laid_out_before_is_not_what_the_job_writes() {
    let world = World::new();
    fs::write(world.path("workspace/large"), vec![1; 8 << 20]).unwrap();
    let mut spec = world.spec();
    spec.limits.disk_bytes_max = Some(4 << 20);
    let job = sandbox::start(spec).unwrap();
    // A file may be long without taking room.
    let ran = run(
        &job,
        &shell("truncate -s 1G /tmp/hole; head -c 1M /dev/zero > /tmp/a; sleep 2"),
    );
    assert_eq!(ran.exit, Exit::Code(0), "{}", ran.stderr);
    let ran = run(&job, &shell("head -c 9M /dev/zero > /tmp/b; sleep 50"));
    let Exit::OverLimit(reached) = ran.exit else {
        panic!("{:?}", ran.exit)
    };
    assert_eq!(reached.limit, Limit::DiskBytes(4 << 20));
    assert!(
        reached.used_by.iter().any(|line| line.ends_with("  /tmp")),
        "{reached}"
    );
}
