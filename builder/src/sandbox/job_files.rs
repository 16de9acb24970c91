//! The folders and files that the worker makes for a job before it starts, each with its owner.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::oci::overlay::merge::Files;
use crate::oci::overlay::merge::merge;
use crate::sandbox::error::SandboxError;
use crate::sandbox::error::start_error_at;
use crate::sandbox::ladder::Trees;
use crate::sandbox::mount::JOB_FILES;
use crate::sandbox::mount::ROOT_COPY;
use crate::sandbox::spec::JobSpec;
use crate::sandbox::spec::NAME_SERVER;
use crate::sandbox::spec::Network;

/// The machine's own name servers, for a job that has the machine's network.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Makes what the job writes to, owned by whom it must be owned by.
pub(crate) fn make_folders(spec: &JobSpec) -> Result<(), SandboxError> {
    let owners = spec.ground.owners();
    let root = (owners.on_disk(0), owners.on_disk(0));
    let user = (owners.on_disk(spec.user.uid), owners.on_disk(spec.user.gid));
    let files = spec.directory.path().join(JOB_FILES);
    let layers = &spec.layers.directory;
    let folders = [
        (files.clone(), 0o755, root),
        (files.join("upper"), 0o755, root),
        (files.join("work"), 0o700, root),
        (files.join("tmp"), 0o1777, root),
        (files.join("etc"), 0o755, root),
        (layers.clone(), 0o700, root),
        (layers.join("upper"), 0o755, user),
        (layers.join("work"), 0o700, root),
    ];
    for (path, mode, owner) in folders {
        make_folder(&path, mode, owner).map_err(start_error_at("make", &path))?;
    }
    if spec.ground.trees == Trees::Copies {
        copy_trees(spec)?;
    }
    let name_server = match spec.network {
        Network::None => String::new(),
        Network::Listeners { .. } | Network::Proxy { .. } => {
            format!("nameserver {NAME_SERVER}\noptions edns0\n")
        }
        // Where it cannot be read there is none, which the job will see by itself.
        Network::Host => fs::read_to_string(RESOLV_CONF).unwrap_or_default(),
    };
    let hosts = format!(
        "127.0.0.1 localhost {0}\n::1 localhost ip6-localhost ip6-loopback {0}\n",
        spec.hostname
    );
    let hostname = format!("{}\n", spec.hostname);
    for (name, text) in [
        ("resolv.conf", name_server),
        ("hosts", hosts),
        ("hostname", hostname),
    ] {
        let path = files.join("etc").join(name);
        write_file(&path, &text, root).map_err(start_error_at("write", &path))?;
    }
    Ok(())
}

/// The job's own copies: of its root file system, and of the layers that were kept.
fn copy_trees(spec: &JobSpec) -> Result<(), SandboxError> {
    let root = spec.directory.path().join(JOB_FILES).join(ROOT_COPY);
    fs::create_dir(&root).map_err(start_error_at("make", &root))?;
    merge(&spec.root_layers, &root, Files::Copied)?;
    if spec.layers.lowers.is_empty() {
        return Ok(());
    }
    let upper = spec.layers.directory.join("upper");
    merge(&spec.layers.lowers, &upper, Files::Copied)?;
    // As under an overlay, where the lowers' top folders do not count.
    let owners = spec.ground.owners();
    let (uid, gid) = (owners.on_disk(spec.user.uid), owners.on_disk(spec.user.gid));
    std::os::unix::fs::chown(&upper, Some(uid), Some(gid))
        .and_then(|()| fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)))
        .map_err(start_error_at("make", &upper))
}

fn make_folder(path: &Path, mode: u32, (uid, gid): (u32, u32)) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
            // Again, because the umask took part in making it.
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        }
    }
}

fn write_file(path: &Path, text: &str, (uid, gid): (u32, u32)) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    std::os::unix::fs::chown(path, Some(uid), Some(gid))
}
