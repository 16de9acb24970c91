//! Runs npm: install, build script, prune. The only place that starts programs.

use crate::dependencies_key::DependencySet;
use crate::layers::node::NodeInstallation;
use crate::lockfile::Lockfile;
use crate::output;
use libcnb::Env;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

/// The system's certificates, by distribution; Node.js knows only its own unless it is told.
const CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// npm in its layer, and all that its runs have in common.
pub(crate) struct Npm {
    program: PathBuf,
    env: Env,
}

/// Where npm is, and the folders it needs.
pub(crate) struct NpmPlace<'a> {
    pub(crate) node: &'a NodeInstallation,
    pub(crate) cache: &'a Path,
    /// The home folder for npm and scripts where the build has none.
    pub(crate) spare_home: &'a Path,
}

/// An npm command that did not work; its own output went to the user as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunNpmError {
    #[error("cannot start `{command}`: {source}")]
    Start { command: String, source: io::Error },
    #[error("`{command}` {}", how_it_ended(*status))]
    Failed { command: String, status: ExitStatus },
}

impl Npm {
    /// `env` is the build's environment with that of the Node.js layer.
    pub(crate) fn new(place: &NpmPlace, env: &Env) -> Self {
        let extra_ca = CA_BUNDLES.into_iter().find(|bundle| Path::new(bundle).is_file());
        Self {
            program: place.node.layer.join("bin/npm"),
            env: npm_env(env, place, extra_ca),
        }
    }

    /// Exactly what the lock file says, or, without one, whatever fits today.
    pub(crate) fn install(
        &self,
        folder: &Path,
        lockfile: Lockfile,
        set: DependencySet,
    ) -> Result<(), RunNpmError> {
        self.run(folder, &install_arguments(lockfile, set), &[])
    }

    /// The app's own `build` script; tools take production settings from `NODE_ENV`.
    pub(crate) fn run_build_script(&self, folder: &Path) -> Result<(), RunNpmError> {
        self.run(folder, &["run", "build"], &[("NODE_ENV", "production")])
    }

    /// Removes development dependencies. Nothing new comes, so no package's script has anything to do.
    pub(crate) fn prune_dev_dependencies(&self, folder: &Path) -> Result<(), RunNpmError> {
        self.run(folder, &["prune", "--omit=dev", "--ignore-scripts"], &[])
    }

    fn run(&self, folder: &Path, arguments: &[&str], defaults: &[(&str, &str)]) -> Result<(), RunNpmError> {
        let command = format!("npm {}", arguments.join(" "));
        output::line(&format!("Running `{command}`"));
        let mut env = self.env.clone();
        for (name, value) in defaults {
            set_default(&mut env, name, value);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "this module is the one owner of programs in a buildpack"
        )]
        let started = Command::new(&self.program)
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .envs(&env)
            .stdin(Stdio::null())
            .status();
        match started {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(RunNpmError::Failed { command, status }),
            Err(source) => Err(RunNpmError::Start { command, source }),
        }
    }
}

fn install_arguments(lockfile: Lockfile, set: DependencySet) -> Vec<&'static str> {
    let command = match lockfile {
        Lockfile::Missing => "install",
        Lockfile::PackageLock | Lockfile::Shrinkwrap => "ci",
    };
    let option = match set {
        DependencySet::All => Some("--include=dev"),
        DependencySet::Production => Some("--omit=dev"),
        DependencySet::AsConfigured => None,
    };
    std::iter::once(command).chain(option).collect()
}

/// The user's environment with our defaults for what is not set in it.
fn npm_env(env: &Env, place: &NpmPlace, extra_ca: Option<&str>) -> Env {
    let mut env = env.clone();
    // Not a default: the cache is a layer, and a cache elsewhere would end up in the image or be lost.
    unset_npm_config(&mut env, "cache");
    env.insert("npm_config_cache", place.cache);
    for (setting, value) in [
        ("update_notifier", "false"),
        ("fund", "false"),
        ("audit", "false"),
        // A log file has the time in its name.
        ("logs_max", "0"),
    ] {
        let lower = format!("npm_config_{setting}");
        if !env.contains_key(&lower) && !env.contains_key(lower.to_uppercase()) {
            env.insert(lower, value);
        }
    }
    // The headers in the layer, so that node-gyp fetches none.
    let nodedir = if place.node.versions.npm.major() < 11 {
        "npm_config_nodedir"
    } else {
        "npm_package_config_node_gyp_nodedir"
    };
    if !env.contains_key(nodedir) {
        env.insert(nodedir, &place.node.headers);
    }
    // node-gyp's Python would leave files with times in them in the layer of npm.
    set_default(&mut env, "PYTHONDONTWRITEBYTECODE", "1");
    // Node.js asks the C library for the home folder otherwise, and fails for a user who is not in /etc/passwd.
    if env.get("HOME").is_none_or(|home| home.is_empty()) {
        env.insert("HOME", place.spare_home);
    }
    let ca_file = env
        .get("SSL_CERT_FILE")
        .cloned()
        .or_else(|| extra_ca.map(Into::into));
    if let Some(ca_file) = ca_file.filter(|_| !env.contains_key("NODE_EXTRA_CA_CERTS")) {
        env.insert("NODE_EXTRA_CA_CERTS", ca_file);
    }
    env
}

