//! The app's part of the build: its dependencies, its build script, and what of both is for the image.

use crate::NodejsBuildpack;
use crate::NodejsBuildpackError;
use crate::dependencies_key::DependenciesKey;
use crate::dependencies_key::DependencySet;
use crate::dev_dependencies::DevDependencies;
use crate::install_place::why_in_app;
use crate::layers::dependencies::DependenciesLayer;
use crate::layers::dependencies::give_up_dependencies;
use crate::layers::dependencies::prepare_dependencies;
use crate::lockfile::differences;
use crate::node_choice::NodeVersions;
use crate::node_modules::FolderState;
use crate::node_modules::NODE_MODULES;
use crate::node_modules::NodeModulesError;
use crate::node_modules::copy_folder;
use crate::node_modules::is_link_to;
use crate::node_modules::link_into_app;
use crate::node_modules::make_if_missing;
use crate::node_modules::move_folder;
use crate::node_modules::remove_tool_caches;
use crate::node_modules::unlink_from_app;
use crate::npm::Npm;
use crate::output;
use crate::package_json::PACKAGE_JSON;
use crate::project::Project;
use libcnb::Env;
use libcnb::build::BuildContext;
use std::fs;
use std::io;
use std::path::Path;

const NPMRC: &str = ".npmrc";

/// What the app is built with.
pub(crate) struct AppBuild<'a> {
    pub(crate) context: &'a BuildContext<NodejsBuildpack>,
    pub(crate) project: &'a Project,
    pub(crate) versions: &'a NodeVersions,
    /// The environment of the build, without what the buildpack adds for npm.
    pub(crate) env: &'a Env,
    pub(crate) npm: &'a Npm,
}

/// What the build script did to the dependencies.
#[derive(Debug, PartialEq, Eq)]
enum ScriptEffect {
    Nothing,
    /// It wrote into their folder, first of all here.
    Changed(String),
    /// It put something else in place of the link.
    Replaced,
}

/// Installs, runs the build script, and leaves in the app what the image is to have.
pub(crate) fn build_app(build: &AppBuild) -> libcnb::Result<(), NodejsBuildpackError> {
    output::header("Installing dependencies");
    match why_in_app(build.project) {
        Some(why) => {
            output::line(&format!("In the app's folder and not in a layer: {why}"));
            Ok(build.in_app()?)
        }
        None if build.needs_build_dependencies() => build.in_two_layers(),
        None => build.in_one_layer(),
    }
}

