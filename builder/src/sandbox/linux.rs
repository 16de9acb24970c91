//! System calls that rustix does not offer safely; all unsafe code of the sandbox.

use std::ffi::CStr;
use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// The namespaces that every job has of its own; a user namespace is added where one is to be had.
pub(crate) const NAMESPACES: i32 =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET;

/// What a fork returned, by side.
#[derive(Debug)]
pub(crate) enum Forked<T> {
    /// This is the child.
    Child,
    /// This is the parent.
    Parent(T),
}

/// The argument of `clone3(2)`, version 2 of its layout.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The argument of `mount_setattr(2)`.
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Forks into new namespaces (`flags`: `CLONE_NEW…`), and into a v2 cgroup. Only for a process with one thread.
#[expect(unsafe_code, reason = "clone3 has no safe wrapper")]
pub(crate) fn clone_into(flags: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked<(Pid, OwnedFd)>> {
    const CLONE_PIDFD: u64 = 0x1000;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArguments {
        flags: u64::from(flags.cast_unsigned()) | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArguments::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without a stack the child goes on like after fork; the caller has one thread, so no lock is held by
    // another; `pidfd` and `arguments` outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            std::mem::size_of::<CloneArguments>(),
        )
    };
    match i32::try_from(result) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) if pid > 0 => {
            let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("no pid"))?;
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(Forked::Parent((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Forks. Only for a process with one thread.
#[expect(unsafe_code, reason = "fork has no safe wrapper")]
pub(crate) fn fork() -> io::Result<Forked<Pid>> {
    // SAFETY: the callers (start of main, init) have one thread, so the child may use everything.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        pid if pid > 0 => Pid::from_raw(pid)
            .map(Forked::Parent)
            .ok_or_else(|| io::Error::other("no pid")),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process without running destructors or exit handlers, as a forked child must.
#[expect(unsafe_code, reason = "_exit has no safe wrapper")]
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Moves this process into new namespaces. Only for a process with one thread.
#[expect(
    unsafe_code,
    reason = "rustix marks unshare as unsafe for CLONE_FILES, which no caller passes"
)]
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: only namespace flags are passed, so no descriptor table is split.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Lets only those packets into a socket that a classic BPF program lets in (`socket(7)`).
#[expect(unsafe_code, reason = "rustix has no SO_ATTACH_FILTER")]
pub(crate) fn attach_filter(socket: BorrowedFd<'_>, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: filter.as_ptr().cast_mut(),
    };
    let bytes = libc::socklen_t::try_from(size_of::<libc::sock_fprog>())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the kernel copies `bytes` from `program` and `len` instructions from `filter`, both of which outlive the
    // call, and writes to neither.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            bytes,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets attributes of a mount (`MOUNT_ATTR_…`), with the id map of a user namespace if one is given.
#[expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    id_map: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    const SYS_MOUNT_SETATTR: libc::c_long = 442;
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let mut attributes = MountAttributes {
        attr_set: set,
        ..MountAttributes::default()
    };
    if let Some(id_map) = id_map {
        attributes.attr_set |= MOUNT_ATTR_IDMAP;
        attributes.userns_fd = u64::from(id_map.as_raw_fd().cast_unsigned());
    }
    // SAFETY: the path is a NUL-terminated empty string and the struct outlives the call.
    let result = unsafe {
        libc::syscall(
            SYS_MOUNT_SETATTR,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw mut attributes,
            std::mem::size_of::<MountAttributes>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Marks every descriptor from 3 on to be closed by execve.
#[expect(unsafe_code, reason = "close_range has no safe wrapper")]
pub(crate) fn close_descriptors_on_exec() -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed now, so no owner loses its descriptor.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Blocks SIGCHLD and gives a descriptor that is readable when one is pending.
#[expect(unsafe_code, reason = "signalfd has no safe wrapper")]
pub(crate) fn watch_children() -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before it is used; signalfd's result is a new descriptor or -1.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// Gives a process the signal state that a new program expects: nothing blocked, nothing ignored.
#[expect(unsafe_code, reason = "sigprocmask and signal have no safe wrapper")]
pub(crate) fn reset_signals() {
    // SAFETY: the set is initialised before use, and SIG_DFL runs no code of ours.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        for signal in 1..=libc::SIGRTMAX() {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// Sends KILL to every process that the caller may signal, but not to itself: for PID 1 of a namespace, all of that
/// namespace; for who became another user, all of that user's.
#[expect(unsafe_code, reason = "kill(-1) has no safe wrapper")]
pub(crate) fn kill_all_others() {
    // SAFETY: kill has no preconditions.
    unsafe {
        libc::kill(-1, libc::SIGKILL);
    }
}

/// Joins a new, empty session keyring, so that no key of the worker is reachable.
#[expect(unsafe_code, reason = "keyctl has no safe wrapper")]
pub(crate) fn join_new_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring. A kernel without keys answers ENOSYS, which is as good.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        );
    }
}

/// Which version of Landlock's interface the kernel has (`landlock_create_ruleset(2)`).
#[expect(
    unsafe_code,
    reason = "the landlock crate tells the version only of a process that it restricts"
)]
pub(crate) fn landlock_version() -> io::Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the kernel reads no attributes: the pointer is null and the size 0, as the manual demands.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

/// Whether a system call filter may answer with `action` (`SECCOMP_RET_…`; seccomp(2), Linux 4.14).
#[expect(unsafe_code, reason = "seccomp has no safe wrapper")]
pub(crate) fn filter_action_is_there(action: u32) -> io::Result<()> {
    const SECCOMP_GET_ACTION_AVAIL: libc::c_uint = 2;
    // SAFETY: the kernel reads one number through the pointer, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Replaces this process by a program; returns only the error.
#[expect(
    unsafe_code,
    reason = "execve with an explicit environment has no safe wrapper"
)]
pub(crate) fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer, and the strings they point into outlive the call.
    unsafe {
        libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
    }
    io::Error::last_os_error()
}
