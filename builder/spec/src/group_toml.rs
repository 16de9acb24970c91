//! `group.toml`: the buildpacks that detection chose (Platform spec, "group.toml").

use serde::Deserialize;

use crate::identifier::BuildpackId;
use crate::toml_writer::Section;

/// The chosen group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ChosenGroup {
    /// Its buildpacks, in the order in which they build.
    #[serde(default)]
    pub group: Vec<GroupMember>,
    /// Its image extensions.
    #[serde(default, rename = "group-extensions")]
    pub group_extensions: Vec<GroupMember>,
}

/// One of `[[group]]`, of `[[group-extensions]]`, and of `[[buildpacks]]` in `metadata.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GroupMember {
    /// The buildpack's id.
    pub id: BuildpackId,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// The Buildpack API that it is written for, as text; empty in files of old platforms.
    #[serde(default)]
    pub api: String,
    /// A URL for people; empty if it has none.
    #[serde(default)]
    pub homepage: String,
}

impl GroupMember {
    pub(crate) fn section(&self) -> Section {
        Section::new()
            .value("id", self.id.as_str())
            .value("version", self.version.as_str())
            .text_unless_empty("api", &self.api)
            .text_unless_empty("homepage", &self.homepage)
    }
}

impl ChosenGroup {
    /// Reads the text of a `group.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        Section::new()
            .tables("group", self.group.iter().map(GroupMember::section))
            .tables(
                "group-extensions",
                self.group_extensions.iter().map(GroupMember::section),
            )
            .to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_file_goes_round() {
        let text = include_str!("../../../testdata/vectors/spec/group.toml");
        let group = ChosenGroup::parse(text).unwrap();
        assert_eq!(group.group[0].id, "vec/one");
        assert_eq!(group.to_text(), text);
    }

    #[test]
    fn homepages_and_extensions_are_kept() {
        let text = "[[group]]\n  id = \"a\"\n  version = \"1\"\n  api = \"0.9\"\n  homepage = \"h\"\n\n\
            [[group-extensions]]\n  id = \"e\"\n  version = \"2\"\n  api = \"0.9\"\n";
        assert_eq!(ChosenGroup::parse(text).unwrap().to_text(), text);
    }
}
