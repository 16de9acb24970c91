//! The job's `/proc`: its own processes, and nothing of the kernel's that could be changed or that tells too much.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::sandbox::ladder::Proc;
use crate::sandbox::mount;
use crate::sandbox::mount_point;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;

const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
const MASKED_FILES: [&str; 15] = [
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "kallsyms",
    "timer_list",
    "sched_debug",
    "latency_stats",
    "config.gz",
    // Of root alone, who without user namespaces may be the job's user 0.
    "kpagecount",
    "kpageflags",
    "kpagecgroup",
    "vmallocinfo",
    "slabinfo",
    "pagetypeinfo",
];
const MASKED_FOLDERS: [&str; 3] = ["acpi", "scsi", "asound"];

/// Opens the `/proc` that the job gets. Before the pivot: for a new one the kernel wants to see one that is whole, and
/// the one around is out of sight afterwards.
pub(crate) fn open(kind: Proc) -> Result<OwnedFd, StepError> {
    match kind {
        Proc::Own => make(),
        Proc::Outer => mount::clone_of_all(Path::new("/proc")).step(|| "open the /proc around".to_owned()),
    }
}

/// Makes a `/proc` without a place.
pub(crate) fn make() -> Result<OwnedFd, StepError> {
    let attributes = quiet() | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    // The others let group 0 see everybody; without user namespaces a job's user may be in it.
    mount::make("proc", &[("hidepid", "ptraceable")], attributes)
        .or_else(|_| mount::make("proc", &[("hidepid", "invisible")], attributes))
        .or_else(|_| mount::make("proc", &[("hidepid", "2")], attributes))
        .step(|| "make a /proc of its own".to_owned())
}

fn quiet() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV
}

/// Hides and protects parts of `/proc`. After the pivot and after `/dev`, before anything of the job runs.
pub(crate) fn protect() -> Result<(), StepError> {
    for name in READ_ONLY {
        if let Some(copy) = if_there(mount::clone_of_all(&Path::new("/proc").join(name)), name)? {
            mount::make_read_only(copy.as_fd()).step(|| format!("make /proc/{name} read-only"))?;
            cover(&copy, name)?;
        }
    }
    for name in MASKED_FILES {
        if Path::new("/proc").join(name).exists() {
            let null = mount::clone_of(Path::new("/dev/null")).step(|| "open /dev/null".to_owned())?;
            cover(&null, name)?;
        }
    }
    for name in MASKED_FOLDERS {
        if Path::new("/proc").join(name).exists() {
            cover(&empty_folder()?, name)?;
        }
    }
    Ok(())
}

/// A read-only folder with nothing in it.
pub(crate) fn empty_folder() -> Result<OwnedFd, StepError> {
    let attributes = quiet() | MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_RDONLY;
    mount::make(
        "tmpfs",
        &[("mode", "555"), ("size", "4k"), ("nr_inodes", "2")],
        attributes,
    )
    .step(|| "make an empty folder".to_owned())
}

fn cover(mount: &OwnedFd, name: &str) -> Result<(), StepError> {
    let path = Path::new("/proc").join(name);
    let target = mount_point::find(&path).step(|| format!("find `{}`", path.display()))?;
    mount::attach(mount.as_fd(), target.as_fd()).step(|| format!("cover `{}`", path.display()))
}

fn if_there(opened: rustix::io::Result<OwnedFd>, name: &str) -> Result<Option<OwnedFd>, StepError> {
    match opened {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some).step(|| format!("open /proc/{name}")),
    }
}
