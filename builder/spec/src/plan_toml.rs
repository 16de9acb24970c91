//! The three files that are called `plan.toml`: what `bin/detect` writes, what came of it, and what a buildpack gets.

use serde::Deserialize;

use crate::identifier::BuildpackId;
use crate::toml_writer::Section;

/// What `bin/detect` writes: the Build Plan (Buildpack spec, "Build Plan").
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct DetectPlan {
    /// What it offers to provide.
    #[serde(default)]
    pub provides: Vec<Provide>,
    /// What it requires.
    #[serde(default)]
    pub requires: Vec<Require>,
    /// Other choices, in order, after the one above.
    #[serde(default)]
    pub or: Vec<PlanSections>,
}

/// One choice of a [`DetectPlan`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct PlanSections {
    /// What it offers to provide.
    #[serde(default)]
    pub provides: Vec<Provide>,
    /// What it requires.
    #[serde(default)]
    pub requires: Vec<Require>,
}

/// One of `[[provides]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Provide {
    /// The dependency's name.
    #[serde(default)]
    pub name: String,
}

/// One of `[[requires]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Require {
    /// The dependency's name.
    #[serde(default)]
    pub name: String,
    /// A version beside the name, which no supported API allows any more: detection fails if there is one.
    #[serde(default)]
    pub version: Option<String>,
    /// What the provider is told about it.
    #[serde(default)]
    pub metadata: Option<toml::Table>,
}

impl DetectPlan {
    /// Reads what `bin/detect` wrote.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// All choices in the order in which they are tried: the top level, then each `[[or]]`.
    pub fn choices(&self) -> Vec<PlanSections> {
        let first = PlanSections {
            provides: self.provides.clone(),
            requires: self.requires.clone(),
        };
        std::iter::once(first).chain(self.or.iter().cloned()).collect()
    }

    /// Whether a `[[requires]]` of any choice states a version beside its name.
    pub fn has_top_level_version(&self) -> bool {
        let others = self.or.iter().flat_map(|choice| &choice.requires);
        self.requires
            .iter()
            .chain(others)
            .any(|require| require.version.as_deref().is_some_and(|text| !text.is_empty()))
    }
}

impl Require {
    fn section(&self) -> Section {
        Section::new()
            .value("name", self.name.as_str())
            .text_unless_empty("version", self.version.as_deref().unwrap_or_default())
            .metadata("metadata", self.metadata.as_ref())
    }
}

/// What detection resolved: who provides what (Platform spec, "plan.toml").
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct BuildPlan {
    /// One entry for each name.
    #[serde(default)]
    pub entries: Vec<PlanEntry>,
}

/// One of `[[entries]]` of a [`BuildPlan`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct PlanEntry {
    /// The buildpacks that provide the name, in the order of the group.
    #[serde(default)]
    pub providers: Vec<Provider>,
    /// All that was required under the name, in order.
    #[serde(default)]
    pub requires: Vec<Require>,
}

/// One of `[[entries.providers]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Provider {
    /// The buildpack's id.
    pub id: BuildpackId,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Whether it is an image extension.
    #[serde(default)]
    pub extension: bool,
}

impl BuildPlan {
    /// Reads the text of a `plan.toml` of detection.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of the file; empty if there are no entries.
    pub fn to_text(&self) -> String {
        let provider = |provider: &Provider| {
            Section::new()
                .value("id", provider.id.as_str())
                .value("version", provider.version.as_str())
                .optional("extension", provider.extension.then_some(true))
        };
        let entries = self.entries.iter().map(|entry| {
            Section::new()
                .tables("providers", entry.providers.iter().map(provider))
                .tables("requires", entry.requires.iter().map(Require::section))
        });
        Section::new().tables("entries", entries).to_text()
    }
}

/// The part of the plan that one buildpack gets in its build (Buildpack spec, "Buildpack Plan").
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct BuildpackPlan {
    /// What it is to provide, in order; a name may be there several times.
    #[serde(default)]
    pub entries: Vec<Require>,
}

impl BuildpackPlan {
    /// Reads the text of a buildpack's `plan.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of the file; empty if there are no entries.
    pub fn to_text(&self) -> String {
        Section::new()
            .tables("entries", self.entries.iter().map(Require::section))
            .to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_in_order() {
        let plan = DetectPlan::parse(
            "[[provides]]\nname='a'\n[[or]]\n[[or.requires]]\nname='b'\n[or.requires.metadata]\nversion='1'\n[[or]]\n",
        )
        .unwrap();
        let choices = plan.choices();
        assert_eq!(choices.len(), 3);
        assert_eq!(choices[0].provides[0].name, "a");
        assert_eq!(
            choices[1].requires[0].metadata.as_ref().unwrap()["version"].as_str(),
            Some("1")
        );
        assert_eq!(choices[2], PlanSections::default());
        assert!(!plan.has_top_level_version());
        assert_eq!(DetectPlan::parse("").unwrap().choices().len(), 1);
    }

    #[test]
    fn a_version_beside_the_name_is_seen_everywhere() {
        for text in [
            "[[requires]]\nname='a'\nversion='1'\n",
            "[[or]]\n[[or.requires]]\nname='a'\nversion='1'\n",
        ] {
            assert!(DetectPlan::parse(text).unwrap().has_top_level_version(), "{text}");
        }
        assert!(
            !DetectPlan::parse("[[requires]]\nname='a'\nversion=''\n")
                .unwrap()
                .has_top_level_version()
        );
    }

    #[test]
    fn the_reference_files_go_round() {
        let plan = include_str!("../../../testdata/vectors/spec/plan.toml");
        assert_eq!(BuildPlan::parse(plan).unwrap().to_text(), plan);
        let buildpack_plan = include_str!("../../../testdata/vectors/spec/buildpack-plan.toml");
        assert_eq!(
            BuildpackPlan::parse(buildpack_plan).unwrap().to_text(),
            buildpack_plan
        );
        assert_eq!(BuildpackPlan::default().to_text(), "");
    }
}
