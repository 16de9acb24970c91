//! `packhorse config`: every setting that is in force, and where it comes from.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::cli::arguments::Progress;
use crate::cli::arguments::about::ConfigArguments;
use crate::cli::config::BaseFile;
use crate::cli::config::Config;
use crate::cli::config::File;
use crate::cli::config::MirrorFile;
use crate::cli::config::NetworkFile;
use crate::cli::config::SandboxFile;
use crate::cli::failure::CommandError;
use crate::cli::limits;
use crate::cli::render;
use crate::cli::setting::Origin;
use crate::cli::setting::Setting;
use crate::cli::variable::Variable;
use crate::http::redact::redact;
use crate::model::rung::Rung;
use crate::model::rung::RungChoice;

/// What is shown for a secret.
const SECRET: &str = "(set, not shown)";
/// What is shown where nothing is set.
const NOTHING: &str = "(none)";

/// Settings of the command line that say how packhorse speaks.
#[derive(Debug)]
pub struct Shown {
    /// How progress is shown.
    pub progress: Setting<Progress>,
    /// Whether only the result is printed.
    pub quiet: Setting<bool>,
}

/// One setting. The keys of its JSON are stable.
#[derive(Debug, Serialize)]
struct Row {
    /// Its name; with a dot where it is one of `packhorse.toml`.
    name: String,
    /// Its value; none where nothing is set.
    value: Option<String>,
    /// Where the value comes from, in words.
    origin: String,
    /// The variables that can set it.
    variables: Vec<&'static str>,
}

/// Runs the command.
pub fn run(arguments: &ConfigArguments, config: &Config, shown: &Shown) -> Result<u8, CommandError> {
    let rows = rows(config, shown);
    if arguments.json {
        render::json(&serde_json::json!({ "settings": rows }));
    } else {
        render::result(&text(&rows))?;
    }
    Ok(0)
}

/// Every setting. The compiler names this function when one is added to the file or to the configuration; a test does
/// when a variable is.
fn rows(config: &Config, shown: &Shown) -> Vec<Row> {
    let Config {
        home,
        user_home: _,
        environment: _,
        file,
        file_path,
        rung: _,
        network: _,
    } = config;
    let File {
        insecure_registries,
        base: BaseFile {
            mirror: _,
            security_mirror: _,
        },
        network:
            NetworkFile {
                ca_file: _,
                http_proxy: _,
                https_proxy: _,
                no_proxy: _,
                policy: _,
                ports: _,
                denied_suffixes: _,
                trusted_hosts: _,
            },
        sandbox: SandboxFile {
            rung: _,
            minimum: _,
            scope: _,
        },
        limits: _,
        mirrors,
    } = file;
    let mut rows = vec![
        row(
            "home",
            Some(home.clone().map(|path| shown_path(&path))),
            &[Variable::PackhorseHome, Variable::XdgDataHome, Variable::Home],
        ),
        row(
            "config-file",
            file_path.clone().map(|file| file.map(|path| shown_path(&path))),
            &[Variable::PackhorseConfig, Variable::XdgConfigHome, Variable::Home],
        ),
    ];
    rows.extend(rows_of_manner(shown));
    rows.extend(sandbox_rows(config));
    rows.extend(
        limits::settings(config)
            .into_iter()
            .map(|(name, setting)| row(name, setting, &[])),
    );
    rows.extend(network_rows(config));
    rows.extend(mirror_rows(config, mirrors));
    let insecure = config.of_file(Some(insecure_registries).filter(|hosts| !hosts.is_empty()));
    rows.push(row(
        "insecure-registries",
        insecure.map(|hosts| hosts.map(|hosts| hosts.join(", "))),
        &[],
    ));
    rows.extend(rows_of_programs(config));
    rows
}

fn sandbox_rows(config: &Config) -> [Row; 3] {
    let asked = |choice: RungChoice| choice.exactly.map_or("auto", Rung::name).to_owned();
    let minimum = config.of_file(config.file.sandbox.minimum.as_ref());
    [
        row(
            "sandbox.rung",
            Some(config.rung.clone().map(asked)),
            &[Variable::PackhorseSandbox],
        ),
        row(
            "sandbox.minimum",
            minimum.map(|minimum| minimum.map(|rung| rung.name().to_owned())),
            &[],
        ),
        row(
            "sandbox.scope",
            Some(config.may_use_scope().map(|may| may.to_string())),
            &[Variable::PackhorseScope],
        ),
    ]
}

