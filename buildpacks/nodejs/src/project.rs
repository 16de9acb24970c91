//! Reads all of the app's files that decide something, and decides what can be decided without the network.

use crate::app_file::ReadAppFileError;
use crate::app_file::read_app_file;
use crate::dev_dependencies::DevDependencies;
use crate::dev_dependencies::decide_dev_dependencies;
use crate::json::JsonError;
use crate::lockfile::Lockfile;
use crate::lockfile::OtherPackageManagerError;
use crate::lockfile::check_lockfile;
use crate::lockfile::choose_lockfile;
use crate::node_request::InvalidVersionError;
use crate::node_request::NodeRequest;
use crate::node_request::NpmRequest;
use crate::node_request::decide_node_request;
use crate::node_request::decide_npm_request;
use crate::package_json::PACKAGE_JSON;
use crate::package_json::PackageJson;
use crate::registry_url::InvalidRegistryError;
use crate::registry_url::RegistryUrl;
use crate::web_process::WebProcess;
use crate::web_process::choose_web_process;
use libcnb::Env;
use std::path::Path;

const PACKAGE_JSON_BYTES_MAX: u64 = 4 * 1024 * 1024;
const LOCKFILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const SMALL_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Everything that the app decides.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) package: PackageJson,
    pub(crate) package_text: String,
    pub(crate) lockfile: Lockfile,
    /// Empty without a lock file.
    pub(crate) lockfile_text: String,
    pub(crate) node: NodeRequest,
    pub(crate) npm: Option<NpmRequest>,
    pub(crate) registry: RegistryUrl,
    pub(crate) dev_dependencies: DevDependencies,
    /// The text of `.npmrc`, if there is one.
    pub(crate) npmrc: Option<String>,
    /// The source came with something named `node_modules`.
    pub(crate) has_node_modules: bool,
    /// The app is an addon that npm compiles when it installs.
    pub(crate) has_binding_gyp: bool,
}

