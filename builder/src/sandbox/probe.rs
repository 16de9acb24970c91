//! What the kernel lets this process have for a job, found by trying it in a child that then ends.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::pipe::PipeFlags;
use rustix::process::Gid;
use rustix::process::Uid;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use rustix::process::WaitOptions;
use serde::Deserialize;
use serde::Serialize;

use crate::sandbox::identity::write_map;
use crate::sandbox::linux;
use crate::sandbox::linux::Forked;
use crate::sandbox::mount;
use crate::sandbox::proc;

/// The first thing on the way to a job that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// Namespaces cannot be made.
    Namespaces,
    /// They can, and nothing may be mounted in them: security modules do that.
    Mount,
    /// Everything but a `/proc` of the job's own, which the kernel refuses where the one around is covered in parts.
    Proc,
}

/// An obstacle, with the kernel's error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What was refused.
    pub obstacle: Obstacle,
    /// The error number.
    pub number: i32,
}

impl Refused {
    /// The kernel's words.
    pub fn why(self) -> String {
        io::Error::from_raw_os_error(self.number).to_string()
    }
}

/// What was found: nothing refused, or what was, with a user namespace and (only tried by root) without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// With a user namespace.
    pub with_user_namespace: Option<Refused>,
    /// Without one; tried where the first way cannot be gone and this process is root.
    pub without_user_namespace: Option<Refused>,
    /// The error number with which an overlay was refused on the way that can be gone.
    pub overlay: Option<i32>,
    /// Whether the data directory lies on an overlay, on which no other can write.
    pub disk_is_overlay: bool,
    /// The error number with which another root folder and another user were refused; tried by root where neither way
    /// can be gone.
    pub chroot: Option<i32>,
}

impl Found {
    /// A machine that refuses nothing.
    pub const NOTHING_REFUSED: Self = Self {
        with_user_namespace: None,
        without_user_namespace: None,
        overlay: None,
        disk_is_overlay: false,
        chroot: None,
    };
}

/// How one way ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tried {
    refused: Option<Refused>,
    overlay: Option<i32>,
}

impl Tried {
    fn stopped(obstacle: Obstacle, error: &io::Error) -> Self {
        Self {
            refused: Some(refused(obstacle, error)),
            overlay: None,
        }
    }

    fn is_closed(self) -> bool {
        self.refused
            .is_some_and(|refused| refused.obstacle != Obstacle::Proc)
    }
}

/// Tries. Only for a process with one thread. `data_directory` need not be there yet.
pub(crate) fn probe(is_root: bool, data_directory: &Path) -> io::Result<Found> {
    let with = try_namespaces(libc::CLONE_NEWUSER)?;
    let without = if is_root && with.is_closed() {
        Some(try_namespaces(0)?)
    } else {
        None
    };
    let chroot = match without {
        Some(without) if without.is_closed() => try_chroot()?,
        _ => None,
    };
    Ok(Found {
        with_user_namespace: with.refused,
        without_user_namespace: without.and_then(|without| without.refused),
        overlay: without.unwrap_or(with).overlay,
        disk_is_overlay: lies_on_overlay(data_directory),
        chroot,
    })
}

/// Whether a folder, or the first above it that is there, is one of an overlay mount.
fn lies_on_overlay(folder: &Path) -> bool {
    const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
    let found = folder
        .ancestors()
        .find_map(|folder| rustix::fs::statfs(folder).ok());
    found.is_some_and(|found| found.f_type == OVERLAYFS_SUPER_MAGIC)
}

/// The error number with which another root folder and another user are refused.
fn try_chroot() -> io::Result<Option<i32>> {
    let nobody = (Uid::from_raw(65_534), Gid::from_raw(65_534));
    let act = || {
        rustix::process::chroot("/")?;
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(nobody.1, nobody.1, nobody.1)?;
        rustix::thread::set_thread_res_uid(nobody.0, nobody.0, nobody.0)
    };
    let child = match linux::fork()? {
        Forked::Child => linux::exit_now(act().map_or_else(Errno::raw_os_error, |()| 0)),
        Forked::Parent(child) => child,
    };
    let ended = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child), WaitOptions::empty()))?;
    let code = ended
        .and_then(|(_, status)| status.exit_status())
        .unwrap_or(libc::EPERM);
    Ok(Some(code).filter(|code| *code != 0))
}

