//! The rung without namespaces: what a job can do there, what it cannot, and what is left of it. Only root has it.
//!
//! The job's root file system is a static busybox, since nothing can be bound in.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use packhorse::events::Stream;
use packhorse::model::failure::Failure as _;
use packhorse::model::limits::Limits;
use packhorse::model::rung::Rung;
use packhorse::model::rung::RungChoice;
use packhorse::sandbox;
use packhorse::sandbox::command::Command;
use packhorse::sandbox::command::Exit;
use packhorse::sandbox::command::RunAs;
use packhorse::sandbox::directory::JobDirectory;
use packhorse::sandbox::identity::Surroundings;
use packhorse::sandbox::job::Job as _;
use packhorse::sandbox::ladder;
use packhorse::sandbox::ladder::Ground;
use packhorse::sandbox::native::NativeJob;
use packhorse::sandbox::probe::Found;
use packhorse::sandbox::spec::Bind;
use packhorse::sandbox::spec::BindMode;
use packhorse::sandbox::spec::JobSpec;
use packhorse::sandbox::spec::LayersState;
use packhorse::sandbox::spec::Network;
use packhorse::sandbox::spec::User;

use crate::support::left_out::left_out;

/// A number that nobody on this machine has.
const UID: u32 = 47_110;
/// Of one user there is one job at a time.
static TURN: Mutex<()> = Mutex::new(());

