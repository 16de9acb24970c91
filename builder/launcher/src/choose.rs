//! Which process to start, and with which arguments (Platform spec, "Launch"). Pure decisions.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::Path;

use packhorse_spec::api::Api;
use packhorse_spec::metadata_toml::BuildMetadata;
use packhorse_spec::metadata_toml::Process;
use thiserror::Error;

/// What the choice depends on.
pub(crate) struct Request<'a> {
    /// What is in the image.
    pub(crate) metadata: &'a BuildMetadata,
    /// The Platform API of the image.
    pub(crate) platform_api: Api,
    /// The execution environment that it is started in.
    pub(crate) exec_env: &'a OsStr,
    /// The name that the launcher was called by.
    pub(crate) name: &'a OsStr,
    /// The user's arguments.
    pub(crate) arguments: &'a [OsString],
}

/// The process to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Its type; `None` for a command of the user.
    pub(crate) process_type: Option<String>,
    /// The program and what always follows it; a shell takes it as one text.
    pub(crate) command: Vec<OsString>,
    /// The arguments after that.
    pub(crate) arguments: Vec<OsString>,
    /// Whether it starts without a shell.
    pub(crate) direct: bool,
    /// The buildpack that it is from; empty for a command of the user.
    pub(crate) buildpack_id: String,
    /// The folder to start it in; empty for the application's.
    pub(crate) working_dir: String,
}

/// Why there is nothing to start.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum ChoiceError {
    #[error("when there is no default process a command is required")]
    NoCommand,
    #[error("process type {0} was not found")]
    NotFound(String),
    #[error("failed to find buildpack for process {process_type} with buildpack ID {id}")]
    UnknownBuildpack { process_type: String, id: String },
}

/// Chooses the process. Its type is the name that the launcher was called by, if there is a process of that type.
pub(crate) fn choose_process(request: &Request<'_>) -> Result<Chosen, ChoiceError> {
    let processes = &request.metadata.processes;
    let name = Path::new(request.name)
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    if !processes.iter().any(|process| process.process_type == name) {
        return users_command(request.arguments);
    }
    let process = processes
        .iter()
        .find(|process| process.process_type == name && is_for_exec_env(process, request))
        .ok_or_else(|| ChoiceError::NotFound(name.to_owned()))?;
    let (command, arguments) = with_users_arguments(process, request)?;
    Ok(Chosen {
        process_type: Some(name.to_owned()),
        command,
        arguments,
        direct: process.direct,
        buildpack_id: process.buildpack_id.clone(),
        working_dir: process.working_dir.clone(),
    })
}

/// `-- PROGRAM ARGUMENTS…` is started as it is; anything else goes through a shell.
fn users_command(arguments: &[OsString]) -> Result<Chosen, ChoiceError> {
    let (direct, words) = match arguments {
        [] => return Err(ChoiceError::NoCommand),
        [dashes, words @ ..] if dashes == "--" && !words.is_empty() => (true, words),
        words => (false, words),
    };
    Ok(Chosen {
        command: words[..1].to_vec(),
        arguments: words[1..].to_vec(),
        direct,
        ..Chosen::default()
    })
}

fn is_for_exec_env(process: &Process, request: &Request<'_>) -> bool {
    !request.platform_api.at_least(0, 15)
        || process.exec_env.is_empty()
        || process
            .exec_env
            .iter()
            .any(|name| name == "*" || OsStr::new(name) == request.exec_env)
}

/// The command and the arguments after it. Arguments of a buildpack can be replaced since Buildpack API 0.9, and
/// only if the Platform API knows of it; arguments that are part of the command always stay.
fn with_users_arguments(
    process: &Process,
    request: &Request<'_>,
) -> Result<(Vec<OsString>, Vec<OsString>), ChoiceError> {
    let own = |texts: &[String]| texts.iter().map(OsString::from).collect::<Vec<_>>();
    let command = own(process.command.entries());
    let arguments = own(process.args.as_deref().unwrap_or_default());
    let users = request.arguments;

    let replaces = if !request.platform_api.at_least(0, 10) {
        false
    } else if users.is_empty() || command.len() > 1 {
        !users.is_empty()
    } else {
        buildpack_api(process, request)?.at_least(0, 9)
    };
    let arguments = if replaces {
        users.to_vec()
    } else {
        [arguments.as_slice(), users].concat()
    };

    if request.platform_api.at_least(0, 10) && command.len() > 1 {
        let always = &command[1..];
        return Ok((command[..1].to_vec(), [always, arguments.as_slice()].concat()));
    }
    Ok((command, arguments))
}

