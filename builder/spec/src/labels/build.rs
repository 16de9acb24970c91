//! The label with the buildpacks and the processes of an image.

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde_json::Value;

use crate::group_toml::GroupMember;
use crate::json_writer;
use crate::labels::null_as_default;
use crate::metadata_toml::BuildMetadata;
use crate::metadata_toml::Command;
use crate::metadata_toml::Process;
use crate::sbom::LegacyBomEntry;

/// How an image was built (Platform spec, "io.buildpacks.build.metadata").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildLabel {
    /// The old bill of materials: absent since Platform API 0.9, before that a list or `null`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "some_even_if_null"
    )]
    pub bom: Option<Value>,
    /// The buildpacks that built, in order.
    #[serde(default, deserialize_with = "null_as_default")]
    pub buildpacks: Vec<BuildpackLabel>,
    /// The image extensions that took part.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub extensions: Vec<BuildpackLabel>,
    /// The launcher in the image.
    #[serde(default, deserialize_with = "null_as_default")]
    pub launcher: LauncherLabel,
    /// The processes, sorted by type.
    #[serde(default, deserialize_with = "null_as_default")]
    pub processes: Vec<ProcessLabel>,
    /// The process that starts when the user names none.
    #[serde(
        default,
        rename = "buildpack-default-process-type",
        skip_serializing_if = "Option::is_none"
    )]
    pub buildpack_default_process_type: Option<String>,
}

/// A buildpack in the [`BuildLabel`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackLabel {
    /// Its id.
    #[serde(default, deserialize_with = "null_as_default")]
    pub id: String,
    /// Its version.
    #[serde(default, deserialize_with = "null_as_default")]
    pub version: String,
    /// A URL for people.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub homepage: String,
}

/// The launcher in the [`BuildLabel`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LauncherLabel {
    /// Its version.
    #[serde(default, deserialize_with = "null_as_default")]
    pub version: String,
    /// Where its source is.
    #[serde(default, deserialize_with = "null_as_default")]
    pub source: LauncherSource,
}

/// Where a launcher's source is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LauncherSource {
    /// In git.
    #[serde(default, deserialize_with = "null_as_default")]
    pub git: LauncherGit,
}

/// A commit of a launcher's source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LauncherGit {
    /// The repository.
    #[serde(default, deserialize_with = "null_as_default")]
    pub repository: String,
    /// The commit.
    #[serde(default, deserialize_with = "null_as_default")]
    pub commit: String,
}

/// A process in the [`BuildLabel`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLabel {
    /// Its type.
    #[serde(default, rename = "type", deserialize_with = "null_as_default")]
    pub process_type: String,
    /// What it starts.
    #[serde(default, deserialize_with = "null_as_default")]
    pub command: Command,
    /// Its arguments.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// Whether it is started without a shell.
    #[serde(default, deserialize_with = "null_as_default")]
    pub direct: bool,
    /// The buildpack that it is from.
    #[serde(default, rename = "buildpackID", deserialize_with = "null_as_default")]
    pub buildpack_id: String,
    /// The folder to start it in.
    #[serde(
        default,
        rename = "working-dir",
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// The execution environments that it is for.
    #[serde(
        default,
        rename = "exec-env",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub exec_env: Vec<String>,
}

impl BuildLabel {
    /// What `metadata.toml` says, and which launcher is in the image. `with_bom`: as before Platform API 0.9.
    pub fn new(
        metadata: &BuildMetadata,
        launcher: LauncherLabel,
        with_bom: bool,
    ) -> Result<Self, serde_json::Error> {
        let members = |members: &[GroupMember]| members.iter().map(BuildpackLabel::from).collect();
        let bom: Vec<_> = metadata.bom.iter().map(LegacyBomEntry::to_json).collect();
        let bom = if bom.is_empty() {
            Value::Null
        } else {
            serde_json::to_value(bom)?
        };
        Ok(Self {
            bom: with_bom.then_some(bom),
            buildpacks: members(&metadata.buildpacks),
            extensions: members(&metadata.extensions),
            launcher,
            processes: metadata.processes.iter().map(ProcessLabel::from).collect(),
            buildpack_default_process_type: metadata.buildpack_default_process_type.clone(),
        })
    }

    /// Reads the text of the label.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The text of the label.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        json_writer::to_text(self)
    }
}

impl From<&GroupMember> for BuildpackLabel {
    fn from(member: &GroupMember) -> Self {
        Self {
            id: member.id.to_string(),
            version: member.version.clone(),
            homepage: member.homepage.clone(),
        }
    }
}

impl From<&Process> for ProcessLabel {
    fn from(process: &Process) -> Self {
        Self {
            process_type: process.process_type.clone(),
            command: process.command.clone(),
            args: process.args.clone(),
            direct: process.direct,
            buildpack_id: process.buildpack_id.clone(),
            working_dir: process.working_dir.clone(),
            exec_env: process.exec_env.clone(),
        }
    }
}

fn some_even_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_null_fields_are_empty() {
        assert_eq!(
            BuildLabel::parse(r#"{"processes":null}"#).unwrap(),
            BuildLabel::default()
        );
    }

    #[test]
    fn a_null_bom_is_kept_apart_from_none() {
        assert_eq!(
            BuildLabel::parse(r#"{"bom":null}"#).unwrap().bom,
            Some(Value::Null)
        );
    }
}
