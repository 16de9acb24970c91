//! Builds the job's root file system in init's mount namespace and moves into it.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::mount::MountAttrFlags;
use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::mount::UnmountFlags;

use crate::sandbox::device;
use crate::sandbox::device::attach_new;
use crate::sandbox::ladder::Trees;
use crate::sandbox::message::Start;
use crate::sandbox::mount;
use crate::sandbox::mount::JOB_FILES;
use crate::sandbox::mount::JobMounts;
use crate::sandbox::mount::ROOT_COPY;
use crate::sandbox::mount_point;
use crate::sandbox::mount_point::Place;
use crate::sandbox::network_namespace;
use crate::sandbox::proc;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;

/// Where mounts stand until the pivot. Every machine has this folder, and the job gets a `/proc` of its own.
const STAGE: &str = "/proc";
/// Files that the worker wrote for the job, and where they appear.
pub(crate) const WRITTEN_FILES: [(&str, &str); 3] = [
    ("resolv.conf", "/etc/resolv.conf"),
    ("hosts", "/etc/hosts"),
    ("hostname", "/etc/hostname"),
];

/// What init keeps for later.
#[derive(Debug)]
pub(crate) struct Root {
    /// The mount for `/layers`, not attached yet.
    pub(crate) layers: OwnedFd,
}

/// Builds the root and pivots into it. Afterwards nothing of the machine is in sight but what the spec names.
pub(crate) fn build(start: &Start, mounts: &JobMounts) -> Result<Root, StepError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).step(|| "make mounts private".to_owned())?;
    let proc = proc::open(start.proc)?;
    let devices = device::open_devices()?;
    let layers = stage_mounts(start, mounts)?;
    let written = open_written_files()?;
    let temporary = mount::clone_of(Path::new("j/tmp")).step(|| "open the job's /tmp".to_owned())?;

    rustix::process::chdir("root").step(|| "enter the new root".to_owned())?;
    leave_machine()?;
    rustix::process::chdir("/").step(|| "enter the new root".to_owned())?;

    attach_new(&proc, "/proc", Place::Directory)?;
    // Without a namespace of its own the job would set it for the machine.
    if !start.host_network {
        network_namespace::allow_low_ports();
    }
    device::attach(&devices)?;
    proc::protect()?;
    attach_new(&proc::empty_folder()?, "/sys", Place::Directory)?;
    attach_new(&temporary, "/tmp", Place::Directory)?;
    for (mount, path) in &written {
        attach_new(mount, path, Place::File)?;
    }
    attach_binds(start, mounts)?;
    make_user(start)?;
    make_layers_folder(start)?;
    Ok(Root { layers })
}

/// Moves into a root that was laid out as a folder, where nothing can be mounted.
pub(crate) fn enter_folder(start: &Start) -> Result<(), StepError> {
    let folder = Path::new(&start.directory).join(JOB_FILES).join(ROOT_COPY);
    rustix::process::chdir(&folder)
        .and_then(|()| rustix::process::chroot("."))
        .and_then(|()| rustix::process::chdir("/"))
        .step(|| "enter the job's root".to_owned())?;
    make_user(start)?;
    make_layers_folder(start)
}

/// Makes the working directory the root and lets go of the machine's.
fn leave_machine() -> Result<(), StepError> {
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => rustix::mount::unmount(".", UnmountFlags::DETACH)
            .step(|| "let go of the machine's root".to_owned()),
        // Containers' filters refuse it even where every mount is allowed; the machine's root is then covered.
        Err(rustix::io::Errno::PERM) => rustix::mount::mount_move(".", "/")
            .and_then(|()| rustix::process::chroot("."))
            .step(|| "cover the machine's root".to_owned()),
        Err(error) => Err(error).step(|| "make the new root the root".to_owned()),
    }
}

