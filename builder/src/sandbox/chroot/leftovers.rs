//! Ends every process of a job that has no process namespace of its own, by the user that it alone has.

use std::fs;
use std::io;

use rustix::process::Gid;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::Uid;
use rustix::process::WaitOptions;

use crate::sandbox::linux;
use crate::sandbox::linux::Forked;

/// Sends KILL to every process of `user`, at once as far as the kernel is concerned: a fork bomb does not outrun it.
/// Only for a process with one thread that may become that user.
pub(crate) fn kill_all_of(user: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    match linux::fork()? {
        Forked::Child => {
            let became = rustix::thread::set_thread_groups(&[])
                .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
                .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid));
            // As anybody else this would end the machine's processes.
            if became.is_ok() && !uid.is_root() && rustix::process::geteuid() == uid {
                linux::kill_all_others();
                linux::exit_now(0);
            }
            linux::exit_now(1);
        }
        Forked::Parent(child) => {
            rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child), WaitOptions::empty()))?;
            Ok(())
        }
    }
}

/// What the user has of processes: those that carry a job's filters, and others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Owned {
    /// Of a job: they can gain no privilege and are filtered.
    pub(crate) of_jobs: Vec<Pid>,
    /// Anybody's.
    pub(crate) others: Vec<Pid>,
}

/// Looks through `/proc`.
pub(crate) fn owned_by(user: u32) -> Owned {
    let mut owned = Owned::default();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(process) = number.and_then(Pid::from_raw) else {
            continue;
        };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        match kind_of(&status, user) {
            Some(true) => owned.of_jobs.push(process),
            Some(false) => owned.others.push(process),
            None => {}
        }
    }
    owned
}

/// Whether a process of `user` is a job's, by its `/proc/PID/status`; none if it is somebody else's or has ended.
fn kind_of(status: &str, user: u32) -> Option<bool> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).unwrap_or_default()
    };
    let is_dead = field("State:").starts_with(['Z', 'X']);
    let owner: Option<u32> = field("Uid:").split_whitespace().next()?.parse().ok();
    (owner == Some(user) && !is_dead).then(|| field("NoNewPrivs:") == "1" && field("Seccomp:") == "2")
}

/// Ends what a job has left whose monitor and init were killed both.
pub(crate) fn end_abandoned(user: u32) {
    for process in owned_by(user).of_jobs {
        // Gone already is as good.
        let _ = rustix::process::kill_process(process, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_processes_are_told_from_others_of_the_same_number() {
        let status = |owner: u32, state: &str, privileges: u32, filter: u32| {
            format!(
                "Name:\tx\nState:\t{state}\nUid:\t{owner}\t{owner}\t{owner}\t{owner}\nNoNewPrivs:\t{privileges}\n\
                 Seccomp:\t{filter}\n"
            )
        };
        for (text, expected) in [
            (status(1000, "S (sleeping)", 1, 2), Some(true)),
            (status(1000, "R (running)", 1, 0), Some(false)),
            (status(1000, "R (running)", 0, 2), Some(false)),
            (status(1000, "Z (zombie)", 1, 2), None),
            (status(1001, "S (sleeping)", 1, 2), None),
            (String::new(), None),
        ] {
            assert_eq!(kind_of(&text, 1000), expected, "{text}");
        }
    }
}
