//! The job's `/dev`: six devices of the machine, terminals and shared memory of its own, nothing else.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::MountAttrFlags;

use crate::sandbox::mount;
use crate::sandbox::mount_point;
use crate::sandbox::mount_point::Place;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Opens the machine's devices; before the pivot, while its `/dev` is in sight.
pub(crate) fn open_devices() -> Result<Vec<(&'static str, OwnedFd)>, StepError> {
    DEVICES
        .iter()
        .map(|name| {
            let path = Path::new("/dev").join(name);
            Ok((
                *name,
                mount::clone_of(&path).step(|| format!("open `{}`", path.display()))?,
            ))
        })
        .collect()
}

/// Makes `/dev`; after the pivot.
pub(crate) fn attach(devices: &[(&'static str, OwnedFd)]) -> Result<(), StepError> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let folder = mount::make(
        "tmpfs",
        &[("mode", "755"), ("size", "64k"), ("nr_inodes", "64")],
        quiet,
    )
    .step(|| "make /dev".to_owned())?;
    attach_new(&folder, "/dev", Place::Directory)?;
    for (name, device) in devices {
        attach_new(device, format!("/dev/{name}"), Place::File)?;
    }
    let terminals = mount::make("devpts", &[("ptmxmode", "0666"), ("mode", "0620")], quiet)
        .step(|| "make /dev/pts".to_owned())?;
    attach_new(&terminals, "/dev/pts", Place::Directory)?;
    let shared = quiet | MountAttrFlags::MOUNT_ATTR_NODEV;
    let memory = mount::make(
        "tmpfs",
        &[("mode", "1777"), ("size", "256m"), ("nr_inodes", "65536")],
        shared,
    )
    .step(|| "make /dev/shm".to_owned())?;
    attach_new(&memory, "/dev/shm", Place::Directory)?;
    for (name, target) in LINKS {
        rustix::fs::symlink(target, Path::new("/dev").join(name))
            .step(|| format!("make the link /dev/{name}"))?;
    }
    mount::make_read_only(folder.as_fd()).step(|| "make /dev read-only".to_owned())
}

/// Puts a mount at a path of the job, which is made if it is missing.
pub(crate) fn attach_new(mount: &OwnedFd, path: impl AsRef<OsStr>, place: Place) -> Result<(), StepError> {
    let path = Path::new(path.as_ref());
    let target = mount_point::find_or_make(path, place)
        .step(|| format!("make the mount point `{}`", path.display()))?;
    mount::attach(mount.as_fd(), target.as_fd()).step(|| format!("mount `{}`", path.display()))
}