/// Puts the trees under short names on a small file system and mounts the overlays over them; the working directory is
/// that file system then. Short relative names, because mount(2) takes one page of options.
fn stage_mounts(start: &Start, mounts: &JobMounts) -> Result<OwnedFd, StepError> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let stage = mount::make("tmpfs", &[("mode", "700"), ("size", "4m")], attributes)
        .step(|| "make a stage".to_owned())?;
    mount::attach_at(stage.as_fd(), STAGE).step(|| "attach the stage".to_owned())?;
    rustix::process::chdir(STAGE).step(|| "enter the stage".to_owned())?;
    place(&mounts.files, "j")?;
    place(&mounts.layers_directory, "s")?;
    for (position, layer) in mounts.root_layers.iter().enumerate() {
        place(layer, &format!("r{position}"))?;
    }
    for (position, layer) in mounts.layers_lowers.iter().enumerate() {
        place(layer, &format!("l{position}"))?;
    }
    let names = |prefix: &str, count: usize| {
        (0..count)
            .map(|position| format!("{prefix}{position}"))
            .collect::<Vec<_>>()
    };
    match start.trees {
        Trees::Overlay => mount_overlay("root", &names("r", mounts.root_layers.len()), "j", true)?,
        Trees::Copies => {
            let copy = mount::clone_of(&Path::new("j").join(ROOT_COPY))
                .step(|| "open the copied root".to_owned())?;
            place(&copy, "root")?;
        }
    }
    if mounts.layers_lowers.is_empty() {
        return mount::clone_of(Path::new("s/upper")).step(|| "open the folder for /layers".to_owned());
    }
    mount_overlay(
        "layers",
        &names("l", mounts.layers_lowers.len()),
        "s",
        start.layers_volatile,
    )?;
    mount::clone_of(Path::new("layers")).step(|| "open the overlay for /layers".to_owned())
}

fn place(mount: &OwnedFd, name: &str) -> Result<(), StepError> {
    make_folder(name)?;
    mount::attach_at(mount.as_fd(), name).step(|| format!("stage `{name}`"))
}

fn make_folder(name: &str) -> Result<(), StepError> {
    rustix::fs::mkdir(name, Mode::RWXU).step(|| format!("make the folder `{name}`"))
}

/// Mounts an overlay at the new folder `target`; all names are relative to the working directory.
fn mount_overlay(target: &str, lowers: &[String], writable: &str, volatile: bool) -> Result<(), StepError> {
    make_folder(target)?;
    let volatile = if volatile { ",volatile" } else { "" };
    let options = format!(
        "lowerdir={},upperdir={writable}/upper,workdir={writable}/work,userxattr{volatile}",
        lowers.join(":")
    );
    let options = std::ffi::CString::new(options)
        .map_err(std::io::Error::from)
        .step(|| "name the layers".to_owned())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("overlay", target, "overlay", flags, Some(options.as_c_str()))
        .step(|| format!("mount the overlay for `{target}` ({} layers)", lowers.len()))
}

fn open_written_files() -> Result<Vec<(OwnedFd, &'static str)>, StepError> {
    WRITTEN_FILES
        .iter()
        .map(|(name, target)| {
            let mount = mount::clone_of(&Path::new("j/etc").join(name))
                .step(|| format!("open the job's `{name}`"))?;
            mount::make_read_only(mount.as_fd()).step(|| format!("make `{target}` read-only"))?;
            Ok((mount, *target))
        })
        .collect()
}

fn attach_binds(start: &Start, mounts: &JobMounts) -> Result<(), StepError> {
    for (bind, mount) in start.binds.iter().zip(&mounts.binds) {
        if bind.only_over_existing && mount_point::find(Path::new(&bind.target)).is_err() {
            continue;
        }
        let status = rustix::fs::fstat(mount).step(|| format!("look at `{}`", bind.source.display()))?;
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        attach_new(
            mount,
            &bind.target,
            if is_directory {
                Place::Directory
            } else {
                Place::File
            },
        )?;
    }
    Ok(())
}

/// Gives the user a home and a name: ssh, git and npm want to know who they are.
pub(crate) fn make_user(start: &Start) -> Result<(), StepError> {
    let home = Path::new(&start.home);
    let (uid, gid) = start.user_of_init();
    mount_point::make_home(home, uid, gid).step(|| format!("make the home `{}`", home.display()))?;
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    let knows = |text: &str, number: u32| {
        text.lines()
            .any(|line| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(number))
    };
    if !knows(&passwd, start.uid) {
        let line = format!(
            "{}:x:{}:{}::{}:/bin/sh",
            start.user_name,
            start.uid,
            start.gid,
            home.display()
        );
        append("/etc/passwd", &passwd, &line)?;
    }
    if !knows(&group, start.gid) {
        append(
            "/etc/group",
            &group,
            &format!("{}:x:{}:", start.user_name, start.gid),
        )?;
    }
    Ok(())
}

fn append(path: &str, before: &str, line: &str) -> Result<(), StepError> {
    let gap = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let written = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| writeln!(file, "{gap}{line}"));
    written.step(|| format!("write `{path}`"))
}

/// The folder that stands at `/layers` until the layers are attached.
pub(crate) fn make_layers_folder(start: &Start) -> Result<(), StepError> {
    let step = || "make /layers".to_owned();
    let folder = mount_point::find_or_make(Path::new("/layers"), Place::Directory).step(step)?;
    let (uid, gid) = start.user_of_init();
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::chownat(&folder, "", Some(uid), Some(gid), rustix::fs::AtFlags::EMPTY_PATH).step(step)
}
