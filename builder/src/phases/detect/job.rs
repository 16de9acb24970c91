//! Starts the build's one sandbox: base, workspace, buildpacks, the user's variables and the last build's layers.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::buildpack::bindings::BINDINGS;
use crate::events::Event;
use crate::model::policy::NetworkPolicy;
use crate::model::request::BuildRequest;
use crate::network::gateway::GatewaySetup;
use crate::network::way_out::WayOut;
use crate::phases::detect::DetectError;
use crate::phases::detect::buildpacks;
use crate::phases::detect::buildpacks::Shelved;
use crate::phases::detect::workspace;
use crate::phases::handover::Bases;
use crate::phases::handover::Origin;
use crate::phases::handover::SCOPE;
use crate::phases::handover::Sandbox;
use crate::phases::handover::Source;
use crate::phases::handover::Tools;
use crate::phases::handover::USER_ID;
use crate::sandbox;
use crate::sandbox::directory::JobDirectory;
use crate::sandbox::ladder::Missing;
use crate::sandbox::ladder::Trees;
use crate::sandbox::native::NativeJob;
use crate::sandbox::spec::Bind;
use crate::sandbox::spec::BindMode;
use crate::sandbox::spec::JobSpec;
use crate::sandbox::spec::LayersState;
use crate::sandbox::spec::User;
use crate::store::copy::CopyRules;
use crate::store::copy::copy_directory;
use crate::store::embedded::Embedded;
use crate::store::stat_cache::HashRules;

/// The home folder of the job's user.
pub(super) const HOME: &str = "/home/cnb";
/// The job's host name; the same everywhere, as it may end in what buildpacks write.
pub(super) const HOSTNAME: &str = "packhorse";
/// Where the base keeps the certificates of authorities.
const CA_BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// What is said of `--network host`.
const HOST_NETWORK: &str = "the buildpacks' build steps have this machine's own network (`host`): no rule of the \
                            network policy holds, and they reach what listens on its loopback";
/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// The most files and bytes of one buildpack.
const BUILDPACK_ENTRIES_MAX: u64 = 200_000;
const BUILDPACK_BYTES_MAX: u64 = 4 << 30;

/// Starts the sandbox, its way out closed. Must be called on a runtime, since the way out needs one.
pub(super) fn start(
    source: &Source,
    request: &BuildRequest,
    tools: &Tools<'_>,
    bases: Bases,
) -> Result<(Sandbox, Vec<Shelved>), DetectError> {
    let owners = tools.builder.ground.owners();
    let user = owners.on_disk(USER_ID);
    let embedded = Embedded::lay_out(tools.store.root())?;
    let shelf = buildpacks::shelve(request, &embedded)?;
    let blobs_in_use = tools.store.blobs()?.use_all()?;
    let cache = tools.store.caches()?.cache(&source.app, SCOPE)?;
    let state = cache.open()?;
    let mut pending = cache.begin(state.as_ref())?;
    if tools.builder.ground.trees == Trees::Copies {
        pending.stand_alone();
    }
    // The job's root mounts these, and it does not know the ids of this process.
    give(pending.upper(), user)?;
    give(pending.work(), owners.on_disk(0))?;

    let directory = JobDirectory::create(&tools.store.root().join("jobs"), "build")?;
    let room = directory.path().to_owned();
    let workspace = room.join("workspace");
    workspace::lay_out(&source.origin, &workspace, user, request, tools)?;
    let mut binds = bind_buildpacks(&shelf, &room, tools)?;
    let is_settled = settled(source, request, tools)?;
    binds.push(read_only(platform(request, &room)?, "/platform"));
    let environment_ca = ca_bundle(&bases.build.root, tools.builder.ca_file.as_deref(), &room)?;

    let closed = GatewaySetup::new(NetworkPolicy::None, &tools.builder.proxy, tools.watcher);
    let (network, way_out) = WayOut::prepare(tools.builder.ground, &tools.builder.network, closed)?;
    let spec = JobSpec {
        directory,
        program: PathBuf::from("/proc/self/exe"),
        ground: tools.builder.ground,
        root_layers: vec![bases.build.root.clone()],
        layers: LayersState {
            lowers: pending.lowers().to_vec(),
            directory: pending.folder().to_owned(),
            volatile: true,
        },
        workspace,
        binds,
        user: User {
            uid: USER_ID,
            gid: USER_ID,
            name: "cnb".to_owned(),
            home: PathBuf::from(HOME),
        },
        limits: request.limits.clone(),
        hostname: HOSTNAME.to_owned(),
        network,
        environment_ca,
        grace: GRACE,
    };
    let job = sandbox::start(spec)?;
    let gateway = way_out.open(&job)?;
    let rung = tools.builder.ground.words();
    tell_rung(&job, tools);
    tell_network(tools);
    let kill = job.kill_handle();
    tools.cancel.on_cancel(move || kill.kill());
    Ok((
        Sandbox {
            gateway,
            _blobs_in_use: blobs_in_use,
            job,
            cache,
            state,
            pending,
            bases,
            rung,
            is_settled,
        },
        shelf,
    ))
}