fn rows_of_manner(shown: &Shown) -> [Row; 2] {
    let quiet = shown.quiet.clone().map(|quiet| quiet.to_string());
    [
        row("progress", Some(shown.progress.clone().map(progress_name)), &[]),
        row("quiet", Some(quiet), &[]),
    ]
}

fn network_rows(config: &Config) -> Vec<Row> {
    let url = |url: String| redact(&url);
    let network = &config.file.network;
    let typed = config.variable(Variable::PackhorseNetwork).map(|text| Setting {
        value: text.to_owned(),
        origin: Origin::Variable(Variable::PackhorseNetwork),
    });
    let policy = typed.or_else(|| {
        let policy = config.of_file(network.policy.as_ref())?;
        Some(policy.map(|policy| policy.to_string()))
    });
    let list = |list: &[String]| {
        let text = Some(list.join(", ")).filter(|text| !text.is_empty());
        config.of_file(text.as_ref())
    };
    let ports = network.ports.iter().flatten().map(u16::to_string);
    vec![
        row("network.policy", policy, &[Variable::PackhorseNetwork]),
        row("network.ports", list(&ports.collect::<Vec<_>>()), &[]),
        row("network.denied-suffixes", list(&network.denied_suffixes), &[]),
        row("network.trusted-hosts", list(&network.trusted_hosts), &[]),
        row(
            "network.ca-file",
            config.ca_file().map(|file| file.map(|path| shown_path(&path))),
            &[Variable::SslCertFile],
        ),
        row(
            "network.http-proxy",
            config.http_proxy().map(|proxy| proxy.map(url)),
            &[Variable::HttpProxy, Variable::HttpProxyUpper],
        ),
        row(
            "network.https-proxy",
            config.https_proxy().map(|proxy| proxy.map(url)),
            &[Variable::HttpsProxy, Variable::HttpsProxyUpper],
        ),
        row(
            "network.no-proxy",
            config.no_proxy(),
            &[Variable::NoProxy, Variable::NoProxyUpper],
        ),
        row(
            "base.mirror",
            Some(config.base_mirror().map(url)),
            &[Variable::DebianMirror],
        ),
        row(
            "base.security-mirror",
            Some(config.base_security_mirror().map(url)),
            &[Variable::DebianSecurityMirror],
        ),
    ]
}

fn mirror_rows(config: &Config, mirrors: &[MirrorFile]) -> Vec<Row> {
    if mirrors.is_empty() {
        return vec![row("mirrors", None, &[])];
    }
    let words =
        |MirrorFile { prefix, target }: &MirrorFile| format!("{} -> {}", redact(prefix), redact(target));
    let rows = mirrors.iter().map(|mirror| {
        let setting = config.of_file(Some(mirror));
        row(
            "mirrors",
            setting.map(|mirror| mirror.map(|mirror| words(&mirror))),
            &[],
        )
    });
    rows.collect()
}

/// Settings that are other programs' as well: their variables alone set them.
fn rows_of_programs(config: &Config) -> Vec<Row> {
    let mut rows = vec![row(
        "registry-credentials",
        config.registry_auth().map(|auth| auth.map(|_| SECRET.to_owned())),
        &[Variable::CnbRegistryAuth],
    )];
    let files = config.credential_files();
    rows.extend(files.into_iter().map(|file| {
        row(
            "registry-credentials-file",
            Some(file.map(|path| shown_path(&path))),
            &[
                Variable::RegistryAuthFile,
                Variable::DockerConfig,
                Variable::XdgRuntimeDirectory,
                Variable::Home,
            ],
        )
    }));
    // What comes after the program may be a password.
    let program = |command: String| match command.split_once(' ') {
        Some((program, _)) => format!("{program} (arguments not shown)"),
        None => command,
    };
    rows.push(row(
        "git-ssh-command",
        config.ssh().map(|command| command.map(program)),
        &[Variable::GitSshCommand, Variable::GitSsh],
    ));
    for (name, variable) in [
        ("ca-directory", Variable::SslCertDirectory),
        ("search-path", Variable::Path),
        ("user", Variable::User),
        ("traces", Variable::RustLog),
    ] {
        rows.push(row(name, config.set(&[variable]), &[variable]));
    }
    rows
}

