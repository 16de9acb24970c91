//! Reads the environment and the operator's `packhorse.toml`, once: flag > environment > file > default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

use crate::cli::arguments::WantedRung;
use crate::cli::arguments::network::NetworkArguments;
use crate::cli::limits::LimitsFile;
use crate::cli::setting::Origin;
use crate::cli::setting::Setting;
use crate::cli::variable::Variable;
use crate::model::policy::choice::NetworkChoice;
use crate::model::rung::Rung;
use crate::model::rung::RungChoice;

/// Everything that comes from the environment and the operator's file.
#[derive(Clone)]
pub struct Config {
    /// Where packhorse keeps what it keeps.
    pub home: Setting<PathBuf>,
    /// The user's home folder, for docker's configuration.
    pub user_home: Option<PathBuf>,
    /// The environment as it was at the start.
    pub environment: BTreeMap<String, OsString>,
    /// The operator's file.
    pub file: File,
    /// Where that was found; none: there is none.
    pub file_path: Option<Setting<PathBuf>>,
    /// The sandbox that is wanted for jobs, and who says so.
    pub rung: Setting<RungChoice>,
    /// The network that the command line wants for jobs.
    pub network: NetworkArguments,
}

/// Passwords of proxies, mirrors and registries are in the environment and in the file, so neither is shown.
impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("home", &self.home.value)
            .field("user_home", &self.user_home)
            .finish_non_exhaustive()
    }
}

/// The operator's `packhorse.toml`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct File {
    /// Registries that may be spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// The built-in base.
    pub base: BaseFile,
    /// The network.
    pub network: NetworkFile,
    /// The sandbox.
    pub sandbox: SandboxFile,
    /// What builds may use up.
    pub limits: LimitsFile,
    /// Where to fetch what is named by a URL.
    pub mirrors: Vec<MirrorFile>,
}

/// `[base]`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BaseFile {
    /// URL of the package archive.
    pub mirror: Option<String>,
    /// URL of the security archive.
    pub security_mirror: Option<String>,
}

/// `[network]`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NetworkFile {
    /// Certificates of authorities, in PEM, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Proxy for http.
    pub http_proxy: Option<String>,
    /// Proxy for https.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without the proxy.
    pub no_proxy: Option<String>,
    /// The policy where the command line names none.
    pub policy: Option<NetworkChoice>,
    /// Ports that jobs may dial, in place of ssh, http, https and git's own.
    pub ports: Option<Vec<u16>>,
    /// Domains that no job may ask for.
    pub denied_suffixes: Vec<String>,
    /// Hosts that jobs may reach wherever they are, and literal addresses.
    pub trusted_hosts: Vec<String>,
}

/// `[sandbox]`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SandboxFile {
    /// The rung that is used where the command line names none.
    pub rung: Option<Rung>,
    /// The lowest rung that may be used, whatever the command line says.
    pub minimum: Option<Rung>,
    /// Whether a build with limits may start itself in a scope of systemd's, where it helps.
    pub scope: Option<bool>,
}

impl SandboxFile {
    /// The rung that is wanted; `named` is what `--sandbox` says, `path` where this file is.
    fn choice(&self, named: Option<Setting<WantedRung>>, path: Option<&Path>) -> Setting<RungChoice> {
        let (exactly, origin) = match (named, self.rung, path) {
            (Some(named), _, _) => match named.value {
                WantedRung::Exactly(rung) => (Some(rung), named.origin),
                WantedRung::Auto => (None, named.origin),
            },
            (None, Some(rung), Some(path)) => (Some(rung), Origin::File(path.to_owned())),
            (None, rung, _) => (rung, Origin::Default),
        };
        Setting {
            value: RungChoice {
                exactly,
                minimum: self.minimum,
            },
            origin,
        }
    }
}

/// `[[mirrors]]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MirrorFile {
    /// What the URL begins with.
    pub prefix: String,
    /// What to put in its place: a URL or a path.
    pub target: String,
}

