//! `<layers>/config/metadata.toml`: what the builder tells the launcher and the exporter (Platform spec, "metadata.toml").

use serde::Deserialize;
use serde::Serialize;

use crate::api::Api;
use crate::group_toml::GroupMember;
use crate::json_writer;
use crate::launch_toml::Label;
use crate::launch_toml::LaunchProcess;
use crate::launch_toml::Slice;
use crate::sbom::LegacyBomEntry;
use crate::toml_writer::Section;

/// A parsed `metadata.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BuildMetadata {
    /// The old bill of materials; only before Platform API 0.9.
    #[serde(default)]
    pub bom: Vec<LegacyBomEntry>,
    /// The buildpacks that built, in order.
    #[serde(default)]
    pub buildpacks: Vec<GroupMember>,
    /// The image extensions that took part.
    #[serde(default)]
    pub extensions: Vec<GroupMember>,
    /// The labels of all buildpacks, in order.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// The processes of all buildpacks, one of each type, sorted by type.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// The slices of all buildpacks, in order.
    #[serde(default)]
    pub slices: Vec<Slice>,
    /// The process that starts when the user names none.
    #[serde(default)]
    pub buildpack_default_process_type: Option<String>,
}

/// One of `[[processes]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Process {
    /// Its type.
    #[serde(default, rename = "type")]
    pub process_type: String,
    /// What to start.
    #[serde(default)]
    pub command: Command,
    /// Arguments; `None` if there is no such key, which labels show as `null`.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// Whether it is started without a shell.
    #[serde(default)]
    pub direct: bool,
    /// The buildpack that it is from.
    #[serde(default)]
    pub buildpack_id: String,
    /// The folder to start it in; empty for the application's.
    #[serde(default)]
    pub working_dir: String,
    /// The execution environments that it is for; empty for all.
    #[serde(default)]
    pub exec_env: Vec<String>,
}

/// The command of a process: a list since Platform API 0.10, one text before.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Command {
    /// The program alone.
    Text(String),
    /// The program and the arguments that are always passed.
    List(Vec<String>),
}

impl Default for Command {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Command {
    /// The program, if there is one, and its arguments.
    pub fn entries(&self) -> &[String] {
        match self {
            Self::Text(text) => std::slice::from_ref(text),
            Self::List(list) => list,
        }
    }

    /// Texts are quoted as in JSON, as the reference does just here, so that `<` is `\u003c`.
    fn to_toml(&self) -> String {
        let quoted = |text: &String| json_writer::to_text(text).unwrap_or_default();
        match self {
            Self::Text(text) => quoted(text),
            Self::List(list) => format!("[{}]", list.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl Process {
    /// A buildpack's process as it is recorded under a Platform API: before 0.10 the command is its first entry,
    /// and the others stand before the arguments.
    pub fn new(process: LaunchProcess, buildpack_id: &str, platform_api: Api) -> Self {
        let mut command = process.command;
        let mut args = process.args;
        let command = if platform_api.at_least(0, 10) || command.is_empty() {
            Command::List(command)
        } else {
            let mut all_args = command.split_off(1);
            all_args.extend(args.unwrap_or_default());
            // The reference's list stays nil if nothing was added to it.
            args = (!all_args.is_empty()).then_some(all_args);
            Command::Text(command.remove(0))
        };
        Self {
            process_type: process.process_type,
            command,
            args,
            direct: process.direct,
            buildpack_id: buildpack_id.to_owned(),
            working_dir: process.working_dir,
            exec_env: process.exec_env,
        }
    }

    fn section(&self) -> Section {
        Section::new()
            .value("type", self.process_type.as_str())
            .raw("command", self.command.to_toml())
            .optional("args", self.args.clone())
            .value("direct", self.direct)
            .value("buildpack-id", self.buildpack_id.as_str())
            .text_unless_empty("working-dir", &self.working_dir)
            .optional(
                "exec-env",
                (!self.exec_env.is_empty()).then(|| self.exec_env.clone()),
            )
    }
}

impl BuildMetadata {
    /// Reads the text of a `metadata.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of the file, byte for byte as the reference lifecycle writes it.
    pub fn to_text(&self) -> String {
        let none: Option<Vec<String>> = self.processes.is_empty().then(Vec::new);
        let label = |label: &Label| {
            Section::new()
                .value("key", label.key.as_str())
                .value("value", label.value.as_str())
        };
        Section::new()
            .optional("processes", none)
            .text_unless_empty(
                "buildpack-default-process-type",
                self.buildpack_default_process_type.as_deref().unwrap_or_default(),
            )
            .tables("bom", self.bom.iter().map(LegacyBomEntry::section))
            .tables("buildpacks", self.buildpacks.iter().map(GroupMember::section))
            .tables("extensions", self.extensions.iter().map(GroupMember::section))
            .tables("labels", self.labels.iter().map(label))
            .tables("processes", self.processes.iter().map(Process::section))
            .tables(
                "slices",
                self.slices
                    .iter()
                    .map(|slice| Section::new().value("paths", slice.paths.clone())),
            )
            .to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_files_go_round_byte_for_byte() {
        for (name, text) in [
            (
                "processes",
                include_str!("../../../testdata/vectors/processes/expected/metadata.toml"),
            ),
            (
                "processes-direct",
                include_str!("../../../testdata/vectors/processes-direct/expected/metadata.toml"),
            ),
            (
                "launch-env",
                include_str!("../../../testdata/vectors/launch-env/expected/metadata.toml"),
            ),
            (
                "profile-execd",
                include_str!("../../../testdata/vectors/profile-execd/expected/metadata.toml"),
            ),
            (
                "labels",
                include_str!("../../../testdata/vectors/spec/metadata-labels.toml"),
            ),
            (
                "platform 0.7",
                include_str!("../../../testdata/vectors/old-apis/p07/expected/metadata.toml"),
            ),
            (
                "exec-env",
                include_str!("../../../testdata/vectors/exec-env/expected/build-1/metadata.toml"),
            ),
        ] {
            assert_eq!(BuildMetadata::parse(text).unwrap().to_text(), text, "{name}");
        }
    }

    #[test]
    fn before_platform_api_0_10_a_command_is_one_text() {
        let process = |command: &[&str], args: Option<&[&str]>| LaunchProcess {
            process_type: "web".into(),
            command: command.iter().map(ToString::to_string).collect(),
            args: args.map(|args| args.iter().map(ToString::to_string).collect()),
            ..LaunchProcess::default()
        };
        let old = Process::new(process(&["a", "b"], Some(&["c"])), "vec/one", Api::new(0, 9));
        assert_eq!(old.command, Command::Text("a".into()));
        assert_eq!(old.args, Some(vec!["b".into(), "c".into()]));
        assert_eq!(old.command.entries(), ["a"]);
        assert_eq!(
            Process::new(process(&["a"], None), "vec/one", Api::new(0, 9)).args,
            None
        );
        let new = Process::new(process(&["a", "b"], Some(&["c"])), "vec/one", Api::new(0, 10));
        assert_eq!(new.command.entries(), ["a", "b"]);
    }

    #[test]
    fn the_default_and_the_list_of_no_processes_come_first() {
        assert_eq!(BuildMetadata::default().to_text(), "processes = []\n");
    }
}