fn buildpack_api(process: &Process, request: &Request<'_>) -> Result<Api, ChoiceError> {
    let id = &process.buildpack_id;
    let buildpack = request
        .metadata
        .buildpacks
        .iter()
        .find(|buildpack| buildpack.id == id.as_str());
    buildpack
        .and_then(|buildpack| buildpack.api.parse().ok())
        .ok_or_else(|| ChoiceError::UnknownBuildpack {
            process_type: process.process_type.clone(),
            id: id.clone(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"
        [[buildpacks]]
        id = "old"
        version = "1"
        api = "0.8"
        [[buildpacks]]
        id = "new"
        version = "1"
        api = "0.9"
        [[processes]]
        type = "web"
        command = ["w"]
        args = ["a"]
        direct = false
        buildpack-id = "old"
        [[processes]]
        type = "one"
        command = ["o"]
        args = ["a"]
        direct = true
        buildpack-id = "new"
        working-dir = "/tmp"
        [[processes]]
        type = "many"
        command = ["m", "x"]
        args = ["a"]
        direct = true
        buildpack-id = "new"
        [[processes]]
        type = "text"
        command = "t"
        direct = true
        buildpack-id = "new"
        [[processes]]
        type = "lost"
        command = ["l"]
        buildpack-id = "gone"
        [[processes]]
        type = "testing"
        command = ["t"]
        buildpack-id = "new"
        exec-env = ["test"]
        [[processes]]
        type = "any.1"
        command = ["y"]
        buildpack-id = "new"
        exec-env = ["*"]
    "#;

    fn choose(name: &str, arguments: &[&str], api: Api, exec_env: &str) -> Result<Chosen, ChoiceError> {
        choose_process(&Request {
            metadata: &BuildMetadata::parse(METADATA).unwrap(),
            platform_api: api,
            exec_env: OsStr::new(exec_env),
            name: OsStr::new(name),
            arguments: &arguments.iter().map(OsString::from).collect::<Vec<_>>(),
        })
    }

    const NEW: Api = Api::new(0, 15);
    const OLD: Api = Api::new(0, 9);

    #[test]
    fn arguments_follow_the_matrix() {
        let cases: [(&str, &[&str], Api, &[&str]); 11] = [
            ("web", &[], NEW, &["w", "a"]),
            ("web", &["u"], NEW, &["w", "a", "u"]),
            ("one", &[], NEW, &["o", "a"]),
            ("one", &["u", "v"], NEW, &["o", "u", "v"]),
            ("one", &["u"], OLD, &["o", "a", "u"]),
            ("many", &[], NEW, &["m", "x", "a"]),
            ("many", &["u"], NEW, &["m", "x", "u"]),
            ("many", &["u"], OLD, &["m", "x", "a", "u"]),
            ("text", &["u"], NEW, &["t", "u"]),
            ("text", &["--", "u"], NEW, &["t", "--", "u"]),
            ("lost", &[], NEW, &["l"]),
        ];
        for (name, users, api, expected) in cases {
            let chosen = choose(name, users, api, "production").unwrap();
            let words = [chosen.command, chosen.arguments].concat();
            assert_eq!(words, expected, "{name} {users:?} {api}");
        }
    }

    #[test]
    fn the_name_may_be_a_path() {
        let chosen = choose("/cnb/process/one", &[], NEW, "production").unwrap();
        assert_eq!(chosen.process_type.as_deref(), Some("one"));
        assert_eq!(chosen.working_dir, "/tmp");
        assert!(chosen.direct);
        assert_eq!(
            choose("any.1", &[], NEW, "x").unwrap().process_type.as_deref(),
            Some("any.1")
        );
    }

    #[test]
    fn a_process_may_be_for_other_environments() {
        assert_eq!(
            choose("testing", &[], NEW, "production"),
            Err(ChoiceError::NotFound("testing".into()))
        );
        assert!(choose("testing", &[], NEW, "test").is_ok());
        assert!(choose("testing", &[], Api::new(0, 14), "production").is_ok());
    }

    #[test]
    fn a_command_of_the_user() {
        let chosen = |arguments: &[&str]| choose("/cnb/lifecycle/launcher", arguments, NEW, "production");
        assert_eq!(chosen(&[]), Err(ChoiceError::NoCommand));
        let direct = chosen(&["--", "p", "a"]).unwrap();
        assert_eq!(
            (direct.direct, direct.command, direct.arguments),
            (true, vec!["p".into()], vec!["a".into()])
        );
        let shell = chosen(&["p", "--", "a"]).unwrap();
        assert_eq!(
            (shell.direct, shell.command, shell.arguments.len()),
            (false, vec!["p".into()], 2)
        );
        let dashes = chosen(&["--"]).unwrap();
        assert_eq!((dashes.direct, dashes.command), (false, vec!["--".into()]));
        assert_eq!(direct.process_type, None);
    }

    #[test]
    fn an_unknown_buildpack_matters_only_if_its_api_does() {
        let error = choose("lost", &["u"], NEW, "production").unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to find buildpack for process lost with buildpack ID gone"
        );
    }
}
