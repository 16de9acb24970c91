//! What `run` starts: the image's configuration and the command line, as one command.

use std::ffi::OsString;
use std::path::PathBuf;

use packhorse_spec::labels::BUILD_LABEL;
use packhorse_spec::labels::build::BuildLabel;
use serde_json::Value;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::config::ImageConfig;

/// Where the launcher's links are, one for each process type.
const PROCESSES: &str = "/cnb/process";
/// Where programs are looked for in an image that does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be started in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// The whole environment but `HOME`.
    pub environment: Vec<(String, String)>,
    /// Where it starts.
    pub working_directory: PathBuf,
}

/// What is asked to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// The image's own entrypoint.
    Own,
    /// The process of this type.
    Type(&'a str),
    /// This program.
    Program(&'a str),
}

/// Why an image cannot be started.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProcessError {
    /// The image has no such process type.
    #[error("the image has no process type `{wanted}`{}", types(.known))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What it has.
        known: Vec<String>,
    },
    /// The image says nothing about what to start.
    #[error("the image names no program to start: it has no entrypoint and no command")]
    Nothing,
}

impl Failure for ProcessError {
    fn facts(&self) -> Facts {
        match self {
            Self::Unknown { .. } => Facts::user("process_type_unknown"),
            Self::Nothing => Facts::user("process_missing"),
        }
    }
}

fn types(known: &[String]) -> String {
    if known.is_empty() {
        String::new()
    } else {
        format!("; it has {}", known.join(", "))
    }
}

impl Process {
    /// What `wanted` is started, with `arguments` in place of the image's `Cmd`, and `variables` over its environment.
    pub(super) fn of(
        config: &ImageConfig,
        wanted: Wanted<'_>,
        arguments: &[String],
        variables: Vec<(String, String)>,
    ) -> Result<Self, ProcessError> {
        let entrypoint = match wanted {
            Wanted::Own => texts(config, "Entrypoint"),
            Wanted::Type(wanted) => vec![process_link(config, wanted)?],
            // As docker: an empty one leaves the arguments alone.
            Wanted::Program("") => Vec::new(),
            Wanted::Program(program) => vec![program.to_owned()],
        };
        // The default arguments belong to the image's own entrypoint.
        let rest = match (arguments, wanted) {
            ([], Wanted::Own) => texts(config, "Cmd"),
            (given, _) => given.to_vec(),
        };
        let all: Vec<String> = entrypoint.into_iter().chain(rest).collect();
        if all.is_empty() {
            return Err(ProcessError::Nothing);
        }
        let working_directory = setting(config, "WorkingDir")
            .and_then(Value::as_str)
            .filter(|path| path.starts_with('/'));
        Ok(Self {
            arguments: all,
            environment: environment(config, variables),
            working_directory: PathBuf::from(working_directory.unwrap_or("/")),
        })
    }

    /// A variable's value.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Where the program may be: as it is written if that is a path, else in each folder of the search path.
    pub(super) fn candidates(&self) -> Vec<PathBuf> {
        let program = self.arguments.first().map(String::as_str).unwrap_or_default();
        if program.contains('/') {
            return vec![self.working_directory.join(program)];
        }
        let folders = self
            .variable("PATH")
            .unwrap_or(PATH)
            .split(':')
            .filter(|folder| folder.starts_with('/'));
        folders
            .map(|folder| PathBuf::from(folder).join(program))
            .collect()
    }

    /// The environment as the sandbox takes it; `HOME` is added unless it is set.
    pub(super) fn environment_with_home(&self, home: &str) -> Vec<(OsString, OsString)> {
        let home = self
            .variable("HOME")
            .is_none()
            .then(|| ("HOME".to_owned(), home.to_owned()));
        self.environment
            .iter()
            .cloned()
            .chain(home)
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }
}

/// The launcher's link for a type that the image's label lists.
fn process_link(config: &ImageConfig, wanted: &str) -> Result<String, ProcessError> {
    let label = config
        .label(BUILD_LABEL)
        .and_then(|text| BuildLabel::parse(text).ok())
        .unwrap_or_default();
    let known: Vec<String> = label
        .processes
        .into_iter()
        .map(|process| process.process_type)
        .collect();
    if known.iter().any(|name| name == wanted) {
        return Ok(format!("{PROCESSES}/{wanted}"));
    }
    Err(ProcessError::Unknown {
        wanted: wanted.to_owned(),
        known,
    })
}

