//! Phase 2: makes the base and the sandbox ready, and lets the buildpacks say who takes part.

mod buildpacks;
mod job;
mod workspace;

use std::io;
use std::path::PathBuf;

use packhorse_spec::buildpack_toml::Distro;

use crate::base;
use crate::base::ensure::BaseRequest;
use crate::base::ensure::ensure;
use crate::base::error::BaseError;
use crate::base::flavour::Flavour;
use crate::buildpack;
use crate::buildpack::detect::Detected;
use crate::buildpack::environment::Environment;
use crate::buildpack::library::LibraryError;
use crate::buildpack::order::OrderError;
use crate::buildpack::paths::Paths;
use crate::buildpack::setting::EXEC_ENV_DEFAULT;
use crate::buildpack::setting::Setting;
use crate::buildpack::target::RunTarget;
use crate::events::Cancelled;
use crate::events::Event;
use crate::git::error::GitError;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::request::BuildRequest;
use crate::network::gateway::GatewayError;
use crate::phases::detect::buildpacks::Shelved;
use crate::phases::handover::ARCHITECTURE;
use crate::phases::handover::Bases;
use crate::phases::handover::Plan;
use crate::phases::handover::Sandbox;
use crate::phases::handover::Source;
use crate::phases::handover::Tools;
use crate::sandbox::error::SandboxError;
use crate::sandbox::job::Job as _;
use crate::sandbox::job::JobError;
use crate::store::copy::CopyError;
use crate::store::embedded::EmbeddedError;
use crate::store::error::StoreError;

/// Why no buildpacks could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The base could not be made ready.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The run image has no layer.
    #[error("the run flavour of the base was made without its layer")]
    NoLayer,
    /// The source's files could not be fetched.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The source's files could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A file for the job could not be written.
    #[error("cannot prepare `{path}` for the sandbox: {source}")]
    Prepare {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The shipped buildpacks could not be laid out.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sandbox could not be started.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The job's way out could not be opened.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The job failed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// A buildpack cannot be used.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The order cannot be followed.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// No group was chosen.
    #[error(transparent)]
    Choice(#[from] buildpack::detect::DetectError),
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Failure for DetectError {
    fn facts(&self) -> Facts {
        match self {
            Self::Base(error) => error.facts(),
            Self::NoLayer => Facts::bug("base_layer_missing"),
            Self::Git(error) => error.facts(),
            Self::Copy(error) => error.facts(),
            Self::Prepare { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::Prepare { .. } => Facts::platform("sandbox_preparation"),
            Self::Embedded(error) => error.facts(),
            Self::Store(error) => error.facts(),
            Self::Sandbox(error) => error.facts(),
            Self::Gateway(error) => error.facts(),
            Self::Job(error) => error.facts(),
            Self::Library(error) => error.facts(),
            Self::Order(error) => error.facts(),
            Self::Choice(error) => error.facts(),
            Self::Cancelled(error) => error.facts(),
        }
    }
}

/// Makes the base ready, starts the build's one sandbox with the source in it, and chooses the buildpacks.
pub async fn choose_buildpacks(
    source: Source,
    request: &BuildRequest,
    tools: &Tools<'_>,
) -> Result<Plan, DetectError> {
    // From here on no blob that the build counts on is evicted.
    let _blobs_in_use = tools.store.blobs()?.use_all()?;
    let bases = ensure_bases(tools).await?;
    tools.cancel.check()?;
    let (sandbox, shelf) = tokio::task::block_in_place(|| job::start(&source, request, tools, bases))?;
    tokio::task::block_in_place(|| choose(source, &shelf, sandbox, request, tools))
}

async fn ensure_bases(tools: &Tools<'_>) -> Result<Bases, DetectError> {
    let blobs = tools.store.blobs()?;
    let request = |flavour| BaseRequest {
        flavour,
        architecture: ARCHITECTURE.to_owned(),
        data_directory: tools.store.root().to_owned(),
        mirrors: tools.builder.mirrors.clone(),
        lock: None,
        now: tools.builder.now,
        owners: tools.builder.ground.owners(),
        begin_layer: (flavour == Flavour::Run).then(|| base::layer::begin(blobs.clone())),
    };
    let run = ensure(request(Flavour::Run), tools.http, tools.watcher, tools.cancel).await?;
    let layer = run.layer.clone().ok_or(DetectError::NoLayer)?;
    let build = ensure(request(Flavour::Build), tools.http, tools.watcher, tools.cancel).await?;
    Ok(Bases { build, run, layer })
}

fn choose(
    source: Source,
    shelf: &[Shelved],
    sandbox: Sandbox,
    request: &BuildRequest,
    tools: &Tools<'_>,
) -> Result<Plan, DetectError> {
    let (library, order) = buildpacks::library_and_order(shelf)?;
    let mut setting = Setting::read(
        &sandbox.job,
        Paths::default(),
        outside(&sandbox),
        run_target(&sandbox.bases.run.config),
        EXEC_ENV_DEFAULT.to_owned(),
    )?;
    setting.visitor = tools.visitor.cloned();
    let detected =
        buildpack::detect::choose_group(&sandbox.job, &setting, &library, &order, tools.watcher.as_ref())?;
    sandbox.job.sweep()?;
    setting.secrets.clone_from(&request.secrets);
    tell_unused_secrets(request, &detected, tools);
    Ok(Plan {
        source,
        detected,
        setting,
        sandbox,
    })
}

/// A secret that nobody gets was meant for somebody.
fn tell_unused_secrets(request: &BuildRequest, detected: &Detected, tools: &Tools<'_>) {
    let takes_part = |id: &String| detected.group.iter().any(|one| one.member.id.as_str() == id);
    for secret in &request.secrets {
        if let Some(id) = secret.buildpack.as_ref().filter(|id| !takes_part(id)) {
            let text = format!(
                "nobody gets secret {}: buildpack {id} takes no part in this build",
                secret.name
            );
            tools.watcher.tell(Event::Warning { text });
        }
    }
}

/// What of the build image's environment a buildpack may see, and what a container runtime would add.
fn outside(sandbox: &Sandbox) -> Environment {
    let of_image = sandbox.bases.build.config["config"]["Env"]
        .as_array()
        .into_iter()
        .flatten();
    let of_image = of_image.filter_map(|variable| variable.as_str()?.split_once('='));
    let added = [("HOME", job::HOME), ("HOSTNAME", job::HOSTNAME)];
    Environment::from_outside(
        of_image
            .chain(added)
            .map(|(name, value)| (name.into(), value.into())),
    )
}

fn run_target(config: &serde_json::Value) -> RunTarget {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let label = |name: &str| text(&config["config"]["Labels"][name]);
    let distro = Distro {
        name: label("io.buildpacks.base.distro.name"),
        version: label("io.buildpacks.base.distro.version"),
    };
    RunTarget {
        os: text(&config["os"]),
        arch: text(&config["architecture"]),
        variant: text(&config["variant"]),
        distro: (!distro.name.is_empty()).then_some(distro),
    }
}
