//! What is expected of every attack in every column: it is held, but for the exceptions of this one table.

use packhorse::model::rung::Rung;

/// Who runs packhorse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runner {
    /// Root of the machine.
    Root,
    /// A plain user with subordinate ids.
    PlainUser,
    /// A plain user without any.
    PlainUserAlone,
}

/// A rung with the ids that it is tried with: a column of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) runner: Runner,
    /// The rung that is asked for, and that must come of it.
    pub(super) rung: Rung,
}

impl Column {
    /// Whether jobs have a pid namespace of their own, so that PID 1 is theirs: the rungs below have none.
    pub(super) fn has_own_processes(self) -> bool {
        self.rung >= Rung::NoUserNamespace
    }

    /// Whether jobs have a network namespace, and so a gateway that takes every connection.
    pub(super) fn has_own_network(self) -> bool {
        self.rung >= Rung::NoUserNamespace
    }

    /// Whether folders of the machine can be shown to jobs; else they are copied.
    pub(super) fn has_binds(self) -> bool {
        self.rung >= Rung::NoUserNamespace
    }

    /// Users that a job's commands run as.
    pub(super) fn users(self) -> &'static [u32] {
        if self.rung == Rung::Chroot {
            &[ALONE]
        } else {
            &USERS
        }
    }
}

/// Every column. A new rung is a line here, and its exceptions below.
pub(super) const COLUMNS: [Column; 8] = [
    column("full", Runner::Root, Rung::Full),
    column("rootless", Runner::PlainUser, Rung::Rootless),
    column("single-id", Runner::PlainUserAlone, Rung::SingleId),
    column("single-id of root", Runner::Root, Rung::SingleId),
    column("outer-proc", Runner::PlainUser, Rung::OuterProc),
    column("no-overlay", Runner::Root, Rung::NoOverlay),
    column("no-user-namespace", Runner::Root, Rung::NoUserNamespace),
    column("chroot", Runner::Root, Rung::Chroot),
];

const fn column(name: &'static str, runner: Runner, rung: Rung) -> Column {
    Column { name, runner, rung }
}

const USERS: [u32; 2] = [1001, 0];
/// On `chroot`, where the user is the machine's: user 0 is refused there, and of one user there is one job at a time.
const ALONE: u32 = 47_111;

/// An attack that is not held everywhere.
pub(super) struct Exception {
    /// `PROGRAM/NAME`.
    pub(super) attack: &'static str,
    /// The columns.
    pub(super) columns: &'static [&'static str],
    /// The users.
    pub(super) users: &'static [u32],
    /// Whether it depends on the machine; else it must be so.
    pub(super) depends: bool,
    pub(super) because: &'static str,
}

const EVERYWHERE: &[&str] = &[
    "full",
    "rootless",
    "single-id",
    "single-id of root",
    "outer-proc",
    "no-overlay",
    "no-user-namespace",
    "chroot",
];
const WITHOUT_MOUNTS: &[&str] = &["chroot"];
const ANYBODY: &[u32] = &[USERS[0], USERS[1], ALONE];
const ROOT: &[u32] = &[0];

const IMAGE_OF_ROOT: &str =
    "a job's user 0 may change the image's files: in its own upper, which nobody sees again";
const NAMES_ALONE: &str =
    "the /proc around lists processes with their names and command lines, and nothing more";
const PROJECTS: &str =
    "the kernel asks no privilege for a map of project ids, and lets nobody of a user namespace set one";
const LABELS: &str =
    "a kernel with SELinux and without a policy lets an owner label files; labels are not exported";
const COPIED: &str = "nothing is mounted: what is shown is a copy of the job's own, with the mode that it has on the \
                      machine, and Landlock holds contents and names alone";
const ON_DISK: &str =
    "nothing is mounted: `/dev/shm` is a folder of the job's on the disk of the data directory";
const MARKED: &str =
    "a group of the job's own tells its processes from the machine's; nothing has that group";
const NOT_COUNTED: &str = "where no cgroup limits memory, the watcher sees only what is mapped";

