//! The monitor: one small process a job, between worker and init. It makes the namespaces, and when the worker is gone
//! or the time is up it kills everything.

use std::fs;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;

use crate::sandbox::cgroup;
use crate::sandbox::cgroup::Cgroup;
use crate::sandbox::cgroup::Limited;
use crate::sandbox::chroot::leftovers;
use crate::sandbox::filter::Filters;
use crate::sandbox::identity;
use crate::sandbox::init;
use crate::sandbox::init::Init;
use crate::sandbox::ladder::Walls;
use crate::sandbox::linux;
use crate::sandbox::linux::Forked;
use crate::sandbox::message::Ended;
use crate::sandbox::message::IdMap;
use crate::sandbox::message::Ids;
use crate::sandbox::message::Report;
use crate::sandbox::message::Setup;
use crate::sandbox::message::Start;
use crate::sandbox::mount;
use crate::sandbox::process_usage;
use crate::sandbox::socket::DESCRIPTORS_MAX;
use crate::sandbox::socket::Socket;
use crate::sandbox::step::MAKE_NAMESPACES;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;

/// How long init may take to build the job.
const SETUP_TIMEOUT: Duration = Duration::from_secs(50);
/// Tries to end what init has left.
const ORPHAN_TRIES_MAX: u32 = 2000;
/// How often memory is looked at where no cgroup limits it.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// The hidden entry `__monitor`: the control socket is standard input. Ends when the job has ended.
pub fn main() -> i32 {
    const REFUSED: i32 = 125;
    // A terminal's signals go to its whole session; what they mean is for the worker to say. It is no group's leader.
    let _ = rustix::process::setsid();
    let Ok(control) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else {
        return REFUSED;
    };
    let control = Socket::from(control);
    let Ok(Some((start, descriptors))) = control.receive::<Start>() else {
        return REFUSED;
    };
    match monitor(&control, start, descriptors) {
        Ok(ended) => {
            // A worker that is gone does not read it.
            drop(control.send(&ended, &[]));
            0
        }
        Err(error) => {
            drop(control.send(&Report::Failed(error), &[]));
            REFUSED
        }
    }
}

fn monitor(control: &Socket, start: Start, descriptors: Vec<OwnedFd>) -> Result<Report, StepError> {
    let mut descriptors = descriptors.into_iter();
    let requests = descriptors
        .next()
        .ok_or(rustix::io::Errno::BADF)
        .step(|| "receive the job's socket".to_owned())?;
    // The locks of job directory and id range stay open until this process ends.
    let _locks: Vec<OwnedFd> = descriptors.collect();
    let deadline = Instant::now() + Duration::from_millis(start.lifetime_ms_max);
    let cgroup = Cgroup::make(Limited {
        job_directory: Path::new(&start.directory),
        id: &start.id,
        memory_bytes_max: start.memory_bytes_max,
        processes_max: start.processes_max,
        cpu_hundredths_max: start.cpu_hundredths_max,
    });
    let result = run_job(control, start, requests.into(), &cgroup, deadline);
    cgroup.remove();
    result
}

fn run_job(
    control: &Socket,
    start: Start,
    requests: Socket,
    cgroup: &Cgroup,
    deadline: Instant,
) -> Result<Report, StepError> {
    let filters = Filters::compile(start.walls).map_err(|why| StepError {
        step: "compile the filters".to_owned(),
        why,
        number: None,
    })?;
    let (setup, setup_of_init) = Socket::pair().step(|| "make a socket".to_owned())?;
    let user = match start.ids {
        Ids::Mapped(_) | Ids::Single => libc::CLONE_NEWUSER,
        Ids::Outer => 0,
    };
    let kept_out = if start.host_network { libc::CLONE_NEWNET } else { 0 };
    let forked = match start.walls {
        Walls::Namespaces => linux::clone_into(user | linux::NAMESPACES & !kept_out, cgroup.birthplace()),
        Walls::Chroot => fork_watched(),
    };
    let forked = forked.step(|| MAKE_NAMESPACES.to_owned())?;
    let (pid, pidfd) = match forked {
        Forked::Child => {
            drop(setup);
            let process_limit = (!cgroup.limits_processes).then_some(start.processes_max);
            init::main(
                Init {
                    start,
                    filters,
                    requests,
                    process_limit,
                },
                &setup_of_init,
            );
        }
        Forked::Parent(parent) => parent,
    };
    drop((setup_of_init, requests));
    let ended = make_ready(control, &start, pid, &setup, cgroup)
        .map(|()| wait_for_end(control, &start, pid, &pidfd, deadline, cgroup));
    kill(&pidfd);
    if start.walls == Walls::Chroot {
        // What stays is ended by whoever removes the job's directory.
        leftovers::end_all_of(start.uid, ORPHAN_TRIES_MAX, |_, _| {});
    }
    let out_of_memory = cgroup::memory_kills(&cgroup.counters) > 0;
    ended.map(|ended| {
        Report::Ended(Ended {
            out_of_memory: out_of_memory || ended.out_of_memory,
            ..ended
        })
    })
}

