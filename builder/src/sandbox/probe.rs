//! What the kernel lets this process have for a job, found by trying it in a child that then ends.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::pipe::PipeFlags;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use serde::Deserialize;
use serde::Serialize;

use crate::sandbox::identity::write_map;
use crate::sandbox::linux;
use crate::sandbox::linux::Forked;
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
}

/// Tries. Only for a process with one thread.
pub(crate) fn probe(is_root: bool) -> io::Result<Found> {
    let with_user_namespace = try_namespaces(libc::CLONE_NEWUSER)?;
    let is_closed = |refused: &Refused| refused.obstacle != Obstacle::Proc;
    let without_user_namespace = if is_root && with_user_namespace.as_ref().is_some_and(is_closed) {
        try_namespaces(0)?
    } else {
        None
    };
    Ok(Found {
        with_user_namespace,
        without_user_namespace,
    })
}

fn try_namespaces(user: i32) -> io::Result<Option<Refused>> {
    let namespaces = user
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET;
    let (mapped, go) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (outcome, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (pid, pidfd) = match linux::clone_into(namespaces, None) {
        Ok(Forked::Child) => {
            drop(go);
            let told = inside(&mapped).map_or_else(|refused| bytes(Some(refused)), |()| bytes(None));
            // The parent takes silence for a refusal too.
            let _ = rustix::io::write(&tell, &told);
            linux::exit_now(0);
        }
        Ok(Forked::Parent(parent)) => parent,
        Err(error) => return Ok(Some(refused(Obstacle::Namespaces, &error))),
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
        Err(error) => Ok(Some(refused(Obstacle::Namespaces, error))),
    };
    drop(go);
    let ended = WaitIdOptions::EXITED;
    rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)), ended)
    })?;
    heard
}

/// One id is enough to try: this process's own user becomes root.
fn map_to_me(pid: i32) -> io::Result<()> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    // Without CAP_SETGID the kernel wants it; a container's root may lack the file.
    drop(fs::write(file("setgroups"), "deny"));
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    write_map(Path::new(&file("uid_map")), &format!("0 {} 1", uid.as_raw()))?;
    write_map(Path::new(&file("gid_map")), &format!("0 {} 1", gid.as_raw()))
}

fn inside(mapped: &OwnedFd) -> Result<(), Refused> {
    let mut byte = [0_u8; 1];
    if !matches!(rustix::io::read(mapped, &mut byte), Ok(1)) {
        linux::exit_now(1);
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|error| refused(Obstacle::Mount, &error.into()))?;
    match proc::make() {
        Ok(_) => Ok(()),
        Err(error) => Err(Refused {
            obstacle: Obstacle::Proc,
            number: error.number.unwrap_or(libc::EPERM),
        }),
    }
}

fn hear(outcome: &OwnedFd) -> io::Result<Option<Refused>> {
    let mut told = [0_u8; 2];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(outcome, &mut told))?;
    let refused = |obstacle| {
        Some(Refused {
            obstacle,
            number: i32::from(told[1]),
        })
    };
    Ok(match (length, told[0]) {
        (2, 0) => None,
        (2, 1) => refused(Obstacle::Namespaces),
        (2, 3) => refused(Obstacle::Proc),
        // A child that was killed on the way was not let either.
        _ => Some(Refused {
            obstacle: Obstacle::Mount,
            number: if length == 2 {
                i32::from(told[1])
            } else {
                libc::EPERM
            },
        }),
    })
}

fn bytes(refused: Option<Refused>) -> [u8; 2] {
    refused.map_or([0, 0], |refused| {
        let obstacle = match refused.obstacle {
            Obstacle::Namespaces => 1,
            Obstacle::Mount => 2,
            Obstacle::Proc => 3,
        };
        [obstacle, u8::try_from(refused.number).unwrap_or(u8::MAX)]
    })
}

fn refused(obstacle: Obstacle, error: &io::Error) -> Refused {
    Refused {
        obstacle,
        number: error.raw_os_error().unwrap_or(Errno::PERM.raw_os_error()),
    }
}