/// The image's variables, then the user's over them; a search path is always there.
fn environment(config: &ImageConfig, variables: Vec<(String, String)>) -> Vec<(String, String)> {
    let of_image = config.env().into_iter().filter_map(|text| text.split_once('='));
    let mut all = vec![("PATH".to_owned(), PATH.to_owned())];
    let own = of_image.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in own.chain(variables) {
        all.retain(|(known, _)| *known != name);
        all.push((name, value));
    }
    all
}

fn texts(config: &ImageConfig, name: &str) -> Vec<String> {
    let values = setting(config, name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    values
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect()
}

/// A field of the image's execution settings.
pub(super) fn setting<'a>(config: &'a ImageConfig, name: &str) -> Option<&'a Value> {
    config.as_json().get("config")?.get(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ImageConfig {
        let label =
            r#"{"processes":[{"type":"web","command":["node"]},{"type":"worker","command":["node"]}]}"#;
        let json = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
            "config": {
                "Entrypoint": ["/cnb/process/web"], "Cmd": ["--port", "1"], "WorkingDir": "/workspace",
                "Env": ["PATH=/cnb/process:/bin", "A=1"], "Labels": { BUILD_LABEL: label },
            },
        });
        ImageConfig::parse(json.to_string().as_bytes()).unwrap()
    }

    fn words(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn arguments_replace_the_images_own() {
        let own = Process::of(&config(), Wanted::Own, &[], Vec::new()).unwrap();
        assert_eq!(own.arguments, ["/cnb/process/web", "--port", "1"]);
        assert_eq!(own.working_directory, PathBuf::from("/workspace"));
        let given = Process::of(&config(), Wanted::Own, &words(&["x"]), Vec::new()).unwrap();
        assert_eq!(given.arguments, ["/cnb/process/web", "x"]);
    }

    #[test]
    fn a_process_type_is_one_that_the_image_has() {
        let worker = Process::of(&config(), Wanted::Type("worker"), &[], Vec::new()).unwrap();
        assert_eq!(worker.arguments, ["/cnb/process/worker"]);
        let error = Process::of(&config(), Wanted::Type("wroker"), &[], Vec::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the image has no process type `wroker`; it has web, worker"
        );
        let empty = ImageConfig::empty("linux", "amd64");
        assert_eq!(
            Process::of(&empty, Wanted::Own, &[], Vec::new()),
            Err(ProcessError::Nothing)
        );
    }

    #[test]
    fn a_program_takes_the_place_of_entrypoint_and_default_arguments() {
        let of = |program, arguments| {
            Process::of(&config(), Wanted::Program(program), &words(arguments), Vec::new())
                .map(|process| process.arguments)
        };
        assert_eq!(of("sh", &[]), Ok(words(&["sh"])));
        assert_eq!(of("sh", &["-c", "true"]), Ok(words(&["sh", "-c", "true"])));
        assert_eq!(of("", &["ls"]), Ok(words(&["ls"])));
        assert_eq!(of("", &[]), Err(ProcessError::Nothing));
    }

    #[test]
    fn the_users_variables_go_over_the_images() {
        let variables = vec![
            ("A".to_owned(), "2".to_owned()),
            ("HOME".to_owned(), "/h".to_owned()),
        ];
        let process = Process::of(&config(), Wanted::Own, &[], variables).unwrap();
        assert_eq!(
            (process.variable("A"), process.variable("PATH")),
            (Some("2"), Some("/cnb/process:/bin"))
        );
        let homes = process
            .environment_with_home("/home/x")
            .into_iter()
            .filter(|(name, _)| name == "HOME")
            .count();
        assert_eq!(homes, 1);
    }

    #[test]
    fn a_program_without_a_slash_is_looked_for_in_the_path() {
        let mut process = Process::of(&config(), Wanted::Own, &[], Vec::new()).unwrap();
        assert_eq!(process.candidates(), [PathBuf::from("/cnb/process/web")]);
        process.arguments = words(&["sh"]);
        assert_eq!(
            process.candidates(),
            [PathBuf::from("/cnb/process/sh"), PathBuf::from("/bin/sh")]
        );
        process.arguments = words(&["bin/app"]);
        assert_eq!(process.candidates(), [PathBuf::from("/workspace/bin/app")]);
    }
}