/// Maps ids, joins cgroups, hands over the mounts, and tells the worker that the job is there.
fn make_ready(
    control: &Socket,
    start: &Start,
    pid: Pid,
    setup: &Socket,
    cgroup: &Cgroup,
) -> Result<(), StepError> {
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    map_ids(&process, start.ids)?;
    cgroup.join(pid).step(|| "join the job's cgroups".to_owned())?;
    let died = || "make the job: its first process died or was too slow".to_owned();
    setup.limit_wait(SETUP_TIMEOUT).step(died)?;
    setup.send(&Setup::IdsMapped, &[]).step(died)?;
    let user_namespace =
        fs::File::open(format!("{process}/ns/user")).step(|| "open the user namespace".to_owned())?;
    let id_map =
        matches!(start.ids, Ids::Mapped(map) if map.idmapped_mounts).then_some(user_namespace.as_fd());
    let mounts = match start.walls {
        Walls::Namespaces => mount::open_all(start, id_map)?,
        Walls::Chroot => Vec::new(),
    };
    let borrowed: Vec<BorrowedFd<'_>> = mounts.iter().map(AsFd::as_fd).collect();
    for chunk in borrowed.chunks(DESCRIPTORS_MAX) {
        setup.send(&Setup::Mounts { more: true }, chunk).step(died)?;
    }
    setup.send(&Setup::Mounts { more: false }, &[]).step(died)?;
    let received = setup.receive::<Report>().step(died)?;
    let (report, sockets) = received.ok_or(rustix::io::Errno::PIPE).step(died)?;
    match report {
        Report::Failed(error) => Err(error),
        Report::Ready { notes, .. } => {
            let report = Report::Ready {
                notes: notes.into_iter().chain(cgroup.notes.iter().cloned()).collect(),
                counters: cgroup.counters.clone(),
                limits: cgroup.limits.clone(),
                init: pid.as_raw_nonzero().get().unsigned_abs(),
            };
            let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
            control
                .send(&report, &sockets)
                .step(|| "tell the worker".to_owned())
        }
        Report::Ended(Ended { why, .. }) => Err(StepError {
            step: "make the job".to_owned(),
            why,
            number: None,
        }),
    }
}

/// Gives init's user namespace its ids.
fn map_ids(process: &str, ids: Ids) -> Result<(), StepError> {
    let write = |file: &str, text: &str| {
        let path = format!("{process}/{file}");
        identity::write_map(Path::new(&path), text).step(|| format!("map the job's ids ({text})"))
    };
    let map = match ids {
        Ids::Mapped(IdMap { first, count, .. }) => format!("0 {first} {count}"),
        Ids::Single => {
            write("setgroups", "deny")?;
            "0 0 1".to_owned()
        }
        Ids::Outer => return Ok(()),
    };
    write("uid_map", &map)?;
    write("gid_map", &map)
}

/// Waits for the end of init, of the worker or of the time.
fn wait_for_end(
    control: &Socket,
    start: &Start,
    pid: Pid,
    pidfd: &OwnedFd,
    deadline: Instant,
    cgroup: &Cgroup,
) -> Ended {
    let watched = start
        .memory_bytes_max
        .filter(|_| cgroup.counters.memory_events.is_none());
    let end = |why: &str| Ended::because(why.to_owned());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = if watched.is_some() {
            left.min(WATCH_INTERVAL)
        } else {
            left
        };
        let mut polled = [
            PollFd::new(pidfd, PollFlags::IN),
            PollFd::new(control, PollFlags::IN),
        ];
        let timeout = Timespec::try_from(wait).ok();
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return end(&error.to_string()),
            Ok(_) => {}
        }
        if !polled[0].revents().is_empty() {
            return end("its first process died");
        }
        if !polled[1].revents().is_empty() {
            return end("the worker let go of it");
        }
        if Instant::now() >= deadline {
            return end("its time was up");
        }
        if let Some(limit) = watched
            && memory_of_tree(pid) > limit
        {
            let init = pid.as_raw_nonzero().get().unsigned_abs();
            return Ended {
                out_of_memory: true,
                used_by: process_usage::by_memory(&process_usage::below(init, std::process::id())),
                ..end("it used more memory than it may")
            };
        }
    }
}

/// Forks, where not even the call that makes namespaces can be counted on. What init leaves behind comes to this process.
fn fork_watched() -> std::io::Result<Forked<(Pid, OwnedFd)>> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    match linux::fork()? {
        Forked::Child => Ok(Forked::Child),
        Forked::Parent(pid) => {
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
            Ok(Forked::Parent((pid, pidfd)))
        }
    }
}

fn kill(pidfd: &OwnedFd) {
    // The end of PID 1 is the end of every process of its namespace; waiting for it waits for all of them.
    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    let _ = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
    });
}

/// Proportional memory of a process and all below it, in bytes; 0 for what cannot be read.
fn memory_of_tree(pid: Pid) -> u64 {
    let mut waiting = vec![pid.as_raw_nonzero().get()];
    let mut bytes = 0;
    while let Some(process) = waiting.pop() {
        let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let kilobytes = rollup.lines().find_map(|line| {
            line.strip_prefix("Pss:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        });
        bytes += kilobytes.unwrap_or(0) * 1024;
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            waiting.extend(
                children
                    .split_whitespace()
                    .filter_map(|child| child.parse::<i32>().ok()),
            );
        }
    }
    bytes
}
