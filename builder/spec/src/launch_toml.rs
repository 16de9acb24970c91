//! `launch.toml`: what a buildpack adds to the image beside layers (Buildpack spec, "launch.toml").

use serde::Deserialize;
use thiserror::Error;

use crate::api::Api;
use crate::sbom::LegacyBomEntry;

/// A parsed `launch.toml`, after the rules of the buildpack's API were applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Launch {
    /// Labels for the image, in order; a later one of the same key wins.
    pub labels: Vec<Label>,
    /// The processes, in order.
    pub processes: Vec<LaunchProcess>,
    /// Parts of the application that get layers of their own, in order.
    pub slices: Vec<Slice>,
    /// The old bill of materials of the image.
    pub bom: Vec<LegacyBomEntry>,
    /// The types of processes whose `working-dir` was left out, because APIs before 0.8 have none; worth a warning.
    pub ignored_working_dirs: Vec<String>,
}

/// One of `[[labels]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Label {
    /// The label's name.
    #[serde(default)]
    pub key: String,
    /// Its text.
    #[serde(default)]
    pub value: String,
}

/// One of `[[slices]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Slice {
    /// Patterns of paths, relative to the application's folder.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// One of `[[processes]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchProcess {
    /// Its type, as written: the exporter refuses what is no [`crate::identifier::ProcessType`].
    pub process_type: String,
    /// The program and the arguments that are always passed; before API 0.9 one text, which may be a script.
    pub command: Vec<String>,
    /// Arguments that the user can replace (from API 0.9) or append to; `None` if the key is not there.
    pub args: Option<Vec<String>>,
    /// Whether it is started without a shell: always from API 0.9 on.
    pub direct: bool,
    /// Whether it is the one that starts when the user names none.
    pub default: bool,
    /// The folder to start it in; empty for the application's.
    pub working_dir: String,
    /// The execution environments that it is for; empty for all.
    pub exec_env: Vec<String>,
}