impl AppBuild<'_> {
    /// Install, build script, prune, all in the app's folder.
    fn in_app(&self) -> Result<(), NodejsBuildpackError> {
        let set = match self.project.dev_dependencies {
            DevDependencies::BuildOnly | DevDependencies::Kept => DependencySet::All,
            DevDependencies::NeverInstalled => DependencySet::AsConfigured,
        };
        self.install(&self.context.app_dir, set)?;
        self.run_build_script()?;
        self.prune_app()
    }

    /// One install, which the build script and the image share.
    fn in_one_layer(&self) -> libcnb::Result<(), NodejsBuildpackError> {
        let set = match self.project.dev_dependencies {
            DevDependencies::BuildOnly => DependencySet::Production,
            DevDependencies::Kept => DependencySet::All,
            DevDependencies::NeverInstalled => DependencySet::AsConfigured,
        };
        let (layer, key) = (DependenciesLayer::Launch, self.key(set));
        let folder = prepare_dependencies(self.context, layer, &key, |layer| {
            self.install_in_layer(layer, set)
        })?;
        link_into_app(&self.context.app_dir, &folder).map_err(NodejsBuildpackError::NodeModules)?;
        let effect = self.run_build_script_on(&folder)?;
        if effect != ScriptEffect::Nothing {
            self.move_into_app(&effect, &folder, layer)?;
        }
        Ok(())
    }

    /// An install with development dependencies for the build script, and what is left without them for the image.
    fn in_two_layers(&self) -> libcnb::Result<(), NodejsBuildpackError> {
        let (app_dir, layer) = (&self.context.app_dir, DependenciesLayer::BuildOnly);
        let all = prepare_dependencies(self.context, layer, &self.key(DependencySet::All), |layer| {
            self.install_in_layer(layer, DependencySet::All)
        })?;
        link_into_app(app_dir, &all).map_err(NodejsBuildpackError::NodeModules)?;
        let effect = self.run_build_script_on(&all)?;
        if effect != ScriptEffect::Nothing {
            return self.move_into_app(&effect, &all, layer);
        }
        output::header("Removing development dependencies");
        unlink_from_app(app_dir).map_err(NodejsBuildpackError::NodeModules)?;
        let key = self.key(DependencySet::Production);
        let production = prepare_dependencies(self.context, DependenciesLayer::Launch, &key, |layer| {
            self.prune_into_layer(&all, layer)
        })?;
        link_into_app(app_dir, &production).map_err(NodejsBuildpackError::NodeModules)?;
        Ok(())
    }

    fn needs_build_dependencies(&self) -> bool {
        self.project.package.script("build").is_some()
            && self.project.dev_dependencies == DevDependencies::BuildOnly
            && self.project.package.may_have_dev_dependencies()
    }

    fn key(&self, set: DependencySet) -> DependenciesKey {
        DependenciesKey::new(set, self.project, self.versions, &self.context.target, self.env)
    }

    fn install(&self, folder: &Path, set: DependencySet) -> Result<(), NodejsBuildpackError> {
        let project = self.project;
        self.npm.install(folder, project.lockfile, set).map_err(|source| {
            NodejsBuildpackError::InstallDependencies {
                source,
                lockfile: project.lockfile,
                differences: differences(&project.package, &project.lockfile_text),
            }
        })
    }

    fn install_in_layer(&self, layer: &Path, set: DependencySet) -> Result<(), NodejsBuildpackError> {
        self.with_project_files(layer, || self.install(layer, set))?;
        make_if_missing(&layer.join(NODE_MODULES)).map_err(NodejsBuildpackError::NodeModules)
    }

    /// Fills `layer` with what is left of the install `all` without development dependencies.
    fn prune_into_layer(&self, all: &Path, layer: &Path) -> Result<(), NodejsBuildpackError> {
        let folder = layer.join(NODE_MODULES);
        copy_folder(all, &folder).map_err(NodejsBuildpackError::NodeModules)?;
        self.with_project_files(layer, || {
            self.npm
                .prune_dev_dependencies(layer)
                .map_err(NodejsBuildpackError::PruneDevDependencies)
        })?;
        make_if_missing(&folder).map_err(NodejsBuildpackError::NodeModules)
    }

    /// Runs `step` while the files that npm reads are in `layer`. They do not stay: `.npmrc` may hold credentials, and
    /// packages that look for the app's `package.json` near themselves must not take this one for it.
    fn with_project_files(
        &self,
        layer: &Path,
        step: impl FnOnce() -> Result<(), NodejsBuildpackError>,
    ) -> Result<(), NodejsBuildpackError> {
        let npmrc = self.project.npmrc.as_ref().map(|_| NPMRC);
        let names: Vec<&str> = std::iter::once(PACKAGE_JSON)
            .chain(self.project.lockfile.file_name())
            .chain(npmrc)
            .collect();
        for name in &names {
            let (from, to) = (self.context.app_dir.join(name), layer.join(name));
            fs::copy(&from, &to).map_err(|source| failed("copy", &from, source))?;
        }
        let result = step();
        let removed: Result<(), NodejsBuildpackError> = names
            .iter()
            .map(|name| layer.join(name))
            .try_for_each(|path| fs::remove_file(&path).map_err(|source| failed("remove", &path, source)));
        result.and(removed)
    }

    fn run_build_script(&self) -> Result<(), NodejsBuildpackError> {
        if self.project.package.script("build").is_none() {
            return Ok(());
        }
        output::header("Running the build script");
        self.npm
            .run_build_script(&self.context.app_dir)
            .map_err(NodejsBuildpackError::BuildScript)
    }

    /// Runs the build script, if there is one, and finds out what it did to `folder`, which the app is linked to.
    fn run_build_script_on(&self, folder: &Path) -> Result<ScriptEffect, NodejsBuildpackError> {
        if self.project.package.script("build").is_none() {
            return Ok(ScriptEffect::Nothing);
        }
        let state = || FolderState::of(folder).map_err(NodejsBuildpackError::NodeModules);
        let before = state()?;
        self.run_build_script()?;
        if !is_link_to(&self.context.app_dir, folder) {
            return Ok(ScriptEffect::Replaced);
        }
        remove_tool_caches(folder).map_err(NodejsBuildpackError::NodeModules)?;
        Ok(match state()?.first_change(&before) {
            Some(path) => ScriptEffect::Changed(path.display().to_string()),
            None => ScriptEffect::Nothing,
        })
    }

    /// Gives the layer up for a folder in the app, since what a build script makes belongs to that one build.
    fn move_into_app(
        &self,
        effect: &ScriptEffect,
        folder: &Path,
        layer: DependenciesLayer,
    ) -> libcnb::Result<(), NodejsBuildpackError> {
        let why = match effect {
            ScriptEffect::Changed(path) => format!("changed node_modules/{}", path.escape_debug()),
            ScriptEffect::Nothing | ScriptEffect::Replaced => "made a node_modules of its own".to_string(),
        };
        output::line(&format!(
            "Dependencies go to the app's folder and not to a layer: the build script {why}"
        ));
        let app_dir = &self.context.app_dir;
        if is_link_to(app_dir, folder) {
            unlink_from_app(app_dir)
                .and_then(|()| move_folder(folder, &app_dir.join(NODE_MODULES)))
                .map_err(NodejsBuildpackError::NodeModules)?;
        }
        give_up_dependencies(self.context, layer)?;
        Ok(self.prune_app()?)
    }

    fn prune_app(&self) -> Result<(), NodejsBuildpackError> {
        let project = self.project;
        if project.dev_dependencies != DevDependencies::BuildOnly
            || !project.package.may_have_dev_dependencies()
        {
            return Ok(());
        }
        output::header("Removing development dependencies");
        self.npm
            .prune_dev_dependencies(&self.context.app_dir)
            .map_err(NodejsBuildpackError::PruneDevDependencies)
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> NodejsBuildpackError {
    NodejsBuildpackError::NodeModules(NodeModulesError {
        action,
        path: path.to_path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::node::NodeInstallation;
    use crate::npm::NpmPlace;
    use crate::project::read_project;
    use libcnb::Target;
    use libcnb::data::buildpack_plan::BuildpackPlan;
    use libcnb::generic::GenericPlatform;
    use libcnb::layer_env::LayerEnv;
    use std::path::PathBuf;

    /// Stands in for npm; a file of the source, since one that was just written may be too busy to be run.
    const NPM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/npm");
    const WITH_BUILD: &str = r#"{"scripts": {"build": "x"}, "devDependencies": {"dev": "1"}}"#;

    struct Case {
        folder: tempfile::TempDir,
        env: Env,
    }

    impl Case {
        fn new(package: &str, build_script: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            fs::create_dir_all(path("node/bin")).unwrap();
            fs::create_dir_all(path("layers")).unwrap();
            std::os::unix::fs::symlink(NPM, path("node/bin/npm")).unwrap();
            let mut env = Env::new();
            env.insert("PATH", "/usr/bin:/bin");
            env.insert("NPM_LOG", path("log"));
            env.insert("BUILD_SCRIPT", build_script);
            let case = Self { folder, env };
            case.take_source(package);
            case
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// A fresh checkout, as each build gets one.
        fn take_source(&self, package: &str) {
            let app = self.path("app");
            drop(fs::remove_dir_all(&app));
            fs::create_dir(&app).unwrap();
            let lock = r#"{"packages": {"": {}}}"#;
            for (name, text) in [
                ("package.json", package),
                ("package-lock.json", lock),
                (".npmrc", "_auth=secret"),
            ] {
                fs::write(app.join(name), text).unwrap();
            }
        }

        /// Builds; returns what npm was asked to do.
        fn build(&self) -> String {
            drop(fs::remove_file(self.path("log")));
            let text = |text: &str| text.to_string();
            let context = BuildContext {
                layers_dir: self.path("layers"),
                app_dir: self.path("app"),
                buildpack_dir: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
                target: Target {
                    os: text("linux"),
                    arch: text("amd64"),
                    arch_variant: None,
                    distro_name: text("debian"),
                    distro_version: text("13"),
                },
                platform: GenericPlatform::new(Env::new()),
                buildpack_plan: BuildpackPlan { entries: Vec::new() },
                buildpack_descriptor: libcnb::read_toml_file(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/buildpack.toml"
                ))
                .unwrap(),
                store: None,
            };
            let project = read_project(&context.app_dir, &self.env).unwrap();
            let node = NodeInstallation {
                layer: self.path("node"),
                headers: self.path("headers"),
                env: LayerEnv::new(),
                versions: NodeVersions {
                    node: "22.0.0".parse().unwrap(),
                    npm: "10.0.0".parse().unwrap(),
                },
            };
            let (cache, home) = (self.path("cache"), self.path("home"));
            let place = NpmPlace {
                node: &node,
                cache: &cache,
                spare_home: &home,
            };
            build_app(&AppBuild {
                context: &context,
                project: &project,
                versions: &node.versions,
                env: &self.env,
                npm: &Npm::new(&place, &self.env),
            })
            .unwrap();
            fs::read_to_string(self.path("log"))
                .unwrap_or_default()
                .replace('\n', "; ")
        }

        fn linked_to(&self, layer: &str) -> bool {
            is_link_to(
                &self.path("app"),
                &self.path("layers").join(layer).join(NODE_MODULES),
            )
        }
    }

    #[test]
    fn without_a_build_script_one_layer_and_no_npm_the_second_time() {
        let package = r#"{"devDependencies": {"dev": "1"}}"#;
        let case = Case::new(package, "");
        assert_eq!(case.build(), "ci --omit=dev; ");
        assert!(case.linked_to("dependencies") && !case.path("layers/build-dependencies").exists());
        case.take_source(package);
        assert_eq!(case.build(), "");
        assert!(case.linked_to("dependencies"));
        case.take_source(r#"{"devDependencies": {"dev": "2"}}"#);
        assert_eq!(case.build(), "ci --omit=dev; ");
    }

    #[test]
    fn a_build_script_has_development_dependencies_and_the_image_has_not() {
        let case = Case::new(WITH_BUILD, "mkdir -p node_modules/.cache; touch built");
        assert_eq!(
            case.build(),
            "ci --include=dev; run build; prune --omit=dev --ignore-scripts; "
        );
        assert!(case.linked_to("dependencies") && case.path("app/built").is_file());
        let (all, production) = (
            case.path("layers/build-dependencies"),
            case.path("layers/dependencies"),
        );
        assert!(all.join("node_modules/dev").is_dir() && !all.join("node_modules/.cache").exists());
        assert!(
            production.join("node_modules/prod").is_dir() && !production.join("node_modules/dev").exists()
        );
        let seen = fs::read_to_string(production.join("node_modules/prod/seen")).unwrap();
        assert!(seen.contains("_auth=secret"), "npm had .npmrc while it ran");
        for layer in [&all, &production] {
            assert_eq!(
                fs::read_dir(layer).unwrap().count(),
                1,
                "only node_modules is left"
            );
        }
        case.take_source(WITH_BUILD);
        assert_eq!(case.build(), "run build; ");
        assert!(case.linked_to("dependencies"));
    }

    #[test]
    fn what_a_build_script_does_to_its_dependencies_stays_in_the_app() {
        for script in [
            "echo made > node_modules/prod/made",
            "rm node_modules; mkdir -p node_modules/prod node_modules/dev; echo made > node_modules/prod/made",
        ] {
            let case = Case::new(WITH_BUILD, script);
            for _ in 0..2 {
                case.take_source(WITH_BUILD);
                assert_eq!(
                    case.build(),
                    "ci --include=dev; run build; prune --omit=dev --ignore-scripts; ",
                    "{script}"
                );
                assert!(!case.path("app/node_modules").is_symlink(), "{script}");
                assert!(case.path("app/node_modules/prod/made").is_file(), "{script}");
                assert!(!case.path("app/node_modules/dev").exists(), "{script}");
                let layer = case.path("layers/build-dependencies");
                assert_eq!(fs::read_dir(layer).unwrap().count(), 0, "{script}");
            }
        }
    }
}