/// Says which sandbox it is and what keeps it from being a better one.
fn tell_rung(job: &NativeJob, tools: &Tools<'_>) {
    tools.watcher.tell(Event::Decision {
        text: format!("sandbox {}", job.rung()),
    });
    let missing = tools.builder.missing.iter().map(|missing| {
        let Missing {
            rung,
            what,
            why,
            cure,
        } = missing;
        format!("the sandbox is not `{rung}`, the stronger one: {what}: {why}; {cure}")
    });
    for text in missing.chain(job.notes()) {
        tools.watcher.tell(Event::Warning { text });
    }
}

/// Says which network policy is in force, where it is another than the default.
fn tell_network(tools: &Tools<'_>) {
    let policy = &tools.builder.network;
    let event = match policy {
        NetworkPolicy::Public(_) => return,
        NetworkPolicy::Host => Event::Warning {
            text: HOST_NETWORK.to_owned(),
        },
        NetworkPolicy::None | NetworkPolicy::Listed(_) => Event::Decision {
            text: format!("network {policy}"),
        },
    };
    tools.watcher.tell(event);
}

/// Makes `owner` the owner of a folder that all may enter.
fn give(folder: &Path, owner: u32) -> Result<(), DetectError> {
    std::os::unix::fs::chown(folder, Some(owner), Some(owner)).map_err(|source| DetectError::Prepare {
        path: folder.to_owned(),
        source,
    })?;
    readable(folder, 0o755)
}

/// Whether source and buildpacks are still what they were when the build's key was made, before the base was. If not,
/// the image is made of what was copied, but nothing may be answered from it later.
fn settled(source: &Source, request: &BuildRequest, tools: &Tools<'_>) -> Result<bool, DetectError> {
    let hash = |folder: &Path, leave_out: &[PathBuf]| {
        let rules = HashRules {
            leave_out,
            now: tools.now(),
            stop: tools.cancel.flag(),
        };
        tools.store.hash_folder(folder, rules, &mut |_| {})
    };
    let mut is_settled = match &source.origin {
        Origin::Git(_) => true,
        Origin::Directory { path, leave_out } => hash(path, leave_out)?.to_string() == source.key.source,
    };
    for (folder, digest) in request.buildpacks.iter().zip(&source.key.buildpacks) {
        is_settled &= hash(folder, &[".git".into()])? == *digest;
    }
    if !is_settled {
        let text = "the source or a buildpack changed while it was copied; this build will not answer for later ones";
        tools.watcher.tell(Event::Warning {
            text: text.to_owned(),
        });
    }
    Ok(is_settled)
}

fn bind_buildpacks(shelf: &[Shelved], room: &Path, tools: &Tools<'_>) -> Result<Vec<Bind>, DetectError> {
    let mut binds = Vec::new();
    for (position, one) in shelf.iter().enumerate() {
        let source = if one.is_named {
            let copy = room.join(format!("buildpack-{position}"));
            let rules = CopyRules {
                leave_out: &[".git".into()],
                owner: tools.builder.ground.owners().on_disk(0),
                entries_max: BUILDPACK_ENTRIES_MAX,
                bytes_max: BUILDPACK_BYTES_MAX,
                stop: tools.cancel.flag(),
            };
            copy_directory(&one.source, &copy, rules)?;
            copy
        } else {
            one.source.clone()
        };
        binds.push(read_only(source, &one.installed.directory));
    }
    Ok(binds)
}

fn read_only(source: PathBuf, target: impl Into<PathBuf>) -> Bind {
    Bind {
        source,
        target: target.into(),
        mode: BindMode::ReadOnly,
    }
}

/// `/platform` with the user's variables as files.
fn platform(request: &BuildRequest, room: &Path) -> Result<PathBuf, DetectError> {
    let platform = room.join("platform");
    let mut folders = vec![platform.clone(), platform.join("env")];
    if !request.secrets.is_empty() {
        // The mount point; nothing is written below it.
        folders.push(platform.join(BINDINGS));
    }
    for folder in folders {
        fs::create_dir(&folder).map_err(|source| DetectError::Prepare {
            path: folder.clone(),
            source,
        })?;
        readable(&folder, 0o755)?;
    }
    for (name, value) in &request.environment {
        let path = platform.join("env").join(name);
        fs::write(&path, value).map_err(|source| DetectError::Prepare {
            path: path.clone(),
            source,
        })?;
        readable(&path, 0o644)?;
    }
    Ok(platform)
}

/// The image's certificates and the operator's in one file.
fn ca_bundle(image: &Path, authorities: Option<&Path>, room: &Path) -> Result<Option<PathBuf>, DetectError> {
    let Some(authorities) = authorities else {
        return Ok(None);
    };
    let merged_file = room.join("ca-certificates.crt");
    let write = || -> std::io::Result<()> {
        let mut merged = match fs::read(image.join(CA_BUNDLE)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        merged.push(b'\n');
        merged.extend(fs::read(authorities)?);
        fs::File::create(&merged_file)?.write_all(&merged)
    };
    write().map_err(|source| DetectError::Prepare {
        path: authorities.to_owned(),
        source,
    })?;
    readable(&merged_file, 0o644)?;
    Ok(Some(merged_file))
}

fn readable(path: &Path, mode: u32) -> Result<(), DetectError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|source| DetectError::Prepare {
        path: path.to_owned(),
        source,
    })
}