struct World {
    place: tempfile::TempDir,
    ground: Ground,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// None where this is not root of every id.
    fn new() -> Option<Self> {
        let surroundings = Surroundings::read(None, None);
        let choice = RungChoice {
            exactly: Some(Rung::Chroot),
            minimum: None,
        };
        let Ok(ground) = ladder::choose(&ladder::climb(&surroundings, &Found::NOTHING_REFUSED), choice)
        else {
            left_out("the rung `chroot` needs root");
            return None;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let world = Self {
            place: tempfile::tempdir().unwrap(),
            ground,
            _turn: turn,
        };
        let root = world.path("base");
        for folder in ["bin", "etc", "home"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::copy("/usr/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "id", "ls", "cat", "sleep", "nc", "kill", "ps", "setsid", "touch", "mkdir", "chroot",
            "mount",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs::create_dir_all(world.path("state/pack")).unwrap();
        std::os::unix::fs::chown(world.path("state/pack"), Some(UID), Some(UID)).unwrap();
        Some(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn spec(&self) -> JobSpec {
        let directory = JobDirectory::create(&self.path("jobs"), "test").unwrap();
        let workspace = directory.path().join("workspace");
        fs::create_dir(&workspace).unwrap();
        std::os::unix::fs::chown(&workspace, Some(UID), Some(UID)).unwrap();
        // Each build has an upper of its own.
        let layers = self.path(&format!("layers-{}", directory.id()));
        JobSpec {
            directory,
            program: env!("CARGO_BIN_EXE_packhorse").into(),
            ground: self.ground,
            root_layers: vec![self.path("base")],
            layers: LayersState {
                lowers: vec![self.path("state")],
                directory: layers,
                volatile: true,
            },
            workspace,
            binds: Vec::new(),
            user: User {
                uid: UID,
                gid: UID,
                name: "cnb".to_owned(),
                home: "/home/cnb".into(),
            },
            limits: Limits {
                timeout: Duration::from_secs(60),
                processes_max: 200,
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

fn run(job: &NativeJob, script: &str) -> (Exit, String) {
    let command = Command {
        name: "test".to_owned(),
        arguments: ["/bin/sh", "-c", script].map(Into::into).to_vec(),
        environment: vec![("PATH".into(), "/bin".into())],
        working_directory: "/workspace".into(),
        run_as: RunAs::User,
        timeout: None,
    };
    let output = Mutex::new(Vec::new());
    let exit = job
        .run(&command, &|_: Stream, bytes: &[u8]| {
            output.lock().unwrap().extend_from_slice(bytes);
        })
        .unwrap();
    (
        exit,
        String::from_utf8_lossy(&output.into_inner().unwrap()).into_owned(),
    )
}

fn succeed(job: &NativeJob, script: &str) -> String {
    let (exit, output) = run(job, script);
    assert_eq!(exit, Exit::Code(0), "{script}: {output}");
    output
}

/// Processes of the job's user, as the machine sees them.
fn processes() -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let owner = status.lines().find_map(|line| line.strip_prefix("Uid:\t"))?;
        (owner.split_whitespace().next() == Some(&UID.to_string()) && !status.contains("State:\tZ"))
            .then_some(status)
    })
    .collect()
}

fn wait_until_empty() {
    for _ in 0..500 {
        if processes().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?}", processes());
}

#[test]
fn the_job_is_another_user_in_another_root() {
    let Some(world) = World::new() else { return };
    let job = world.start();
    assert_eq!(
        succeed(&job, "id -u; id -g; id -un; ls /"),
        format!("{UID}\n{UID}\ncnb\nbin\ndev\netc\nhome\nlayers\nproc\nsys\ntmp\nworkspace\n")
    );
    succeed(
        &job,
        "echo x > /dev/null && cat /dev/zero | busybox head -c 3 > /workspace/three && touch /tmp/x /home/cnb/y",
    );
    for script in [
        "echo x >> /etc/passwd",
        "touch /made",
        "chroot / ls",
        "mount -t tmpfs x /tmp",
        "ls ../../../../proc/1",
        "kill -0 1",
        "busybox mknod /tmp/null c 1 3",
        // UDP, and the machine's routes.
        "busybox nslookup localhost 127.0.0.1",
        "busybox ip address",
    ] {
        let (exit, output) = run(&job, script);
        assert_ne!(exit, Exit::Code(0), "{script}: {output}");
    }
    assert!(job.rung().starts_with("chroot: "), "{}", job.rung());
}

#[test]
fn layers_and_workspace_come_in_and_go_back() {
    let Some(world) = World::new() else { return };
    fs::write(world.path("state/pack/kept"), "old").unwrap();
    let bind = Bind {
        source: world.path("state/pack"),
        target: "/cnb/pack".into(),
        mode: BindMode::ReadOnly,
    };
    let spec = JobSpec {
        binds: vec![bind],
        ..world.spec()
    };
    fs::write(spec.workspace.join("app"), "app").unwrap();
    let store = spec.layers.directory.join("upper");
    let job = sandbox::start(spec).unwrap();
    assert_eq!(succeed(&job, "ls /layers; cat app /cnb/pack/kept"), "appold");
    job.attach_layers().unwrap();
    assert!(job.attach_layers().is_err());
    assert_eq!(
        succeed(&job, "cat /layers/pack/kept; mkdir /layers/pack/new"),
        "old"
    );
    // The exporter looks at times below the store's path.
    assert!(store.join("pack/new").is_dir());
    assert_eq!(job.list(Path::new("/layers/pack"), 10).unwrap().len(), 2);
    drop(job);
    let upper = fs::symlink_metadata(&store).unwrap();
    assert!(upper.is_dir());
    let new = fs::symlink_metadata(store.join("pack/new")).unwrap();
    assert_eq!(new.uid(), UID);
    assert_eq!(
        fs::read_dir(world.path("jobs"))
            .unwrap()
            .filter(|entry| {
                !entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with('.')
            })
            .count(),
        0
    );
}

#[test]
fn no_connection_goes_anywhere_but_to_the_proxy() {
    let Some(world) = World::new() else { return };
    let listeners = [0; 2].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [proxy, victim] = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap().port());
    let job = sandbox::start(JobSpec {
        network: Network::Proxy {
            port: proxy,
            variables: vec![("http_proxy".into(), "x".into())],
        },
        ..world.spec()
    })
    .unwrap();
    job.open_network();
    std::thread::scope(|scope| {
        scope.spawn(|| drop(listeners[0].accept()));
        succeed(&job, &format!("nc -w 5 127.0.0.1 {proxy} < /dev/null"));
    });
    assert_eq!(succeed(&job, "echo $http_proxy"), "x\n");
    let (exit, output) = run(&job, &format!("nc -w 1 127.0.0.1 {victim} < /dev/null"));
    if job.notes().is_empty() {
        assert_ne!(exit, Exit::Code(0), "{output}");
    } else {
        left_out("the kernel cannot hold connections where there is no network namespace");
    }
}

/// Connects to 127.0.0.1 at a port in the way that is named, or takes what outlives a job; 0 when that worked.
const REACH: &str = r#"
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
int main(int count, char **words) {
    const char *way = words[1];
    if (!strcmp(way, "memory")) return shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600) < 0;
    if (!strcmp(way, "semaphore")) return semget(IPC_PRIVATE, 1, IPC_CREAT | 0600) < 0;
    if (!strcmp(way, "queue")) return msgget(IPC_PRIVATE, IPC_CREAT | 0600) < 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int kind = !strcmp(way, "datagram") ? SOCK_DGRAM : SOCK_STREAM;
    int protocol = !strcmp(way, "multipath") ? 262 : 0;
    int out = socket(AF_INET, kind, protocol);
    if (out < 0) return 1;
    if (!strcmp(way, "fast-open")) return sendto(out, "x", 1, MSG_FASTOPEN, (void *)&to, sizeof to) < 0;
    struct iovec piece = {"x", 1};
    struct msghdr message = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &piece, .msg_iovlen = 1};
    if (!strcmp(way, "fast-open-message")) return sendmsg(out, &message, MSG_FASTOPEN) < 0;
    return connect(out, (void *)&to, sizeof to) < 0;
}
"#;
const WAYS: [&str; 8] = [
    "connect",
    "multipath",
    "fast-open",
    "fast-open-message",
    "datagram",
    "memory",
    "semaphore",
    "queue",
];

#[test]
fn no_way_leads_past_the_proxy_and_nothing_outlives_the_job() {
    let Some(world) = World::new() else { return };
    let reach = world.path("base/bin/reach");
    fs::write(world.path("reach.c"), REACH).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test compiles its own program")]
    let compiled = std::process::Command::new("gcc")
        .args(["-static", "-O1", "-o"])
        .args([&reach, &world.path("reach.c")])
        .status()
        .unwrap();
    assert!(compiled.success());
    let victim = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = victim.local_addr().unwrap().port();
    // A control: outside, each of them works but for what this kernel lacks.
    for way in ["connect", "fast-open", "fast-open-message", "datagram"] {
        #[expect(clippy::disallowed_methods, reason = "a test runs its own program")]
        let status = std::process::Command::new(&reach)
            .args([way, &port.to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "{way} does not work outside");
    }
    let job = sandbox::start(JobSpec {
        network: Network::Proxy {
            port: port ^ 1,
            variables: Vec::new(),
        },
        ..world.spec()
    })
    .unwrap();
    for is_open in [false, true] {
        if is_open {
            job.open_network();
        }
        if !job.notes().is_empty() {
            left_out("the kernel cannot hold connections where there is no network namespace");
            return;
        }
        for way in WAYS {
            let (exit, output) = run(&job, &format!("reach {way} {port}"));
            assert_eq!(exit, Exit::Code(1), "{way}: {output}");
        }
        // Not even the proxy, as long as the job is closed.
        let (exit, _) = run(&job, &format!("reach connect {}", port ^ 1));
        assert_eq!(exit, Exit::Code(1));
    }
}

#[test]
fn a_step_that_fills_its_limit_of_processes_is_swept_all_the_same() {
    let Some(world) = World::new() else { return };
    let mut spec = world.spec();
    spec.limits.processes_max = 30;
    let job = sandbox::start(spec).unwrap();
    let fill = "i=0; while [ $i -lt 60 ]; do setsid sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done; true";
    let (exit, output) = run(&job, fill);
    assert!(matches!(exit, Exit::OverLimit(_)), "{exit:?} {output}");
    assert!(processes().len() >= 20, "{}", processes().len());
    job.sweep().unwrap();
    assert_eq!(processes(), Vec::<String>::new());
}

#[test]
fn others_of_the_same_number_are_nobodys_to_end() {
    let Some(world) = World::new() else { return };
    #[expect(clippy::disallowed_methods, reason = "a test's own process of that user")]
    let mut other = std::process::Command::new("setpriv")
        .args([
            &format!("--reuid={UID}"),
            "--no-new-privs",
            "--clear-groups",
            "sleep",
            "1000",
        ])
        .spawn()
        .unwrap();
    while processes().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let busy = sandbox::start(world.spec()).err().unwrap();
    assert_eq!(busy.facts().code, "sandbox_busy", "{busy}");
    assert!(other.try_wait().unwrap().is_none(), "it was ended");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn what_a_step_leaves_is_swept_and_nothing_survives_the_job() {
    let Some(world) = World::new() else { return };
    let job = world.start();
    let leave = "setsid sleep 1000 >/dev/null 2>&1 & (trap '' TERM HUP; sleep 1000) >/dev/null 2>&1 & ";
    succeed(&job, leave);
    assert!(!processes().is_empty());
    job.sweep().unwrap();
    assert_eq!(processes(), Vec::<String>::new());
    // A fork bomb.
    let bomb = Command {
        name: "bomb".to_owned(),
        arguments: ["/bin/sh", "-c", "f() { f | f & }; f; sleep 1000"]
            .map(Into::into)
            .to_vec(),
        environment: vec![("PATH".into(), "/bin".into())],
        working_directory: "/workspace".into(),
        run_as: RunAs::User,
        timeout: Some(Duration::from_millis(500)),
    };
    let exit = job.run(&bomb, &|_, _| {}).unwrap();
    assert!(matches!(exit, Exit::OverLimit(_) | Exit::Code(_)), "{exit:?}");
    job.sweep().unwrap();
    assert_eq!(processes(), Vec::<String>::new());
    succeed(&job, leave);
    drop(job);
    assert_eq!(processes(), Vec::<String>::new());
}

#[test]
fn killed_monitors_leave_nothing_and_another_job_waits_for_its_user() {
    let Some(world) = World::new() else { return };
    let job = world.start();
    succeed(&job, "setsid sleep 1000 >/dev/null 2>&1 &");
    let busy = sandbox::start(world.spec()).err().unwrap();
    assert_eq!(
        (busy.facts().code, busy.facts().temporary),
        ("sandbox_busy", true),
        "{busy}"
    );
    let init = parent_of_the_first();
    let monitor = parent_of(init);
    // Init sees the end of its monitor.
    kill(monitor);
    wait_until_empty();
    drop(job);

    // Init alone: its monitor ends the rest.
    let job = world.start();
    succeed(&job, "setsid sleep 1000 >/dev/null 2>&1 &");
    kill(parent_of_the_first());
    wait_until_empty();
    drop(job);

    // Both: whoever removes the job's directory finds what is left.
    let job = world.start();
    succeed(&job, "setsid sleep 1000 >/dev/null 2>&1 &");
    let init = parent_of_the_first();
    let monitor = parent_of(init);
    stop(monitor);
    kill(init);
    kill(monitor);
    assert!(!processes().is_empty());
    // As the janitor does it for a worker that is gone too.
    drop(job);
    assert_eq!(processes(), Vec::<String>::new());
}

/// The parent of a process that a command left, once it has become init's.
fn parent_of_the_first() -> i32 {
    for _ in 0..500 {
        if let Some(status) = processes().first() {
            let parent = field(status, "PPid:\t");
            // It runs a copy of packhorse that has no name but a number.
            let arguments = fs::read_to_string(format!("/proc/{parent}/cmdline")).unwrap_or_default();
            if arguments.contains("__monitor") {
                return parent;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing of the job is there");
}

fn parent_of(process: i32) -> i32 {
    field(
        &fs::read_to_string(format!("/proc/{process}/status")).unwrap(),
        "PPid:\t",
    )
}

fn field(status: &str, name: &str) -> i32 {
    let found = status.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap().trim().parse().unwrap()
}

fn kill(process: i32) {
    signal(process, rustix::process::Signal::KILL);
}

fn stop(process: i32) {
    signal(process, rustix::process::Signal::STOP);
}

fn signal(process: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(process).unwrap(), signal).unwrap();
}

#[test]
fn root_of_the_image_is_refused() {
    let Some(world) = World::new() else { return };
    let mut spec = world.spec();
    spec.user.uid = 0;
    let error = sandbox::start(spec).err().unwrap();
    assert_eq!(error.facts().code, "sandbox_forbidden", "{error}");
}