/// A `launch.toml` that was refused.
#[derive(Debug, Error)]
pub enum LaunchTomlError {
    /// It is no TOML, or a known key has another type.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// A list before API 0.9, or a text since.
    #[error("the command of process `{process_type}` should be {expected} in Buildpack API {api}")]
    CommandForm {
        /// The process.
        process_type: String,
        /// The form that it should have.
        expected: &'static str,
        /// The buildpack's API.
        api: Api,
    },
    /// `direct` since API 0.9.
    #[error("process `{process_type}` has the key `direct`, which Buildpack API {api} does not have")]
    DirectKey {
        /// The process.
        process_type: String,
        /// The buildpack's API.
        api: Api,
    },
    /// Two processes that are the default.
    #[error("both `{first}` and `{second}` are marked as the default process")]
    ManyDefaults {
        /// The earlier one.
        first: String,
        /// The later one.
        second: String,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    labels: Vec<Label>,
    #[serde(default)]
    processes: Vec<FileProcess>,
    #[serde(default)]
    slices: Vec<Slice>,
    #[serde(default)]
    bom: Vec<LegacyBomEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FileProcess {
    #[serde(default, rename = "type")]
    process_type: String,
    command: Option<FileCommand>,
    args: Option<Vec<String>>,
    direct: Option<bool>,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    working_dir: String,
    #[serde(default)]
    exec_env: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FileCommand {
    Text(String),
    List(Vec<String>),
}

impl Launch {
    /// Reads the text of the `launch.toml` of a buildpack that is written for `api`.
    pub fn parse(text: &str, api: Api) -> Result<Self, LaunchTomlError> {
        let file: File = toml::from_str(text)?;
        refuse_many_defaults(&file.processes)?;
        let mut launch = Self {
            labels: file.labels,
            slices: file.slices,
            bom: file.bom,
            ..Self::default()
        };
        for process in file.processes {
            let mut process = apply_api(process, api)?;
            if !api.at_least(0, 8) && !process.working_dir.is_empty() {
                launch.ignored_working_dirs.push(process.process_type.clone());
                process.working_dir.clear();
            }
            launch.processes.push(process);
        }
        Ok(launch)
    }

    /// The type of the process that is marked as the default.
    pub fn default_process_type(&self) -> Option<&str> {
        self.processes
            .iter()
            .find(|process| process.default)
            .map(|process| process.process_type.as_str())
    }
}

fn refuse_many_defaults(processes: &[FileProcess]) -> Result<(), LaunchTomlError> {
    let mut defaults = processes
        .iter()
        .filter(|process| process.default)
        .map(|process| &process.process_type);
    match (defaults.next(), defaults.next()) {
        (Some(first), Some(second)) => Err(LaunchTomlError::ManyDefaults {
            first: first.clone(),
            second: second.clone(),
        }),
        _ => Ok(()),
    }
}

fn apply_api(process: FileProcess, api: Api) -> Result<LaunchProcess, LaunchTomlError> {
    let process_type = process.process_type;
    let has_lists = api.at_least(0, 9);
    if has_lists && process.direct.is_some() {
        return Err(LaunchTomlError::DirectKey { process_type, api });
    }
    let command = match (process.command, has_lists) {
        (Some(FileCommand::Text(text)), false) => vec![text],
        (Some(FileCommand::List(list)), true) => list,
        (None, false) => vec![String::new()],
        (None, true) => Vec::new(),
        (Some(_), _) => {
            let expected = if has_lists { "a list of texts" } else { "one text" };
            return Err(LaunchTomlError::CommandForm {
                process_type,
                expected,
                api,
            });
        }
    };
    Ok(LaunchProcess {
        process_type,
        command,
        args: process.args,
        direct: has_lists || process.direct.unwrap_or_default(),
        default: process.default,
        working_dir: process.working_dir,
        exec_env: process.exec_env,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Api = Api::new(0, 8);
    const NEW: Api = Api::new(0, 9);

    fn one(body: &str, api: Api) -> Result<LaunchProcess, LaunchTomlError> {
        let text = format!("[[processes]]\ntype = 'web'\n{body}\n");
        Launch::parse(&text, api).map(|launch| launch.processes[0].clone())
    }

    #[test]
    fn a_command_has_the_form_of_the_api() {
        assert_eq!(one("command = 'a b'", OLD).unwrap().command, ["a b"]);
        assert_eq!(one("command = ['a', 'b']", NEW).unwrap().command, ["a", "b"]);
        assert_eq!(
            one("command = ['a']", OLD).unwrap_err().to_string(),
            "the command of process `web` should be one text in Buildpack API 0.8"
        );
        assert!(matches!(
            one("command = 'a'", NEW),
            Err(LaunchTomlError::CommandForm { .. })
        ));
        assert!(matches!(one("command = 1", NEW), Err(LaunchTomlError::Toml(_))));
    }

    #[test]
    fn direct_is_a_choice_only_before_0_9() {
        assert!(!one("command = 'a'", OLD).unwrap().direct);
        assert!(one("command = 'a'\ndirect = true", OLD).unwrap().direct);
        assert!(one("command = ['a']", NEW).unwrap().direct);
        assert!(matches!(
            one("command = ['a']\ndirect = true", NEW),
            Err(LaunchTomlError::DirectKey { .. })
        ));
    }

    #[test]
    fn working_dirs_came_with_0_8() {
        assert_eq!(
            one("command = 'a'\nworking-dir = '/x'", OLD).unwrap().working_dir,
            "/x"
        );
        let text = "[[processes]]\ntype = 'web'\ncommand = 'a'\nworking-dir = '/x'\n";
        let launch = Launch::parse(text, Api::new(0, 7)).unwrap();
        assert_eq!(launch.processes[0].working_dir, "");
        assert_eq!(launch.ignored_working_dirs, ["web"]);
    }

    #[test]
    fn absent_args_are_not_empty_args() {
        assert_eq!(one("command = ['a']", NEW).unwrap().args, None);
        assert_eq!(one("command = ['a']\nargs = []", NEW).unwrap().args, Some(vec![]));
    }

    #[test]
    fn only_one_default() {
        let text = "[[processes]]\ntype = 'a'\ncommand = ['a']\ndefault = true\n";
        assert_eq!(
            Launch::parse(text, NEW).unwrap().default_process_type(),
            Some("a")
        );
        assert!(matches!(
            Launch::parse(&text.repeat(2), NEW),
            Err(LaunchTomlError::ManyDefaults { .. })
        ));
    }

    #[test]
    fn labels_slices_and_bom() {
        let text = "[[labels]]\nkey='k'\nvalue='v'\n[[labels]]\nkey='k'\n[[slices]]\npaths=['a','b']\n[[slices]]\n\
            [[bom]]\nname='x'\n[bom.metadata]\nv=1\n[[processes]]\nexec-env=['test']\n";
        let launch = Launch::parse(text, NEW).unwrap();
        assert_eq!(launch.labels.len(), 2);
        assert_eq!(launch.slices[0].paths, ["a", "b"]);
        assert_eq!(launch.bom[0].name, "x");
        assert_eq!(launch.processes[0].exec_env, ["test"]);
        assert_eq!(launch.processes[0].process_type, "");
    }
}
