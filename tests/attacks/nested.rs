//! Which rung comes of a container that is made as Docker makes one: in a bundle of the same shape, run by runc.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use packhorse::sandbox;
use packhorse::sandbox::identity::Identity;
use packhorse::sandbox::identity::Surroundings;
use packhorse::sandbox::ladder::Ground;
use packhorse::sandbox::spec::Network;
use serde_json::Value;
use serde_json::json;

use crate::attacks::assault;
use crate::attacks::expectation::Column;
use crate::attacks::expectation::Runner;
use crate::attacks::programs;
use crate::attacks::stage::Stage;
use crate::support::home::target;
use crate::support::image::is_root;
use crate::support::left_out::left_out;

/// The mark of the line that says the rung.
const LINE: &str = "rung: ";
/// The variable that names the folder of the attack programs.
const PROGRAMS: &str = "PACKHORSE_TEST_PROGRAMS";
/// What Docker gives root of a container (its documentation, "Runtime privilege and Linux capabilities").
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
/// Calls of the default filter that a sandbox needs and that it gives only to who has `CAP_SYS_ADMIN`.
const REFUSED: [&str; 15] = [
    "mount",
    "umount2",
    "pivot_root",
    "unshare",
    "setns",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "bpf",
    "keyctl",
    "perf_event_open",
];
const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A container's shape: what differs from the default, and the rung that results.
struct Shape {
    name: &'static str,
    uid: u32,
    filtered: bool,
    masked: bool,
    rung: &'static str,
}

const SHAPES: [Shape; 5] = [
    shape("default", 0, true, true, "chroot"),
    shape("default-user", 1001, true, true, "none"),
    shape("seccomp-unconfined-user", 1001, false, true, "outer-proc"),
    shape("systempaths-unconfined-user", 1001, false, false, "single-id"),
    // Idmapped mounts need a capability that Docker keeps back.
    shape("systempaths-unconfined", 0, false, false, "rootless"),
];

const fn shape(name: &'static str, uid: u32, filtered: bool, masked: bool, rung: &'static str) -> Shape {
    Shape {
        name,
        uid,
        filtered,
        masked,
        rung,
    }
}

#[test]
fn the_rung_in_containers_of_dockers_shape() {
    if !is_root() || !Path::new("/usr/sbin/runc").exists() && !Path::new("/usr/bin/runc").exists() {
        left_out("no runc here, or not root");
        return;
    }
    let programs = programs::compile();
    let mut wrong = Vec::new();
    for shape in SHAPES {
        let (rung, why) = rung_in(&shape, programs.path());
        eprintln!("{}: {rung} ({why})", shape.name);
        if rung != shape.rung {
            wrong.push(format!("{}: {rung}, not {} ({why})", shape.name, shape.rung));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn rung_in(shape: &Shape, programs: &Path) -> (String, String) {
    let bundle = tempfile::tempdir().unwrap();
    let root = bundle.path().join("rootfs");
    for folder in ["usr", "etc", "proc", "dev", "sys", "tmp"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{link}"), root.join(link)).unwrap();
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nuser:x:1001:1001::/:/bin/sh\n",
    )
    .unwrap();
    // A mount over it gets its mode.
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(
        bundle.path().join("config.json"),
        configuration(shape, programs).to_string(),
    )
    .unwrap();
    let name = format!("packhorse-test-{}-{}", shape.name, std::process::id());
    let output = Command::new("runc")
        .args(["--root"])
        .arg(bundle.path().join("state"))
        .args(["run", "--bundle"])
        .arg(bundle.path())
        .arg(name)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix(LINE));
    let line = line.unwrap_or_else(|| {
        panic!(
            "{}: {text}\n{}",
            shape.name,
            String::from_utf8_lossy(&output.stderr)
        )
    });
    let (rung, why) = line.split_once(' ').unwrap_or((line, ""));
    (rung.to_owned(), why.to_owned())
}

fn configuration(shape: &Shape, programs: &Path) -> Value {
    let program = std::env::current_exe().unwrap();
    let capabilities: &[&str] = if shape.uid == 0 { &CAPABILITIES } else { &[] };
    let bind = |from: &Path, to: &Path| json!({"destination": to, "type": "bind", "source": from, "options": ["rbind", "ro", "nosuid"]});
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [
            {"names": REFUSED, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
             "args": [{"index": 0, "value": 0x1000_0000, "valueTwo": 0x1000_0000, "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": shape.uid, "gid": shape.uid},
            "args": [program, "--exact",
                     "attacks::nested::the_rung_here", "--ignored", "--nocapture"],
            "env": ["PATH=/usr/sbin:/usr/bin", format!("{PROGRAMS}={}", programs.display())],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
            bind(Path::new("/usr"), Path::new("/usr")),
            bind(programs, programs),
            bind(target(), target()),
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
            "maskedPaths": if shape.masked { &MASKED[..] } else { &[] },
            "readonlyPaths": if shape.masked { &READ_ONLY[..] } else { &[] },
            "seccomp": if shape.filtered { filter } else { Value::Null },
        },
    })
}

/// Not a test by itself: what runs in the container.
#[test]
#[ignore = "run by the_rung_in_containers_of_dockers_shape"]
#[expect(clippy::print_stdout, reason = "another process of the test reads it")]
fn the_rung_here() {
    let data = tempfile::tempdir_in("/tmp").unwrap();
    let climbed = sandbox::survey(&Surroundings::read(None, None), data.path()).unwrap();
    let rung = climbed.best.map_or("none", |ground| ground.rung().name());
    let missing: Vec<String> = climbed
        .missing
        .iter()
        .map(|missing| format!("{}: {}", missing.what, missing.why))
        .collect();
    // Others would have to become root of a namespace first, which only a process of one thread can.
    let needs_no_other = |ground: &Ground| ground.identity == Identity::RootAlone;
    if let Some(ground) = climbed.best.filter(needs_no_other) {
        let programs = PathBuf::from(std::env::var_os(PROGRAMS).unwrap());
        let column = Column {
            name: "nested",
            runner: Runner::Root,
            rung: ground.rung(),
        };
        let stage = Stage::quiet(&programs, Some(column));
        if let Err(error) = sandbox::start(stage.spec(1001, Network::None, assault::limits())) {
            println!("{LINE}{rung}-without-jobs {error}; {}", missing.join("; "));
            return;
        }
    }
    println!("{LINE}{rung} {}", missing.join("; "));
}
