//! What an install depends on: two installs with equal keys bring the same files.

use crate::node_choice::NodeVersions;
use crate::npmrc::is_credential;
use crate::npmrc::without_credentials;
use crate::project::Project;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use libcnb::Env;
use libcnb::Target;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;

/// Raised when the buildpack lays the same dependencies down in another way.
const LAYOUT: &str = "1";
/// Variables that compilers, Node.js and npm read, and that decide what an install brings.
const VARIABLES: [&str; 11] = [
    "NODE_ENV",
    "NODE_OPTIONS",
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "MAKEFLAGS",
    "PYTHON",
    "PKG_CONFIG_PATH",
];
/// Settings of npm that change what it says or how it gets there, and not what it installs.
const IDLE_SETTINGS: [&str; 17] = [
    "cache",
    "loglevel",
    "progress",
    "color",
    "unicode",
    "timing",
    "fund",
    "audit",
    "audit_level",
    "update_notifier",
    "logs_max",
    "logs_dir",
    "proxy",
    "https_proxy",
    "noproxy",
    "maxsockets",
    "foreground_scripts",
];

/// Which of the dependencies an install brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DependencySet {
    All,
    Production,
    /// What `NPM_CONFIG_OMIT` leaves.
    AsConfigured,
}

/// Hashes and plain text only, since this is written into the image's label. An empty text is for what is not there.
/// In alphabetical order, as libcnb writes them when it keeps a layer, so that the bytes are the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DependenciesKey {
    environment: String,
    layout: String,
    lockfile: String,
    node_version: String,
    npm_version: String,
    npmrc: String,
    package_json: String,
    set: String,
    /// Operating system, architecture and distribution, for which packages may have been compiled.
    target: String,
}

impl DependenciesKey {
    pub(crate) fn new(
        set: DependencySet,
        project: &Project,
        versions: &NodeVersions,
        target: &Target,
        env: &Env,
    ) -> Self {
        let variant = target.arch_variant.as_deref().unwrap_or_default();
        let lockfile = project.lockfile.file_name().unwrap_or_default();
        let npmrc = project.npmrc.as_deref().map(without_credentials);
        Self {
            layout: LAYOUT.to_string(),
            set: set.name().to_string(),
            package_json: hash(&project.package_text),
            lockfile: hash(&format!("{lockfile}\n{}", project.lockfile_text)),
            npmrc: npmrc
                .filter(|text| !text.is_empty())
                .map(|text| hash(&text))
                .unwrap_or_default(),
            node_version: versions.node.to_string(),
            npm_version: versions.npm.to_string(),
            target: format!(
                "{}/{}/{variant} {} {}",
                target.os, target.arch, target.distro_name, target.distro_version
            ),
            environment: hash(&environment(env)),
        }
    }
}

impl DependencySet {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Production => "production",
            Self::AsConfigured => "as configured",
        }
    }
}

/// The variables that decide what an install brings, one line each, in order.
fn environment(env: &Env) -> String {
    let variables: BTreeMap<String, String> = env
        .iter()
        .filter_map(|(name, value)| Some((deciding_name(name.to_str()?)?, value)))
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, value.to_string_lossy().escape_default().to_string()))
        .collect();
    let lines = variables
        .into_iter()
        .map(|(name, value)| format!("{name}={value}\n"));
    lines.collect()
}

/// The name under which a variable counts, if it does; npm takes its own in any case.
fn deciding_name(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if let Some(setting) = lower.strip_prefix("npm_config_") {
        return (!IDLE_SETTINGS.contains(&setting) && !is_credential(setting)).then_some(lower);
    }
    // What install scripts are told about files to fetch, as PUPPETEER_SKIP_DOWNLOAD does.
    let is_for_scripts = ["DOWNLOAD", "BINARY", "MIRROR"]
        .into_iter()
        .any(|part| name.contains(part));
    let counts = VARIABLES.contains(&name) || lower.starts_with("npm_package_config_") || is_for_scripts;
    (counts && !is_credential(name)).then(|| name.to_string())
}

fn hash(text: &str) -> String {
    BASE64.encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::read_project;
    use std::fs;

    fn key(files: &[(&str, &str)], variables: &[(&str, &str)], node: &str, distro: &str) -> DependenciesKey {
        let app = tempfile::tempdir().unwrap();
        let first = [
            ("package.json", "{}"),
            ("package-lock.json", r#"{"packages": {}}"#),
        ];
        for (name, text) in first.iter().chain(files) {
            fs::write(app.path().join(name), text).unwrap();
        }
        let mut env = Env::new();
        for (name, value) in variables {
            env.insert(name, value);
        }
        let project = read_project(app.path(), &env).unwrap();
        let versions = NodeVersions {
            node: node.parse().unwrap(),
            npm: "10.9.9".parse().unwrap(),
        };
        let target = Target {
            os: "linux".to_string(),
            arch: "amd64".to_string(),
            arch_variant: None,
            distro_name: distro.to_string(),
            distro_version: "13".to_string(),
        };
        DependenciesKey::new(DependencySet::All, &project, &versions, &target, &env)
    }

    #[test]
    fn what_changes_an_install_changes_the_key() {
        let first = key(&[], &[], "22.0.0", "debian");
        assert_eq!(first, key(&[("server.js", "x")], &[], "22.0.0", "debian"));
        for other in [
            key(&[("package.json", "{ }")], &[], "22.0.0", "debian"),
            key(&[("package-lock.json", "{}")], &[], "22.0.0", "debian"),
            key(
                &[("npm-shrinkwrap.json", r#"{"packages": {}}"#)],
                &[],
                "22.0.0",
                "debian",
            ),
            key(&[(".npmrc", "omit=optional")], &[], "22.0.0", "debian"),
            key(&[], &[("NODE_ENV", "production")], "22.0.0", "debian"),
            key(&[], &[("NPM_CONFIG_OMIT", "dev")], "22.0.0", "debian"),
            key(&[], &[("PUPPETEER_SKIP_DOWNLOAD", "1")], "22.0.0", "debian"),
            key(&[], &[], "22.0.1", "debian"),
            key(&[], &[], "22.0.0", "ubuntu"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn what_changes_no_install_does_not() {
        let first = key(&[], &[], "22.0.0", "debian");
        let npmrc = [(".npmrc", "# token\n//a.example/:_authToken=1\n")];
        let variables = [
            ("npm_config_cache", "/x"),
            ("NPM_CONFIG_LOGLEVEL", "silly"),
            ("NPM_CONFIG__AUTH", "secret"),
            ("NODE_ENV", ""),
            ("PATH", "/bin"),
            ("HOME", "/root"),
            ("GIT_COMMIT", "3f2a9c1"),
        ];
        assert_eq!(first, key(&npmrc, &variables, "22.0.0", "debian"));
        let spelled = |name| key(&[], &[(name, "dev")], "22.0.0", "debian");
        assert_eq!(spelled("NPM_CONFIG_OMIT"), spelled("npm_config_omit"));
    }

    #[test]
    fn the_key_is_text_only() {
        let json = serde_json::to_value(key(&[], &[], "22.0.0", "debian")).unwrap();
        assert!(
            json.as_object()
                .unwrap()
                .values()
                .all(serde_json::Value::is_string),
            "{json}"
        );
        assert_eq!(hash(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }
}
