//! Starts the sandbox of `run`: the image's layers below, and its way out under the operator's policy.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::failure::CommandError;
use crate::cli::inspect::image::FoundImage;
use crate::cli::render;
use crate::cli::run::layers::Layers;
use crate::cli::run::layers::PrepareError;
use crate::cli::run::process::setting;
use crate::cli::run::user::user_of;
use crate::cli::run::volume;
use crate::cli::tools::Toolbox;
use crate::model::limits::Limits;
use crate::network::gateway::Gateway;
use crate::network::gateway::GatewaySetup;
use crate::network::way_out::WayOut;
use crate::sandbox;
use crate::sandbox::directory::JobDirectory;
use crate::sandbox::native::NativeJob;
use crate::sandbox::spec::Bind;
use crate::sandbox::spec::JobSpec;
use crate::sandbox::spec::LayersState;

/// The most names of one folder of the image that are looked at.
pub(super) const NAMES_MAX: usize = 100_000;
/// Where images keep the certificates of authorities.
const CA_BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// A trial that nobody ends is ended after this time.
const TIMEOUT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// The job's host name.
const HOSTNAME: &str = "packhorse";

/// A sandbox in which the process can be started.
pub(super) struct Ready {
    /// The job.
    pub(super) job: Arc<NativeJob>,
    /// Its way out, if it has one.
    pub(super) gateway: Option<Gateway>,
    /// The home folder of its user.
    pub(super) home: String,
}

/// Starts the sandbox. Must be called on a runtime, since the way out needs one.
pub(super) fn start(
    image: &FoundImage,
    layers: &Layers,
    volumes: Vec<Bind>,
    toolbox: &Toolbox,
) -> Result<Ready, CommandError> {
    let ground = toolbox.builder.ground;
    let text = |path: &str| {
        let file = layers.file(path)?;
        Ok::<_, PrepareError>(String::from_utf8_lossy(&file).into_owned())
    };
    let user = setting(&image.config, "User")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    let user = user_of(user, &text("etc/passwd")?, &text("etc/group")?)?;
    let home = user.home.display().to_string();
    for warning in volume::warnings(&volumes, &user, ground) {
        render::note(&format!("warning: {warning}"));
    }

    let directory = JobDirectory::create(&toolbox.store.root().join("jobs"), "run")?;
    let room = directory.path().to_owned();
    let workspace = room.join("workspace");
    let owner = ground.owners().on_disk(user.uid);
    layers.lay_out_workspace(&workspace, owner, &room, &toolbox.cancel)?;
    let environment_ca = ca_bundle(layers, toolbox.builder.ca_file.as_deref(), &room)?;
    let policy = &toolbox.builder.network;
    let setup = GatewaySetup::new(policy.clone(), &toolbox.builder.proxy, &toolbox.watcher);
    let (network, way_out) = WayOut::prepare(ground, policy, setup)?;
    let job = sandbox::start(JobSpec {
        directory,
        program: PathBuf::from("/proc/self/exe"),
        ground,
        root_layers: layers.trees(),
        // Never attached: the image brings its own.
        layers: LayersState {
            lowers: Vec::new(),
            directory: room.join("layers"),
            volatile: true,
        },
        workspace,
        binds: volumes,
        user,
        limits: Limits {
            timeout: TIMEOUT,
            output_bytes_max: u64::MAX,
            ..Limits::default()
        },
        hostname: HOSTNAME.to_owned(),
        network,
        environment_ca,
        grace: GRACE,
    })?;
    job.open_network();
    let gateway = way_out.open(&job)?;
    Ok(Ready {
        job: Arc::new(job),
        gateway,
        home,
    })
}

/// The image's certificates and the operator's in one file.
fn ca_bundle(
    layers: &Layers,
    operators: Option<&Path>,
    room: &Path,
) -> Result<Option<PathBuf>, CommandError> {
    let Some(operators) = operators else {
        return Ok(None);
    };
    let bundle = room.join("ca-certificates.crt");
    let mut merged = layers.file(CA_BUNDLE)?;
    merged.push(b'\n');
    let written = fs::read(operators).and_then(|own| {
        merged.extend(own);
        fs::write(&bundle, &merged)?;
        fs::set_permissions(&bundle, fs::Permissions::from_mode(0o644))
    });
    written.map_err(|source| PrepareError {
        path: operators.to_owned(),
        source,
    })?;
    Ok(Some(bundle))
}