/// The app cannot be built as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadProjectError {
    #[error(transparent)]
    File(#[from] ReadAppFileError),
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("`package.json` is not there")]
    NoPackageJson,
    #[error(transparent)]
    OtherPackageManager(#[from] OtherPackageManagerError),
    #[error(transparent)]
    Version(#[from] InvalidVersionError),
    #[error(transparent)]
    Registry(#[from] InvalidRegistryError),
}

/// Reads the app in `app_dir`; `env` is the environment of the build.
pub(crate) fn read_project(app_dir: &Path, env: &Env) -> Result<Project, ReadProjectError> {
    let package_text = read_app_file(app_dir, PACKAGE_JSON, PACKAGE_JSON_BYTES_MAX)?
        .ok_or(ReadProjectError::NoPackageJson)?;
    let package = PackageJson::parse(&package_text)?;

    let lockfile = choose_lockfile(|name| app_dir.join(name).is_file())?;
    let lockfile_text = match lockfile.file_name() {
        Some(name) => read_app_file(app_dir, name, LOCKFILE_BYTES_MAX)?.unwrap_or_default(),
        None => String::new(),
    };
    if let Some(name) = lockfile.file_name() {
        check_lockfile(name, &lockfile_text)?;
    }

    let nvmrc = read_app_file(app_dir, ".nvmrc", SMALL_FILE_BYTES_MAX)?;
    let node_version_file = read_app_file(app_dir, ".node-version", SMALL_FILE_BYTES_MAX)?;
    let node = decide_node_request(&package, nvmrc.as_deref(), node_version_file.as_deref())?;
    let npm = decide_npm_request(&package)?;

    let npm_settings = read_app_file(app_dir, ".npmrc", SMALL_FILE_BYTES_MAX)?;
    let set_registry = npm_setting(env, "registry");
    let registry = RegistryUrl::decide(set_registry.as_deref(), npm_settings.as_deref(), |name| {
        env.get_string_lossy(name)
    })?;

    let (omit, node_env) = (npm_setting(env, "omit"), env.get_string_lossy("NODE_ENV"));
    Ok(Project {
        dev_dependencies: decide_dev_dependencies(omit.as_deref(), node_env.as_deref()),
        has_node_modules: app_dir.join("node_modules").symlink_metadata().is_ok(),
        has_binding_gyp: app_dir.join("binding.gyp").is_file(),
        package,
        package_text,
        npmrc: npm_settings,
        lockfile,
        lockfile_text,
        node,
        npm,
        registry,
    })
}

impl Project {
    /// How to start the app; to be asked after its build script, which may make the file.
    pub(crate) fn web_process(&self, app_dir: &Path) -> Option<WebProcess> {
        choose_web_process(&self.package, |file| app_dir.join(file).is_file())
    }
}

/// An npm setting from the environment, in either of the usual spellings.
fn npm_setting(env: &Env, setting: &str) -> Option<String> {
    let lower = format!("npm_config_{setting}");
    env.get_string_lossy(&lower)
        .or_else(|| env.get_string_lossy(lower.to_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_request::Origin;
    use std::fs;

    fn app(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn an_app_without_settings_gets_the_defaults() {
        let app = app(&[("package.json", "{}")]);
        let project = read_project(app.path(), &Env::new()).unwrap();
        assert_eq!(project.lockfile, Lockfile::Missing);
        assert_eq!(project.node.origin, Origin::Default);
        assert_eq!(project.dev_dependencies, DevDependencies::BuildOnly);
        assert_eq!(project.registry.to_string(), "https://registry.npmjs.org");
        assert!(project.npm.is_none() && !project.has_node_modules);
        assert_eq!(project.web_process(app.path()), None);
    }

    #[test]
    fn every_file_and_variable_is_heard() {
        let app = app(&[
            ("package.json", r#"{"engines": {"npm": "^11"}}"#),
            ("npm-shrinkwrap.json", "{}"),
            (".nvmrc", "22"),
            (".node-version", "20"),
            (".npmrc", "registry=https://a.example"),
            ("server.js", ""),
        ]);
        let mut env = Env::new();
        env.insert("NPM_CONFIG_OMIT", "dev")
            .insert("npm_config_registry", "https://b.example");
        let project = read_project(app.path(), &env).unwrap();
        assert_eq!(project.lockfile, Lockfile::Shrinkwrap);
        assert_eq!(
            (project.node.origin, project.node.text.as_str()),
            (Origin::Nvmrc, "22")
        );
        assert_eq!(project.dev_dependencies, DevDependencies::NeverInstalled);
        assert_eq!(project.registry.to_string(), "https://b.example");
        assert!(project.npm.is_some());
        assert_eq!(
            project.web_process(app.path()),
            Some(WebProcess::Node(vec!["server.js".to_string()]))
        );
    }

    #[test]
    fn what_is_broken_is_named() {
        for (files, expected) in [
            (vec![("other", "")], "`package.json` is not there"),
            (
                vec![("package.json", "{")],
                "`package.json`, line 1, column 1: EOF while parsing an object",
            ),
            (
                vec![("package.json", "{}"), ("package-lock.json", "{\n<<<<")],
                "`package-lock.json`, line 2, column 1: key must be a string",
            ),
            (
                vec![("package.json", "{}"), ("yarn.lock", "")],
                "the app has `yarn.lock` but no npm lock file",
            ),
            (
                vec![("package.json", "{}"), (".nvmrc", "lts/argon")],
                ".nvmrc asks for `lts/argon`, which is no long-term support line that is known here",
            ),
            (
                vec![("package.json", r#"{"engines": {"npm": "new"}}"#)],
                "`engines.npm` in package.json asks for `new`, which is not a version range of npm's kind",
            ),
            (
                vec![("package.json", "{}"), (".npmrc", "registry=ftp://a.example")],
                "the registry `ftp://a.example`, set in .npmrc, is not an http or https URL",
            ),
        ] {
            let app = app(&files);
            assert_eq!(
                read_project(app.path(), &Env::new()).unwrap_err().to_string(),
                expected
            );
        }
    }
}
