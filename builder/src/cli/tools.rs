//! Makes the tools of a command out of the configuration: clients, store, git, and who the worker is.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::mirror::Mirrors;
use crate::buildpack::failed_step::Visitor;
use crate::cli::config::Config;
use crate::cli::failure::CommandError;
use crate::cli::network;
use crate::cli::setting::Origin;
use crate::cli::setting::Setting;
use crate::cli::variable::Variable;
use crate::events::Cancel;
use crate::events::Watcher;
use crate::git::repository::Git;
use crate::git::settings::Settings as GitSettings;
use crate::git_job::GitJobs;
use crate::http::client::Client;
use crate::http::dialler::proxy::UpstreamProxy;
use crate::http::settings::Mirror;
use crate::http::settings::Proxy;
use crate::http::settings::Settings as HttpSettings;
use crate::model::policy::allow_list::AllowList;
use crate::model::timestamp::Timestamp;
use crate::phases::handover::BuilderSettings;
use crate::phases::handover::Tools;
use crate::registry::client::Registry;
use crate::registry::credentials::CredentialSources;
use crate::sandbox;
use crate::sandbox::directory::janitor;
use crate::sandbox::identity;
use crate::sandbox::identity::Surroundings;
use crate::sandbox::ladder::Ground;
use crate::sandbox::ladder::Missing;
use crate::store::Store;

/// How long threads are waited for that still block when a command has ended: for what removes what it has made.
const LAST_THREADS_TIMEOUT: Duration = Duration::from_millis(500);

/// The owners of the outside things, for one command.
pub struct Toolbox {
    git: Git,
    /// The HTTP client.
    pub http: Client,
    /// Speaks to registries.
    pub registry: Registry,
    /// What is kept on this machine.
    pub store: Store,
    /// The builder's settings.
    pub builder: BuilderSettings,
    /// Who watches.
    pub watcher: Watcher,
    /// Set when the command is to end.
    pub cancel: Cancel,
    /// Who looks at a step that fails.
    pub visitor: Option<Arc<dyn Visitor>>,
}

impl Toolbox {
    /// Makes the tools. Must be called while the process has one thread: a plain user's process becomes root of a
    /// namespace of its own here.
    pub fn open(config: &Config, insecure: &[String], watcher: Watcher) -> Result<Self, CommandError> {
        let surroundings = surroundings(config);
        let (ground, climbed) = sandbox::enter(&surroundings, config.rung.value, &config.home.value)?;
        let store = Store::open(&config.home.value)?.with_owners(ground.owners());
        let offline = config.network.offline.then(|| network::own_hosts(config));
        let http_settings = HttpSettings {
            offline: offline.transpose()?.map(AllowList::new),
            ..http_settings(config, insecure)
        };
        let http = Client::new(&http_settings)?;
        let user_command = identity::as_user_arguments(ground.identity);
        let credentials = CredentialSources {
            user_command: user_command.clone(),
            ..credential_sources(config)
        };
        let git = GitSettings {
            http: http_settings.clone(),
            user_command,
            plain_http_hosts: http_settings.plain_http_hosts.clone(),
            ..GitSettings::new(store.root().join("git"))
        };
        Ok(Self {
            git: with_jobs(Git::new(with_ssh(git, config)?), config, ground, &store),
            registry: Registry::new(http.clone(), credentials),
            http,
            builder: builder_settings(config, ground, climbed.missing)?,
            store,
            watcher,
            cancel: Cancel::default(),
            visitor: None,
        })
    }

    /// Removes what builds have left: killed ones (their locks are free) at once, discarded trees beside the command. What
    /// they have left of pending trees is discarded first, and so goes with the rest.
    pub fn clean_up(&self) {
        if let Err(error) = self.store.sweep() {
            tracing::warn!(%error, "cannot remove what killed builds have left in the store");
        }
        let store = self.store.clone();
        std::thread::spawn(move || {
            if let Err(error) = store.empty_trash() {
                tracing::warn!(%error, "cannot empty the trash");
            }
        });
        match janitor(&self.store.root().join("jobs")) {
            Ok(cleaned) => {
                for (id, why) in cleaned.failed {
                    tracing::warn!(job = id, why, "cannot remove what a killed build has left");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look for what killed builds have left"),
        }
    }

    /// The tools as the phases take them.
    pub fn tools(&self) -> Tools<'_> {
        Tools {
            git: &self.git,
            http: &self.http,
            registry: &self.registry,
            store: &self.store,
            builder: &self.builder,
            watcher: &self.watcher,
            cancel: &self.cancel,
            visitor: self.visitor.as_ref(),
        }
    }
}

/// Runs `work` on a runtime of its own. A thread that still blocks when it has ended is waited for only briefly:
/// nobody can end one that asks the system for a host's address.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T, CommandError> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        built.map_err(|error| CommandError::from(anyhow::anyhow!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_THREADS_TIMEOUT);
    Ok(outcome)
}

/// Who packhorse is on this machine.
pub(super) fn surroundings(config: &Config) -> Surroundings {
    let search_path = config
        .environment
        .get(Variable::Path.name())
        .map(|path| OsStr::new(path.as_os_str()));
    Surroundings::read(search_path, config.variable(Variable::User))
}

/// Where credentials for registries are looked for, by this very user.
pub(super) fn credential_sources(config: &Config) -> CredentialSources {
    CredentialSources {
        cnb_registry_auth: config.registry_auth().map(|auth| auth.value),
        files: config
            .credential_files()
            .into_iter()
            .map(|file| file.value)
            .collect(),
        ..CredentialSources::default()
    }
}

