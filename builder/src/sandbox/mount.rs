//! Mounts without a place: the monitor opens the machine's trees for a job, init puts them where they belong.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::OpenTreeFlags;

use crate::sandbox::linux;
use crate::sandbox::message::Start;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;

/// The folder of a job directory that the job sees parts of.
pub(crate) const JOB_FILES: &str = "files";
/// The folder in it with the root file system, where that is a copy.
pub(crate) const ROOT_COPY: &str = "root";

/// The mounts of a job in the order in which they are handed over.
#[derive(Debug)]
pub(crate) struct JobMounts {
    /// The job's own folder: `upper`, `work`, `tmp`, `etc`.
    pub(crate) files: OwnedFd,
    /// The root file system's trees, the top one first.
    pub(crate) root_layers: Vec<OwnedFd>,
    /// The trees below `/layers`, the newest first.
    pub(crate) layers_lowers: Vec<OwnedFd>,
    /// The folder with `upper` and `work` of `/layers`.
    pub(crate) layers_directory: OwnedFd,
    /// The binds, in the order of the spec.
    pub(crate) binds: Vec<OwnedFd>,
}

impl JobMounts {
    /// Sorts what was received; none if their number is wrong.
    pub(crate) fn of(start: &Start, received: Vec<OwnedFd>) -> Option<Self> {
        let mut received = received.into_iter();
        let mounts = Self {
            files: received.next()?,
            root_layers: received.by_ref().take(start.root_layers.len()).collect(),
            layers_lowers: received.by_ref().take(start.layers_lowers.len()).collect(),
            layers_directory: received.next()?,
            binds: received.collect(),
        };
        (mounts.binds.len() == start.binds.len()).then_some(mounts)
    }
}

/// Opens all mounts of a job, in the order of [`JobMounts`], mapped by the job's user namespace if one is given.
pub(crate) fn open_all(start: &Start, id_map: Option<BorrowedFd<'_>>) -> Result<Vec<OwnedFd>, StepError> {
    let own = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let read_only = own | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let open = |path: &OsStr, attributes| open_mapped(Path::new(path), attributes, id_map);
    let mut mounts = vec![open(
        Path::new(&start.directory).join(JOB_FILES).as_os_str(),
        own,
    )?];
    for layer in start.root_layers.iter().chain(&start.layers_lowers) {
        mounts.push(open(layer, read_only)?);
    }
    mounts.push(open(&start.layers_directory, own)?);
    for bind in &start.binds {
        mounts.push(open(&bind.source, if bind.read_only { read_only } else { own })?);
    }
    Ok(mounts)
}

fn open_mapped(
    path: &Path,
    attributes: MountAttrFlags,
    id_map: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, StepError> {
    let mount = clone_of(path).step(|| format!("open `{}` for the job", path.display()))?;
    let bits = u64::from(attributes.bits());
    match linux::set_mount_attributes(mount.as_fd(), bits, id_map) {
        Ok(()) => Ok(mount),
        // Some file systems (overlay, network) cannot be mapped; for reading alone the owners do not matter.
        Err(error)
            if error.raw_os_error() == Some(libc::EINVAL)
                && attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) =>
        {
            linux::set_mount_attributes(mount.as_fd(), bits, None)
                .step(|| format!("set the attributes of `{}`", path.display()))?;
            Ok(mount)
        }
        Err(error) => Err(error).step(|| format!("map the owners of `{}` for the job", path.display())),
    }
}

/// A copy of the mount at `path`, without a place.
pub(crate) fn clone_of(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::mount::open_tree(
        CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
}

/// A copy of the mount at `path` with everything that is mounted below it, without a place.
pub(crate) fn clone_of_all(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::mount::open_tree(
        CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE,
    )
}

/// Puts a mount at `target`.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

/// Puts a mount at a path that is relative to the working directory.
pub(crate) fn attach_at(mount: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    rustix::mount::move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// A new mount of a kernel file system, without a place.
pub(crate) fn make(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&context, *key, *value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Makes a mount read-only.
pub(crate) fn make_read_only(mount: BorrowedFd<'_>) -> io::Result<()> {
    linux::set_mount_attributes(mount, u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()), None)
}