fn row(name: &str, setting: Option<Setting<String>>, variables: &[Variable]) -> Row {
    let (value, origin) = setting.map_or((None, Origin::Default), |setting| {
        (Some(setting.value), setting.origin)
    });
    Row {
        name: name.to_owned(),
        value,
        origin: origin.to_string(),
        variables: variables.iter().map(|variable| variable.name()).collect(),
    }
}

fn shown_path(path: &Path) -> String {
    path.display().to_string()
}

fn progress_name(progress: Progress) -> String {
    match progress {
        Progress::Auto => "auto",
        Progress::Plain => "plain",
        Progress::Json => "json",
    }
    .to_owned()
}

/// Three columns, of which the last is the origin.
fn text(rows: &[Row]) -> String {
    let value = |row: &Row| row.value.clone().unwrap_or_else(|| NOTHING.to_owned());
    let width = |length: fn(&Row) -> usize| rows.iter().map(length).max().unwrap_or(0);
    let names = width(|row| row.name.chars().count());
    // A long value moves its own origin, not those of all others.
    let values = width(|row| row.value.as_ref().map_or(0, |value| value.chars().count())).min(48);
    rows.iter().fold(String::new(), |mut text, row| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "{:names$}  {:values$}  {}",
            row.name,
            value(row),
            row.origin
        );
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "insecure-registries = [\"registry.lan:5000\", \"other.lan\"]\n\
        [sandbox]\nrung = \"rootless\"\nminimum = \"single-id\"\n\
        [limits]\nmemory = \"4G\"\nidle-timeout = \"10m\"\ncpus = 1.5\n\
        [base]\nmirror = \"https://me:s3cret@mirror.example/debian\"\n\
        [network]\nhttps-proxy = \"http://me:s3cret@proxy.example:3128\"\nca-file = \"/etc/corp/ca.pem\"\n\
        [[mirrors]]\nprefix = \"https://registry.npmjs.org/\"\ntarget = \"https://me:s3cret@npm.example/?key=s3cret\"\n";

    fn shown() -> Shown {
        Shown {
            progress: Setting {
                value: Progress::Plain,
                origin: Origin::Flag("progress"),
            },
            quiet: Setting {
                value: false,
                origin: Origin::Default,
            },
        }
    }

    fn config(file: &str, variables: &[(&str, &str)]) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("packhorse.toml");
        std::fs::write(&path, file).unwrap();
        let environment = variables
            .iter()
            .copied()
            .chain([("HOME", "/h"), ("PACKHORSE_CONFIG", path.to_str().unwrap())])
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let mut config = Config::from_environment(None, environment).unwrap();
        let place = std::path::PathBuf::from("/etc/packhorse/packhorse.toml");
        // In place of the temporary one, so that the snapshot is the same everywhere.
        if config.rung.origin == Origin::File(path) {
            config.rung.origin = Origin::File(place.clone());
        }
        config.file_path = Some(Setting {
            value: place,
            origin: Origin::Default,
        });
        config
    }

    #[test]
    fn settings_read_well_and_hide_secrets() {
        let config = config(
            FILE,
            &[
                ("HTTP_PROXY", "http://me:s3cret@plain.example:3128"),
                ("CNB_REGISTRY_AUTH", "{\"r.example\":\"Basic s3cret\"}"),
                ("GIT_SSH_COMMAND", "sshpass -p s3cret ssh"),
                ("XDG_RUNTIME_DIR", "/run/user/1000"),
                ("PATH", "/usr/bin:/bin"),
            ],
        );
        let rows = rows(&config, &shown());
        let text = text(&rows);
        let json = serde_json::to_string_pretty(&rows).unwrap();
        assert!(
            !text.contains("s3cret") && !json.contains("s3cret"),
            "{text}{json}"
        );
        insta::assert_snapshot!(text);
        insta::assert_snapshot!(json);
    }

    #[test]
    fn no_variable_is_forgotten() {
        let rows = rows(&config("", &[]), &shown());
        for variable in Variable::ALL {
            let is_told = rows.iter().any(|row| row.variables.contains(&variable.name()));
            assert!(is_told, "no setting names {}", variable.name());
        }
    }
}
