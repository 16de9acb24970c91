//! What this machine gives of all that a sandbox is made of, each tried by itself with the code that jobs use. The ladder
//! stops at the first obstacle; `packhorse doctor` wants to know of every one.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::pipe::PipeFlags;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use serde::Serialize;

use crate::sandbox;
use crate::sandbox::cgroup_survey::Cgroups;
use crate::sandbox::error::SandboxError;
use crate::sandbox::filter::Filters;
use crate::sandbox::id_helper::IdHelper;
use crate::sandbox::identity;
use crate::sandbox::identity::Identity;
use crate::sandbox::identity::Surroundings;
use crate::sandbox::kernel_settings::KernelSettings;
use crate::sandbox::ladder;
use crate::sandbox::ladder::Climbed;
use crate::sandbox::ladder::Walls;
use crate::sandbox::linux;
use crate::sandbox::linux::Forked;
use crate::sandbox::mount;
use crate::sandbox::network_namespace;
use crate::sandbox::probe;
use crate::sandbox::probe::Found;
use crate::sandbox::probe::Obstacle;
use crate::sandbox::step::StepError;

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tried {
    /// It works.
    Works,
    /// The kernel refuses it with this error number.
    Refused(i32),
    /// It was not tried, since what it stands on is not there or since it is not needed.
    NotTried,
}

impl Tried {
    /// The kernel's words, of what was refused.
    pub fn why(self) -> Option<String> {
        match self {
            Self::Refused(number) => Some(io::Error::from_raw_os_error(number).to_string()),
            Self::Works | Self::NotTried => None,
        }
    }

    fn of<T>(result: io::Result<T>) -> Self {
        match result {
            Ok(_) => Self::Works,
            Err(error) => Self::Refused(error.raw_os_error().unwrap_or(libc::EPERM)),
        }
    }
}

/// Everything that was tried and read.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// What the ladder's probe found.
    pub found: Found,
    /// An overlay, in a job's mount namespace.
    pub overlay: Tried,
    /// Mapping the owners of the data directory's file system; only root does it.
    pub mapped_mount: Tried,
    /// A network namespace with its loopback.
    pub network: Tried,
    /// Both system call filters.
    pub filters: Tried,
    /// Filters that ask another process (`SECCOMP_RET_USER_NOTIF`).
    pub filter_notifies: Tried,
    /// The version of Landlock's interface; none: the kernel has no Landlock, or it is switched off.
    pub landlock: Option<u32>,
    /// Becoming who the ladder's best rung wants packhorse to be.
    pub identity: Tried,
    /// `newuidmap`, and `newgidmap`; none: not found.
    pub id_helpers: [Option<IdHelper>; 2],
    /// Limits.
    pub cgroups: Cgroups,
    /// What files say of the kernel.
    pub kernel: KernelSettings,
}

/// Climbs the ladder as a build does, and tries every thing by itself. Nothing of this process changes. To be called
/// while it has one thread.
pub fn take(
    surroundings: &Surroundings,
    data_directory: &Path,
) -> Result<(Climbed, Inventory), SandboxError> {
    let found = sandbox::found(surroundings, data_directory)?;
    let climbed = ladder::climb(surroundings, &found);
    let way = way(&found);
    let nothing_beside = |_: i32| Ok(());
    let within = |namespace: i32, act: fn() -> Result<(), StepError>| {
        way.map_or(Tried::NotTried, |user| {
            try_in(user | namespace, &nothing_beside, act)
        })
    };
    let helper = |program: &Option<PathBuf>| program.as_deref().map(IdHelper::read);
    let inventory = Inventory {
        overlay: match (way, found.overlay) {
            (None, _) => Tried::NotTried,
            (Some(_), None) => Tried::Works,
            (Some(_), Some(number)) => Tried::Refused(number),
        },
        network: within(libc::CLONE_NEWNET, network_namespace::start_loopback),
        mapped_mount: try_mapped_mount(&climbed, data_directory),
        filters: try_in(0, &nothing_beside, install_filters),
        filter_notifies: Tried::of(linux::filter_action_is_there(libc::SECCOMP_RET_USER_NOTIF)),
        landlock: linux::landlock_version().ok(),
        identity: try_identity(&climbed, surroundings),
        id_helpers: [helper(&surroundings.newuidmap), helper(&surroundings.newgidmap)],
        cgroups: Cgroups::read(),
        kernel: KernelSettings::read(Path::new("/")),
        found,
    };
    Ok((climbed, inventory))
}

/// The flag of the user namespace that jobs get: that, or 0; none: no namespace is to be had.
fn way(found: &Found) -> Option<i32> {
    let is_open =
        |refused: Option<probe::Refused>| refused.is_none_or(|refused| refused.obstacle == Obstacle::Proc);
    if is_open(found.with_user_namespace) {
        Some(libc::CLONE_NEWUSER)
    } else {
        // Only root has tried it; to others the answer is the same as with a user namespace.
        let is_root = rustix::process::geteuid().is_root();
        (is_root && is_open(found.without_user_namespace)).then_some(0)
    }
}

