//! Reads the environment and the operator's `packhorse.toml`, once: flag > environment > file > default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

use crate::cli::arguments::WantedRung;
use crate::model::rung::Rung;
use crate::model::rung::RungChoice;

/// Everything that comes from the environment and the operator's file.
#[derive(Clone)]
pub struct Config {
    /// Where packhorse keeps what it keeps.
    pub home: PathBuf,
    /// The user's home folder, for docker's configuration.
    pub user_home: Option<PathBuf>,
    /// The environment as it was at the start.
    pub environment: BTreeMap<String, OsString>,
    /// The operator's file.
    pub file: File,
    /// The sandbox that is wanted for jobs.
    pub rung: RungChoice,
}

/// Passwords of proxies, mirrors and registries are in the environment and in the file, so neither is shown.
impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("home", &self.home)
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
}

/// `[sandbox]`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SandboxFile {
    /// The rung that is used where the command line names none.
    pub rung: Option<Rung>,
    /// The lowest rung that may be used, whatever the command line says.
    pub minimum: Option<Rung>,
}

impl SandboxFile {
    /// The rung that is wanted; `named` is what `--sandbox` says.
    fn choice(&self, named: Option<WantedRung>) -> RungChoice {
        let exactly = match named {
            Some(WantedRung::Exactly(rung)) => Some(rung),
            Some(WantedRung::Auto) => None,
            None => self.rung,
        };
        RungChoice {
            exactly,
            minimum: self.minimum,
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

/// Where a Debian system keeps the certificates of authorities, and others do.
const SYSTEM_CA_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Config {
    /// Reads the process's environment and the operator's file. `home` is what `--home` says, `rung` what `--sandbox` does.
    pub fn read(home: Option<&Path>, rung: Option<WantedRung>) -> anyhow::Result<Self> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        let config = Self::from_environment(home, environment)?;
        Ok(Self {
            rung: config.file.sandbox.choice(rung),
            ..config
        })
    }

    fn from_environment(
        home: Option<&Path>,
        environment: BTreeMap<String, OsString>,
    ) -> anyhow::Result<Self> {
        let path_of = |name: &str| {
            environment
                .get(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let user_home = path_of("HOME");
        let home = match (home, path_of("XDG_DATA_HOME"), &user_home) {
            (Some(home), _, _) => {
                std::path::absolute(home).with_context(|| format!("cannot use `{}`", home.display()))?
            }
            (None, Some(data), _) if data.is_absolute() => data.join("packhorse"),
            // The base directory specification has relative ones ignored.
            (None, _, Some(user_home)) if user_home.is_absolute() => user_home.join(".local/share/packhorse"),
            (None, _, Some(user_home)) => {
                anyhow::bail!("HOME is `{}`, which is not an absolute path", user_home.display())
            }
            (None, _, None) => {
                anyhow::bail!("neither --home, PACKHORSE_HOME nor HOME says where to keep things")
            }
        };
        let configured = path_of("PACKHORSE_CONFIG");
        let usual = path_of("XDG_CONFIG_HOME")
            .or_else(|| Some(user_home.as_ref()?.join(".config")))
            .map(|folder| folder.join("packhorse/packhorse.toml"));
        let file = if let Some(path) = configured {
            read_file(&path)?.with_context(|| format!("there is no `{}`", path.display()))?
        } else {
            first_file(
                usual
                    .into_iter()
                    .chain([PathBuf::from("/etc/packhorse/packhorse.toml")]),
            )?
        };
        Ok(Self {
            home,
            user_home,
            environment,
            rung: file.sandbox.choice(None),
            file,
        })
    }

    /// A variable's text; one that is empty or not UTF-8 counts as unset.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .get(name)?
            .to_str()
            .filter(|value| !value.is_empty())
    }

    /// A variable's text under its upper-case or lower-case name, else what the operator's file says.
    pub fn proxy(&self, name: &str, from_file: Option<&String>) -> Option<String> {
        self.variable(name)
            .or_else(|| self.variable(&name.to_uppercase()))
            .map(str::to_owned)
            .or_else(|| from_file.cloned())
    }

    /// The certificates of authorities that jobs get: the operator's file, `SSL_CERT_FILE`, else the system's.
    pub fn ca_file(&self) -> Option<PathBuf> {
        let named = self
            .file
            .network
            .ca_file
            .clone()
            .or_else(|| self.variable("SSL_CERT_FILE").map(PathBuf::from));
        named.or_else(|| {
            SYSTEM_CA_FILES
                .iter()
                .map(PathBuf::from)
                .find(|path| path.is_file())
        })
    }

    /// The value for a variable of `--env`: what follows `=`, else the value it has here, else nothing.
    pub fn build_variable(&self, text: &str) -> anyhow::Result<(String, String)> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (text, self.variable(text).unwrap_or_default().to_owned()),
        };
        let is_name = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        anyhow::ensure!(is_name, "`{text}` is no variable: write NAME=VALUE");
        Ok((name.to_owned(), value))
    }
}

/// The first of the operator's files that there is.
fn first_file(paths: impl Iterator<Item = PathBuf>) -> anyhow::Result<File> {
    for path in paths {
        if let Some(file) = read_file(&path)? {
            return Ok(file);
        }
    }
    Ok(File::default())
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
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Config {
        let environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        Config::from_environment(None, environment).unwrap()
    }

    #[test]
    fn the_data_directory_follows_the_environment() {
        assert_eq!(
            config(&[("HOME", "/h")]).home,
            Path::new("/h/.local/share/packhorse")
        );
        assert_eq!(
            config(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")]).home,
            Path::new("/d/packhorse")
        );
        assert!(Config::from_environment(None, BTreeMap::new()).is_err());
    }

    #[test]
    fn proxies_are_found_in_either_case() {
        let config = config(&[("HOME", "/h"), ("HTTPS_PROXY", "http://p:1"), ("no_proxy", "a,b")]);
        assert_eq!(config.proxy("https_proxy", None).as_deref(), Some("http://p:1"));
        assert_eq!(
            config.proxy("no_proxy", Some(&"x".to_owned())).as_deref(),
            Some("a,b")
        );
        assert_eq!(
            config.proxy("http_proxy", Some(&"x".to_owned())).as_deref(),
            Some("x")
        );
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
                .proxy("http_proxy", config.file.network.http_proxy.as_ref())
                .unwrap()
                .contains("s3cret")
        );
        let shown = format!("{config:?}");
        assert!(shown.contains("/h/") && !shown.contains("s3cret"), "{shown}");
    }
}
