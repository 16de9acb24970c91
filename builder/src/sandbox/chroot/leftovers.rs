//! Ends every process of a job that has no process namespace of its own, by the user that it alone has.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::DumpableBehavior;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::Uid;
use rustix::process::WaitOptions;
use rustix::process::WaitStatus;

use crate::sandbox::identity::number_of;
use crate::sandbox::linux;

/// A number that neither a job nor anybody else has.
const NOBODYS: u32 = 65_533;
/// Looks at `/proc` for what a job has left.
const TRIES_MAX: u32 = 500;

/// Ends every process of `user`, all of them children of this one sooner or later; `reaped` hears how each child ended.
/// Whether that was done within `tries_max` milliseconds.
pub(crate) fn end_all_of(user: u32, tries_max: u32, mut reaped: impl FnMut(Pid, WaitStatus)) -> bool {
    for _ in 0..tries_max {
        if kill_all_of(user).is_err() {
            return false;
        }
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => reaped(pid, status),
                Ok(None) => break,
                Err(_) => return true,
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Sends KILL to every process of `user`, at once as far as the kernel is concerned: a fork bomb does not outrun it.
/// Needs no process of its own, which a job that fills its limit could deny. Only for a process with one thread that is
/// root.
fn kill_all_of(user: u32) -> io::Result<()> {
    if user == 0 || user == NOBODYS {
        return Err(io::Error::other("that user's processes are not a job's alone"));
    }
    let (user, nobodys, root) = (Uid::from_raw(user), Uid::from_raw(NOBODYS), Uid::ROOT);
    // Signals go to those whose number is the sender's effective or real one, so neither may be root's. The job may not
    // signal this process meanwhile, since neither its real nor its saved number is the job's.
    rustix::thread::set_thread_res_uid(nobodys, user, root)?;
    linux::kill_all_others();
    rustix::thread::set_thread_res_uid(root, root, root)?;
    // Changing ids may have set it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Who a job's processes are: its user, and a group that no other job has and that no process can give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The user.
    pub(crate) user: u32,
    /// The supplementary group.
    pub(crate) group: u32,
}

impl Mark {
    /// For the job with this id. The numbers are of those that systemd keeps for services that have no account.
    pub(crate) fn of(user: u32, job: &str) -> Self {
        const FIRST: u32 = 61_184;
        const COUNT: u64 = 4_336;
        let offset = u32::try_from(number_of(OsStr::new(job)) % COUNT).unwrap_or(0);
        Self {
            user,
            group: FIRST + offset,
        }
    }
}

/// The first process of `user`, if there is one.
pub(crate) fn first_of(user: u32) -> Option<Pid> {
    processes().find_map(|(process, status)| (owner_of(&status) == Some(user)).then_some(process))
}

/// Ends what a job has left whose monitor and init were killed both, until nothing of it was seen for a while.
pub(crate) fn end_abandoned(mark: Mark) {
    const QUIET: u32 = 5;
    let mut quiet = 0;
    for _ in 0..TRIES_MAX {
        let mut seen = false;
        for (process, _) in processes().filter(|(_, status)| is_marked(status, mark)) {
            seen = true;
            // Gone already is as good.
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
        quiet = if seen { 0 } else { quiet + 1 };
        if quiet == QUIET {
            return;
        }
    }
}

/// Every process that lives, with its `/proc/PID/status`.
fn processes() -> impl Iterator<Item = (Pid, String)> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let process = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let is_dead = field(&status, "State:").starts_with(['Z', 'X']);
            (!is_dead).then_some((process, status))
        })
}

fn owner_of(status: &str) -> Option<u32> {
    field(status, "Uid:").split_whitespace().next()?.parse().ok()
}

fn is_marked(status: &str, mark: Mark) -> bool {
    let group = mark.group.to_string();
    owner_of(status) == Some(mark.user)
        && field(status, "Groups:")
            .split_whitespace()
            .any(|one| one == group)
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.map(str::trim).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_processes_are_told_from_others_of_the_same_number() {
        let mark = Mark::of(1000, "build-1-2");
        let status = |owner: u32, groups: &str| {
            format!(
                "Name:\tx\nState:\tS (sleeping)\nUid:\t{owner}\t{owner}\t{owner}\t{owner}\nGroups:\t{groups} \n"
            )
        };
        let own = mark.group.to_string();
        assert!(is_marked(&status(1000, &own), mark));
        assert!(is_marked(&status(1000, &format!("4 {own}")), mark));
        for (owner, groups) in [
            (1000, "4 27"),
            (1000, ""),
            (1001, own.as_str()),
            (1000, &format!("1{own}")),
        ] {
            assert!(!is_marked(&status(owner, groups), mark), "{owner} {groups}");
        }
        assert!(!is_marked("", mark));
        assert_ne!(mark, Mark::of(1000, "build-1-3"));
    }

    #[test]
    fn of_root_nobody_is_ended() {
        assert!(kill_all_of(0).is_err());
    }
}
