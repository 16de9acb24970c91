//! Fills the job's root folder before anything of the job runs: without mounts, what the job sees must lie in it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;

use crate::oci::overlay::merge::Files;
use crate::oci::overlay::merge::merge;
use crate::oci::overlay::view::Seen;
use crate::oci::overlay::view::look_up;
use crate::oci::removal;
use crate::sandbox::certificates;
use crate::sandbox::error::SandboxError;
use crate::sandbox::mount::JOB_FILES;
use crate::sandbox::mount::ROOT_COPY;
use crate::sandbox::mount_point::Place;
use crate::sandbox::root::WRITTEN_FILES;
use crate::sandbox::spec::BindMode;
use crate::sandbox::spec::JobSpec;

/// The devices that programs count on: name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// Folders that every program expects, and their modes.
const FOLDERS: [(&str, u32); 4] = [
    ("/proc", 0o555),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/dev/shm", 0o1777),
];

/// Lays out everything that other rungs mount. The copy of the image's root is there already.
pub(crate) fn lay_out(spec: &JobSpec) -> Result<(), SandboxError> {
    let files = spec.directory.path().join(JOB_FILES);
    let root = files.join(ROOT_COPY);
    for (folder, mode) in FOLDERS {
        at(folder, || {
            let folder = find_or_make(&root, Path::new(folder), Place::Directory)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(mode))
        })?;
    }
    make_devices(&root)?;
    for (name, target) in WRITTEN_FILES {
        copy_in(&root, &files.join("etc").join(name), Path::new(target))?;
    }
    for bind in &spec.binds {
        if bind.mode == BindMode::ReadWrite {
            return Err(SandboxError::Forbidden {
                what: format!("showing `{}` for writing", bind.source.display()),
                why: "this rung mounts nothing".to_owned(),
                cure: "leave the folder out, or run where a stronger sandbox is to be had".to_owned(),
            });
        }
        copy_in(&root, &bind.source, &bind.target)?;
    }
    for bind in spec
        .environment_ca
        .iter()
        .flat_map(|bundle| certificates::binds(bundle))
    {
        let target = Path::new(&bind.target);
        if bind.only_over_existing
            && !matches!(look_up(std::slice::from_ref(&root), target), Ok(Seen::File(_)))
        {
            continue;
        }
        copy_in(&root, Path::new(&bind.source), target)?;
    }
    at("/workspace", || {
        let place = find_or_make(&root, Path::new("/workspace"), Place::Directory)?;
        removal::remove(&place)?;
        fs::rename(&spec.workspace, &place)
    })
}

fn make_devices(root: &Path) -> Result<(), SandboxError> {
    let made = || -> io::Result<()> {
        let folder = find_or_make(root, Path::new("/dev"), Place::Directory)?;
        for (name, major, minor) in DEVICES {
            let path = folder.join(name);
            removal::remove(&path)?;
            let number = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), number)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        }
        fs::File::open(folder.join("null")).map(drop)
    };
    made().map_err(|error| SandboxError::Forbidden {
        what: "making `/dev/null` for the job".to_owned(),
        why: error.to_string(),
        cure: "the container needs the capability MKNOD (Docker gives it by default), and the data directory a disk \
               that is not mounted `nodev`"
            .to_owned(),
    })
}

/// Copies a file or a folder of the machine to a place of the job.
fn copy_in(root: &Path, source: &Path, target: &Path) -> Result<(), SandboxError> {
    let is_directory = source.is_dir();
    let place = if is_directory {
        Place::Directory
    } else {
        Place::File
    };
    let name = target.display().to_string();
    let place = at(&name, || find_or_make(root, target, place))?;
    at(&name, || removal::remove(&place))?;
    if is_directory {
        at(&name, || fs::create_dir(&place))?;
        return Ok(merge(&[source.to_owned()], &place, Files::Copied)?);
    }
    at(&name, || fs::copy(source, &place).map(drop))
}

/// The place on the machine of a path of the job, made if it is missing. The image decides what its links are, and all
/// of them end inside; a dangling one gives way to what is to stand there.
fn find_or_make(root: &Path, target: &Path, place: Place) -> io::Result<PathBuf> {
    let mut here = root.to_owned();
    let mut inside = PathBuf::new();
    let names: Vec<_> = target
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    for (position, name) in names.iter().enumerate() {
        inside.push(name);
        let is_last = position + 1 == names.len();
        here = match look_up(&[root.to_owned()], &inside)? {
            Seen::Folder(folders) => folders.into_iter().next().unwrap_or_default(),
            Seen::File(path) if is_last => path,
            Seen::File(path) => return Err(io::Error::other(format!("`{}` is no folder", path.display()))),
            Seen::Nothing => {
                let path = here.join(name);
                removal::remove(&path)?;
                if is_last && place == Place::File {
                    fs::File::create(&path)?;
                } else {
                    fs::create_dir(&path)?;
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
                }
                path
            }
        };
    }
    Ok(here)
}

fn at<T>(target: &str, act: impl FnOnce() -> io::Result<T>) -> Result<T, SandboxError> {
    act().map_err(|source| SandboxError::Directory {
        action: "lay out",
        path: PathBuf::from(target),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn places_are_inside_whatever_the_images_links_say() {
        let machine = tempfile::tempdir().unwrap();
        let root = machine.path().join("root");
        fs::create_dir_all(root.join("run")).unwrap();
        fs::create_dir(machine.path().join("outside")).unwrap();
        symlink(machine.path().join("outside"), root.join("etc")).unwrap();
        symlink("../../outside", root.join("cnb")).unwrap();
        symlink("/run", root.join("tmp")).unwrap();
        let find = |path: &str, place| find_or_make(&root, Path::new(path), place).unwrap();
        assert_eq!(find("/etc/hosts", Place::File), root.join("etc/hosts"));
        assert_eq!(find("/cnb/x", Place::Directory), root.join("cnb/x"));
        assert_eq!(find("/tmp/y/z", Place::File), root.join("run/y/z"));
        assert_eq!(fs::read_dir(machine.path().join("outside")).unwrap().count(), 0);
    }
}