/// Runs `act` in a child in new namespaces, and `beside` with its process id while the child waits.
fn try_in<E: Into<StepError>>(
    namespaces: i32,
    beside: &dyn Fn(i32) -> io::Result<()>,
    act: impl FnOnce() -> Result<(), E>,
) -> Tried {
    Tried::of(run_in(namespaces, beside, act))
}

fn run_in<E: Into<StepError>>(
    namespaces: i32,
    beside: &dyn Fn(i32) -> io::Result<()>,
    act: impl FnOnce() -> Result<(), E>,
) -> io::Result<()> {
    let (may_go, go) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (outcome, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (pid, pidfd) = match linux::clone_into(namespaces, None)? {
        Forked::Child => {
            drop(go);
            let mut byte = [0_u8; 1];
            if !matches!(rustix::io::read(&may_go, &mut byte), Ok(1)) {
                linux::exit_now(1);
            }
            let number = act().map_or_else(|error| error.into().number.unwrap_or(libc::EPERM), |()| 0);
            // The parent takes silence for a refusal too.
            let _ = rustix::io::write(&tell, &number.to_ne_bytes());
            linux::exit_now(0);
        }
        Forked::Parent(parent) => parent,
    };
    drop((may_go, tell));
    let pid = pid.as_raw_nonzero().get();
    let mapped = if namespaces & libc::CLONE_NEWUSER == 0 {
        Ok(())
    } else {
        probe::map_to_me(pid)
    };
    let heard = mapped.and_then(|()| beside(pid)).and_then(|()| {
        rustix::io::write(&go, &[1])?;
        hear(&outcome)
    });
    drop(go);
    rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
    })?;
    heard
}

fn hear(outcome: &OwnedFd) -> io::Result<()> {
    let mut told = [0_u8; 4];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(outcome, &mut told))?;
    match (length, i32::from_ne_bytes(told)) {
        (4, 0) => Ok(()),
        (4, number) => Err(io::Error::from_raw_os_error(number)),
        _ => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

fn install_filters() -> Result<(), StepError> {
    use crate::sandbox::step::Step as _;
    rustix::thread::set_no_new_privs(true).step(|| "give up new privileges".to_owned())?;
    let failed = |why: String| StepError {
        step: "install the system call filters".to_owned(),
        why,
        number: io::Error::last_os_error().raw_os_error(),
    };
    Filters::compile(Walls::Namespaces)
        .and_then(|filters| filters.install())
        .map_err(failed)
}

/// As for a job of root: a copy of the mount of the data directory, with the id map of another user namespace.
fn try_mapped_mount(climbed: &Climbed, data_directory: &Path) -> Tried {
    if climbed.best.map(|best| best.identity) != Some(Identity::Root) {
        return Tried::NotTried;
    }
    let place = data_directory
        .ancestors()
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("/"));
    let map = |pid: i32| {
        let namespace = fs::File::open(format!("/proc/{pid}/ns/user"))?;
        let copy = mount::clone_of(place)?;
        linux::set_mount_attributes(copy.as_fd(), 0, Some(namespace.as_fd()))
    };
    try_in(libc::CLONE_NEWUSER, &map, || Ok::<(), StepError>(()))
}

fn try_identity(climbed: &Climbed, surroundings: &Surroundings) -> Tried {
    let Some(best) = climbed.best.filter(|best| best.walls == Walls::Namespaces) else {
        return Tried::NotTried;
    };
    let enter = || {
        identity::enter(best.identity, surroundings).map_err(|error| StepError {
            step: "map the ids".to_owned(),
            why: error.to_string(),
            number: None,
        })
    };
    try_in(0, &|_| Ok(()), enter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_is_refused_comes_back_as_the_kernels_number() {
        let nothing = |_: i32| Ok(());
        let fails = |number: i32| {
            try_in(0, &nothing, || {
                Err(StepError {
                    step: String::new(),
                    why: String::new(),
                    number: Some(number),
                })
            })
        };
        assert_eq!(fails(libc::ENOSPC), Tried::Refused(libc::ENOSPC));
        assert_eq!(
            fails(libc::ENOSPC).why().as_deref(),
            Some("No space left on device (os error 28)")
        );
        let dies = || -> Result<(), StepError> { linux::exit_now(3) };
        assert_eq!(try_in(0, &nothing, dies), Tried::Refused(libc::EPERM));
        let works = || Ok::<(), StepError>(());
        assert_eq!(try_in(0, &nothing, works), Tried::Works);
        let refuses_beside = |_: i32| Err(io::Error::from_raw_os_error(libc::EINVAL));
        assert_eq!(try_in(0, &refuses_beside, works), Tried::Refused(libc::EINVAL));
    }

    #[test]
    fn without_a_way_nothing_of_a_job_is_tried() {
        let refused = |obstacle| {
            Some(probe::Refused {
                obstacle,
                number: libc::EPERM,
            })
        };
        let found = |with, without| Found {
            with_user_namespace: with,
            without_user_namespace: without,
            ..Found::NOTHING_REFUSED
        };
        assert_eq!(way(&found(None, None)), Some(libc::CLONE_NEWUSER));
        assert_eq!(
            way(&found(refused(Obstacle::Proc), None)),
            Some(libc::CLONE_NEWUSER)
        );
        let closed = refused(Obstacle::Namespaces);
        assert_eq!(way(&found(closed, closed)), None);
    }
}