pub(super) fn http_settings(config: &Config, insecure: &[String]) -> HttpSettings {
    let network = &config.file.network;
    let value = |setting: Option<Setting<String>>| setting.map(|setting| setting.value);
    let mirror = |mirror: &crate::cli::config::MirrorFile| Mirror {
        prefix: mirror.prefix.clone(),
        target: mirror.target.clone(),
    };
    HttpSettings {
        ca_files: network.ca_file.iter().cloned().collect(),
        proxy: Proxy {
            http: value(config.http_proxy()),
            https: value(config.https_proxy()),
            no_proxy: value(config.no_proxy()),
        },
        mirrors: config.file.mirrors.iter().map(mirror).collect(),
        plain_http_hosts: config
            .file
            .insecure_registries
            .iter()
            .chain(insecure)
            .cloned()
            .collect(),
        ..HttpSettings::default()
    }
}

/// Git in jobs, where they are walled off. A machine that forbids it steps down with a warning, unless a minimum is set.
fn with_jobs(git: Git, config: &Config, ground: Ground, store: &Store) -> Git {
    let jobs = store.root().join("jobs");
    match GitJobs::new(jobs, ground, PathBuf::from("/proc/self/exe")) {
        Ok(jobs) => git.in_jobs(Arc::new(jobs), config.rung.value.minimum.is_none()),
        Err(why) => git.without_jobs(why),
    }
}

/// `GIT_SSH_COMMAND` and `GIT_SSH`.
fn with_ssh(settings: GitSettings, config: &Config) -> Result<GitSettings, CommandError> {
    let ssh_command = match config.ssh() {
        Some(Setting {
            value,
            origin: Origin::Variable(Variable::GitSshCommand),
        }) => ssh_words(&value)?,
        Some(program) => vec![program.value.into()],
        None => settings.ssh_command.clone(),
    };
    Ok(GitSettings {
        ssh_command,
        ..settings
    })
}

/// The words of `GIT_SSH_COMMAND` with a shell's quotes. Git gives it to a shell; here nothing goes through one, so that
/// variables and `~` stay as they are.
fn ssh_words(command: &str) -> Result<Vec<OsString>, CommandError> {
    let words = shlex::split(command).filter(|words| !words.is_empty());
    let words =
        words.ok_or_else(|| CommandError::usage("GIT_SSH_COMMAND is no command: is a quote left open?"))?;
    Ok(words.into_iter().map(Into::into).collect())
}

fn builder_settings(
    config: &Config,
    ground: Ground,
    missing: Vec<Missing>,
) -> Result<BuilderSettings, CommandError> {
    let mirrors = Mirrors {
        main: config.base_mirror().value,
        security: config.base_security_mirror().value,
        snapshot: Mirrors::default().snapshot,
    };
    Ok(BuilderSettings {
        mirrors,
        ground,
        missing,
        ca_file: config.ca_file().map(|file| file.value),
        network: network::policy(config)?,
        proxy: upstream_proxy(config)?,
        now: now(),
    })
}

pub(super) fn upstream_proxy(config: &Config) -> Result<UpstreamProxy, CommandError> {
    let url = |name: &str, setting: Option<Setting<String>>| -> Result<Option<reqwest::Url>, CommandError> {
        let Some(Setting { value: text, .. }) = setting else {
            return Ok(None);
        };
        let with_scheme = if text.contains("://") {
            text
        } else {
            format!("http://{text}")
        };
        reqwest::Url::parse(&with_scheme)
            .map(Some)
            .map_err(|error| CommandError::usage(format!("the proxy in {name} is no URL: {error}")))
    };
    Ok(UpstreamProxy {
        http: url("http_proxy", config.http_proxy())?,
        https: url("https_proxy", config.https_proxy())?,
        no_proxy: config
            .no_proxy()
            .map(|hosts| {
                hosts
                    .value
                    .split(',')
                    .map(|host| host.trim().to_owned())
                    .filter(|host| !host.is_empty())
                    .collect()
            })
            .unwrap_or_default(),
    })
}

/// The one place that reads the clock.
#[expect(clippy::disallowed_methods, reason = "commands hand the time to the library")]
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// A shared watcher.
pub fn watcher(renderer: crate::cli::render::Renderer) -> Watcher {
    Arc::new(renderer)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_blocks_for_long_is_not_waited_for() {
        let start = Instant::now();
        block_on(async {
            let (begins, begun) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                begins.send(()).unwrap();
                std::thread::sleep(Duration::from_secs(60));
            });
            begun.await.unwrap();
        })
        .unwrap();
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    }

    #[test]
    fn the_ssh_command_is_split_as_a_shell_splits_it() {
        for (command, expected) in [
            ("ssh -4", &["ssh", "-4"][..]),
            (
                "'/opt/my tools/ssh'  -i \"a b\"",
                &["/opt/my tools/ssh", "-i", "a b"],
            ),
            (r"ssh -i a\ b $HOME/~x", &["ssh", "-i", "a b", "$HOME/~x"]),
            (
                "ssh -o 'ProxyCommand=nc %h \"%p\"'",
                &["ssh", "-o", "ProxyCommand=nc %h \"%p\""],
            ),
        ] {
            assert_eq!(ssh_words(command).unwrap(), expected, "{command}");
        }
        for command in ["ssh -i 'open", "  "] {
            assert_eq!(ssh_words(command).unwrap_err().exit_code, 2, "{command}");
        }
    }
}