impl Config {
    /// Reads the process's environment and the operator's file. `home` is what `--home` says, `rung` what `--sandbox` does.
    pub fn read(home: Option<Setting<PathBuf>>, rung: Option<Setting<WantedRung>>) -> anyhow::Result<Self> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        let config = Self::from_environment(home, environment)?;
        let path = config.file_path.as_ref().map(|path| path.value.as_path());
        Ok(Self {
            rung: config.file.sandbox.choice(rung, path),
            ..config
        })
    }

    pub(super) fn from_environment(
        home: Option<Setting<PathBuf>>,
        environment: BTreeMap<String, OsString>,
    ) -> anyhow::Result<Self> {
        let path_of = |variable: Variable| {
            environment
                .get(variable.name())
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let user_home = path_of(Variable::Home);
        let home = match (home, path_of(Variable::XdgDataHome), &user_home) {
            (Some(Setting { value, origin }), _, _) => Setting {
                value: std::path::absolute(&value)
                    .with_context(|| format!("cannot use `{}`", value.display()))?,
                origin,
            },
            (None, Some(data), _) if data.is_absolute() => Setting {
                value: data.join("packhorse"),
                origin: Origin::Variable(Variable::XdgDataHome),
            },
            // The base directory specification has relative ones ignored.
            (None, _, Some(user_home)) if user_home.is_absolute() => Setting {
                value: user_home.join(".local/share/packhorse"),
                origin: Origin::Default,
            },
            (None, _, Some(user_home)) => {
                anyhow::bail!("HOME is `{}`, which is not an absolute path", user_home.display())
            }
            (None, _, None) => {
                anyhow::bail!("neither --home, PACKHORSE_HOME nor HOME says where to keep things")
            }
        };
        let place = |value: PathBuf, origin: Origin| Setting { value, origin };
        let xdg = path_of(Variable::XdgConfigHome)
            .map(|folder| place(folder, Origin::Variable(Variable::XdgConfigHome)));
        let usual = xdg
            .or_else(|| Some(place(user_home.as_ref()?.join(".config"), Origin::Default)))
            .map(|folder| folder.map(|folder| folder.join("packhorse/packhorse.toml")));
        let found = if let Some(path) = path_of(Variable::PackhorseConfig) {
            let file = read_file(&path)?.with_context(|| format!("there is no `{}`", path.display()))?;
            Some((place(path, Origin::Variable(Variable::PackhorseConfig)), file))
        } else {
            let of_the_system = place(PathBuf::from("/etc/packhorse/packhorse.toml"), Origin::Default);
            first_file(usual.into_iter().chain([of_the_system]))?
        };
        let (file_path, file) =
            found.map_or_else(|| (None, File::default()), |(path, file)| (Some(path), file));
        let path = file_path.as_ref().map(|path| path.value.as_path());
        Ok(Self {
            home,
            user_home,
            environment,
            rung: file.sandbox.choice(None, path),
            network: NetworkArguments::default(),
            file_path,
            file,
        })
    }

    /// The same with what a command line says of the network.
    #[must_use]
    pub fn with_network(&self, network: &NetworkArguments) -> Self {
        Self {
            network: network.clone(),
            ..self.clone()
        }
    }

    /// A variable's text; one that is empty or not UTF-8 counts as unset.
    pub fn variable(&self, variable: Variable) -> Option<&str> {
        self.text_of(variable.name())
    }

    fn text_of(&self, name: &str) -> Option<&str> {
        self.environment
            .get(name)?
            .to_str()
            .filter(|value| !value.is_empty())
    }

    /// The value for a variable of `--env`: what follows `=`, else the value it has here, else nothing.
    pub fn build_variable(&self, text: &str) -> anyhow::Result<(String, String)> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (text, self.text_of(text).unwrap_or_default().to_owned()),
        };
        let is_name = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        anyhow::ensure!(is_name, "`{text}` is no variable: write NAME=VALUE");
        Ok((name.to_owned(), value))
    }
}

/// The first of the operator's files that there is.
fn first_file(
    paths: impl Iterator<Item = Setting<PathBuf>>,
) -> anyhow::Result<Option<(Setting<PathBuf>, File)>> {
    for path in paths {
        if let Some(file) = read_file(&path.value)? {
            return Ok(Some((path, file)));
        }
    }
    Ok(None)
}

/// The operator's file at `path`, none if there is no such file.
fn read_file(path: &Path) -> anyhow::Result<Option<File>> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map(Some).map_err(|error| {
            // The error's own text quotes the line, and a line may hold the password of a proxy.
            let line = text[..error.span().map_or(0, |span| span.start)]
                .lines()
                .count()
                .max(1);
            anyhow::anyhow!(
                "cannot read `{}`: line {line}: {}",
                path.display(),
                error.message()
            )
        }),
        Err(error) if means_missing(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

/// Whether there is no such file. One that may not be read is there: without what it says of proxies, authorities and
/// mirrors, a build would go where the operator does not want it to go.
fn means_missing(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use super::*;

    /// What these variables alone come to.
    pub(in crate::cli) fn config(variables: &[(&str, &str)]) -> Config {
        let environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        Config::from_environment(None, environment).unwrap()
    }

    #[test]
    fn the_data_directory_follows_the_environment() {
        assert_eq!(
            config(&[("HOME", "/h")]).home.value,
            Path::new("/h/.local/share/packhorse")
        );
        assert_eq!(
            config(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")]).home.value,
            Path::new("/d/packhorse")
        );
        assert!(Config::from_environment(None, BTreeMap::new()).is_err());
    }

    #[test]
    fn a_variable_without_a_value_takes_the_one_it_has_here() {
        let config = config(&[("HOME", "/h"), ("TOKEN", "t")]);
        assert_eq!(
            config.build_variable("A=b=c").unwrap(),
            ("A".to_owned(), "b=c".to_owned())
        );
        assert_eq!(config.build_variable("TOKEN").unwrap().1, "t");
        assert_eq!(config.build_variable("MISSING").unwrap().1, "");
        assert!(config.build_variable("=x").is_err() && config.build_variable("a/b=x").is_err());
    }

    #[test]
    fn only_a_file_that_is_not_there_is_missing() {
        use std::io::ErrorKind;
        for kind in [ErrorKind::NotFound, ErrorKind::NotADirectory] {
            assert!(means_missing(&kind.into()), "{kind}");
        }
        for kind in [ErrorKind::PermissionDenied, ErrorKind::IsADirectory] {
            assert!(!means_missing(&kind.into()), "{kind}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("packhorse.toml");
        std::fs::write(&path, "[network]\nhttp-proxy = \"http://u:s3cret@proxy\"\n").unwrap();
        let path = path.to_str().unwrap();
        let config = config(&[
            ("HOME", "/h"),
            ("PACKHORSE_CONFIG", path),
            ("CNB_REGISTRY_AUTH", "s3cret"),
        ]);
        assert!(
            config
                .http_proxy()
                .is_some_and(|proxy| proxy.value.contains("s3cret"))
        );
        let shown = format!("{config:?}");
        assert!(shown.contains("/h/") && !shown.contains("s3cret"), "{shown}");
    }
}