fn try_namespaces(user: i32) -> io::Result<Tried> {
    let (mapped, go) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (outcome, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (pid, pidfd) = match linux::clone_into(user | linux::NAMESPACES, None) {
        Ok(Forked::Child) => {
            drop(go);
            let told = bytes(inside(&mapped));
            // The parent takes silence for a refusal too.
            let _ = rustix::io::write(&tell, &told);
            linux::exit_now(0);
        }
        Ok(Forked::Parent(parent)) => parent,
        Err(error) => return Ok(Tried::stopped(Obstacle::Namespaces, &error)),
    };
    drop((mapped, tell));
    let map = if user == 0 {
        Ok(())
    } else {
        map_to_me(pid.as_raw_nonzero().get())
    };
    let heard = match &map {
        Ok(()) => rustix::io::write(&go, &[1])
            .map_err(io::Error::from)
            .and_then(|_| hear(&outcome)),
        Err(error) => Ok(Tried::stopped(Obstacle::Namespaces, error)),
    };
    drop(go);
    let ended = WaitIdOptions::EXITED;
    rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), ended))?;
    heard
}

/// One id is enough to try: this process's own user becomes root.
pub(crate) fn map_to_me(pid: i32) -> io::Result<()> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    // Without CAP_SETGID the kernel wants it; a container's root may lack the file.
    drop(fs::write(file("setgroups"), "deny"));
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    write_map(Path::new(&file("uid_map")), &format!("0 {} 1", uid.as_raw()))?;
    write_map(Path::new(&file("gid_map")), &format!("0 {} 1", gid.as_raw()))
}

fn inside(mapped: &OwnedFd) -> Tried {
    let mut byte = [0_u8; 1];
    if !matches!(rustix::io::read(mapped, &mut byte), Ok(1)) {
        linux::exit_now(1);
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    if let Err(error) = rustix::mount::mount_change("/", private) {
        return Tried::stopped(Obstacle::Mount, &error.into());
    }
    let proc = proc::make().err().map(|error| Refused {
        obstacle: Obstacle::Proc,
        number: error.number.unwrap_or(libc::EPERM),
    });
    // Last, since it covers the `/proc` that the kernel wants to see.
    Tried {
        refused: proc,
        overlay: try_overlay().err().map(Errno::raw_os_error),
    }
}

fn try_overlay() -> rustix::io::Result<()> {
    const STAGE: &str = "/proc";
    let stage = mount::make(
        "tmpfs",
        &[("mode", "700"), ("size", "64k")],
        MountAttrFlags::empty(),
    )?;
    mount::attach_at(stage.as_fd(), STAGE)?;
    rustix::process::chdir(STAGE)?;
    for name in ["lower", "upper", "work", "both"] {
        rustix::fs::mkdir(name, Mode::RWXU)?;
    }
    let options = c"lowerdir=lower,upperdir=upper,workdir=work,userxattr";
    rustix::mount::mount("overlay", "both", "overlay", MountFlags::empty(), options)
}

/// Obstacle, its error number, the overlay's error number; 0 for none.
fn bytes(tried: Tried) -> [u8; 3] {
    let number = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    let obstacle = tried.refused.map_or(0, |refused| match refused.obstacle {
        Obstacle::Namespaces => 1,
        Obstacle::Mount => 2,
        Obstacle::Proc => 3,
    });
    [
        obstacle,
        tried.refused.map_or(0, |refused| number(refused.number)),
        tried.overlay.map_or(0, number),
    ]
}

fn hear(outcome: &OwnedFd) -> io::Result<Tried> {
    let mut told = [0_u8; 3];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(outcome, &mut told))?;
    let (obstacle, number) = (told[0], i32::from(told[1]));
    let obstacle = match (length, obstacle) {
        (3, 0) => None,
        (3, 1) => Some(Obstacle::Namespaces),
        (3, 3) => Some(Obstacle::Proc),
        // A child that was killed on the way was not let either.
        _ => Some(Obstacle::Mount),
    };
    let number = if length == 3 { number } else { libc::EPERM };
    Ok(Tried {
        refused: obstacle.map(|obstacle| Refused { obstacle, number }),
        overlay: Some(i32::from(told[2])).filter(|number| *number != 0),
    })
}

fn refused(obstacle: Obstacle, error: &io::Error) -> Refused {
    Refused {
        obstacle,
        number: error.raw_os_error().unwrap_or(Errno::PERM.raw_os_error()),
    }
}