/// The exceptions.
pub(super) const EXCEPTIONS: &[Exception] = &[
    must("files/image-passwd-write", EVERYWHERE, ROOT, IMAGE_OF_ROOT),
    must("files/image-file-write", EVERYWHERE, ROOT, IMAGE_OF_ROOT),
    must("files/image-file-remove", EVERYWHERE, ROOT, IMAGE_OF_ROOT),
    must("identity/image-shadow", EVERYWHERE, ROOT, IMAGE_OF_ROOT),
    must(
        "kernel_files/write-projid-map",
        &["full", "no-overlay"],
        ANYBODY,
        PROJECTS,
    ),
    must("identity/image-group", EVERYWHERE, ROOT, IMAGE_OF_ROOT),
    must(
        "processes/processes-listed",
        &["outer-proc"],
        ANYBODY,
        NAMES_ALONE,
    ),
    must("files/read-only-times", WITHOUT_MOUNTS, ANYBODY, COPIED),
    must("files/read-only-attribute", WITHOUT_MOUNTS, ANYBODY, COPIED),
    must("resources/shared-files-bytes", WITHOUT_MOUNTS, ANYBODY, ON_DISK),
    must("resources/shared-files-count", WITHOUT_MOUNTS, ANYBODY, ON_DISK),
    must("identity/groups-of-the-worker", WITHOUT_MOUNTS, ANYBODY, MARKED),
    may("files/attribute-selinux", EVERYWHERE, ANYBODY, LABELS),
    may("resources/memory-file-hog", EVERYWHERE, ANYBODY, NOT_COUNTED),
];

const fn must(
    attack: &'static str,
    columns: &'static [&'static str],
    users: &'static [u32],
    because: &'static str,
) -> Exception {
    Exception {
        attack,
        columns,
        users,
        depends: false,
        because,
    }
}

const fn may(
    attack: &'static str,
    columns: &'static [&'static str],
    users: &'static [u32],
    because: &'static str,
) -> Exception {
    Exception {
        depends: true,
        ..must(attack, columns, users, because)
    }
}

/// The exception for an attack, if there is one.
pub(super) fn exception(attack: &str, column: &str, user: u32) -> Option<&'static Exception> {
    EXCEPTIONS.iter().find(|exception| {
        exception.attack == attack && exception.columns.contains(&column) && exception.users.contains(&user)
    })
}

/// Attacks that break out where there is no sandbox: run by root of a throw-away namespace.
pub(super) const BROKEN_WITHOUT_A_SANDBOX: &[&str] = &[
    "files/file-by-name",
    "files/file-by-dot-dot",
    "files/file-by-descriptor-of-root",
    "files/file-by-root-of-victim",
    "files/file-by-every-root",
    "files/file-private",
    "files/folder-of-packhorse",
    "files/folder-of-the-job",
    "files/file-by-chroot",
    "files/socket-file-of-host",
    "processes/processes-listed",
    "processes/processes-environ",
    "processes/processes-maps",
    "processes/processes-fd",
    "processes/processes-cwd",
    "processes/victim-environ",
    "processes/victim-memory-file",
    "processes/victim-ptrace",
    "processes/victim-memory-read",
    "processes/victim-memory-write",
    "processes/victim-descriptors",
    "processes/victim-limits",
    "processes/victim-compared",
    "processes/victim-signal",
    "processes/own-memory-advised",
    "processes/signal-every-number",
    "privilege/unshare-user",
    "privilege/unshare-mount",
    "privilege/unshare-net",
    "privilege/unshare-pid",
    "privilege/clone-user",
    "privilege/clone-mount",
    "privilege/clone-high-bits",
    "privilege/clone3-user",
    "privilege/mount-tmpfs",
    "privilege/mount-bind",
    "privilege/mount-remount-proc-sys",
    "privilege/open-tree",
    "privilege/fsopen",
    "privilege/fsconfig",
    "privilege/fspick",
    "privilege/mount-setattr",
    "privilege/statmount",
    "privilege/pivot-root",
    "privilege/chroot",
    "privilege/keyctl-session",
    "privilege/add-key",
    "privilege/request-key",
    "privilege/host-name",
    "privilege/domain-name",
    "privilege/handle-of-root",
    "privilege/memory-policy",
    "privilege/personality-read-implies-exec",
    "privilege/filter-of-its-own",
    "privilege/filter-off",
    "privilege/filter-after-exec",
    "kernel_files/write-ip-forward",
    "kernel_files/write-unprivileged-ports",
    "network/host-loopback",
    "network/host-loopback-2",
    "network/host-loopback-6",
    "network/host-mapped-6",
    "network/host-public-address",
    "network/host-private-address",
    "network/host-metadata",
    "network/host-docker-tcp",
    "network/host-udp",
    "network/abstract-stream",
    "network/abstract-datagram",
    "network/abstract-listed",
    "network/socket-raw-icmp",
    "network/socket-packet",
    "network/netlink-add-address",
    "network/netlink-link-down",
    "network/setting-mtu",
    "network/option-mark",
    "network/option-transparent",
    "network/ipc-shared-memory",
    "network/ipc-semaphores",
    "network/ipc-messages",
    "network/ipc-queue",
    "identity/capabilities",
    "identity/capabilities-bounding",
    "identity/become-daemon",
    "identity/set-groups",
    "identity/file-given-to-root",
    "resources/core-files",
];