/// Takes `setting` out in whatever case it is written.
fn unset_npm_config(env: &mut Env, setting: &str) {
    let name = format!("npm_config_{setting}");
    let kept: Vec<_> = env
        .iter()
        .filter(|(key, _)| !key.eq_ignore_ascii_case(&name))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    *env = Env::new();
    for (key, value) in kept {
        env.insert(key, value);
    }
}

fn set_default(env: &mut Env, name: &str, value: &str) {
    if env.get(name).is_none_or(|present| present.is_empty()) {
        env.insert(name, value);
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_choice::NodeVersions;
    use libcnb::layer_env::LayerEnv;

    fn env_for(npm: &str, variables: &[(&str, &str)]) -> Env {
        let mut env = Env::new();
        for (name, value) in variables {
            env.insert(name, value);
        }
        let node = NodeInstallation {
            layer: PathBuf::from("/layers/node"),
            headers: PathBuf::from("/layers/node-headers"),
            env: LayerEnv::new(),
            versions: NodeVersions {
                node: "24.0.0".parse().unwrap(),
                npm: npm.parse().unwrap(),
            },
        };
        let place = NpmPlace {
            node: &node,
            cache: Path::new("/layers/npm-cache"),
            spare_home: Path::new("/layers/npm-home"),
        };
        npm_env(&env, &place, Some("/etc/ssl/cert.pem"))
    }

    #[test]
    fn an_empty_environment_gets_all_defaults() {
        let env = env_for("11.0.0", &[]);
        for (name, expected) in [
            ("npm_config_cache", "/layers/npm-cache"),
            ("npm_config_update_notifier", "false"),
            ("npm_config_fund", "false"),
            ("npm_config_audit", "false"),
            ("npm_config_logs_max", "0"),
            ("npm_package_config_node_gyp_nodedir", "/layers/node-headers"),
            ("HOME", "/layers/npm-home"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("NODE_EXTRA_CA_CERTS", "/etc/ssl/cert.pem"),
        ] {
            assert_eq!(env.get_string_lossy(name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(env.iter().count(), 9);
        assert!(env_for("10.9.9", &[]).contains_key("npm_config_nodedir"));
    }

    #[test]
    fn the_user_wins_but_for_the_cache() {
        let variables = [
            ("NPM_CONFIG_CACHE", "/elsewhere"),
            ("NPM_CONFIG_AUDIT", "true"),
            ("npm_config_fund", "true"),
            ("HOME", "/home/me"),
            ("SSL_CERT_FILE", "/ca.pem"),
        ];
        let env = env_for("11.0.0", &variables);
        assert!(!env.contains_key("NPM_CONFIG_CACHE"));
        assert!(!env.contains_key("npm_config_audit"));
        for (name, expected) in [
            ("npm_config_cache", "/layers/npm-cache"),
            ("NPM_CONFIG_AUDIT", "true"),
            ("npm_config_fund", "true"),
            ("HOME", "/home/me"),
            ("NODE_EXTRA_CA_CERTS", "/ca.pem"),
        ] {
            assert_eq!(env.get_string_lossy(name).as_deref(), Some(expected), "{name}");
        }
        let env = env_for(
            "11.0.0",
            &[("SSL_CERT_FILE", "/ca.pem"), ("NODE_EXTRA_CA_CERTS", "/own.pem")],
        );
        assert_eq!(
            env.get_string_lossy("NODE_EXTRA_CA_CERTS").as_deref(),
            Some("/own.pem")
        );
    }

    #[test]
    fn install_commands() {
        for (lockfile, set, expected) in [
            (Lockfile::PackageLock, DependencySet::All, "ci --include=dev"),
            (Lockfile::Shrinkwrap, DependencySet::Production, "ci --omit=dev"),
            (Lockfile::PackageLock, DependencySet::AsConfigured, "ci"),
            (Lockfile::Missing, DependencySet::All, "install --include=dev"),
            (Lockfile::Missing, DependencySet::AsConfigured, "install"),
        ] {
            assert_eq!(install_arguments(lockfile, set).join(" "), expected);
        }
    }

    #[test]
    fn ends_of_commands() {
        assert_eq!(how_it_ended(ExitStatus::from_raw(1 << 8)), "exited with code 1");
        assert_eq!(how_it_ended(ExitStatus::from_raw(9)), "was killed by signal 9");
    }
}
