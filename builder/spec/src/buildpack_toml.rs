//! `buildpack.toml`: what a buildpack is and can do (Buildpack spec, "buildpack.toml").

use serde::Deserialize;
use serde::Deserializer;
use thiserror::Error;

use crate::api::Api;
use crate::identifier::BuildpackId;
use crate::identifier::BuildpackVersion;
use crate::order_toml::Group;

/// A parsed `buildpack.toml`. Keys that are not known are ignored, as the reference lifecycle ignores them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BuildpackDescriptor {
    /// The Buildpack API that the buildpack is written for; it may be one that is not supported.
    pub api: Api,
    /// The table `[buildpack]`.
    pub buildpack: BuildpackInfo,
    /// The groups of a composite buildpack; empty for a component buildpack.
    #[serde(default)]
    pub order: Vec<Group>,
    /// The systems it runs on, as written; if there are none they follow from `stacks` and the programs it has.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// The stacks of the older way to say where it runs.
    #[serde(default)]
    pub stacks: Vec<Stack>,
    /// Whatever the buildpack keeps there for itself.
    #[serde(default)]
    pub metadata: toml::Table,
}

impl BuildpackDescriptor {
    /// Reads the text of a `buildpack.toml`.
    pub fn parse(text: &str) -> Result<Self, BuildpackTomlError> {
        #[derive(Deserialize)]
        struct ApiOnly {
            #[serde(default)]
            api: String,
        }
        let ApiOnly { api } = toml::from_str(text)?;
        if api.parse::<Api>().is_err() {
            return Err(BuildpackTomlError::Api(api));
        }
        Ok(toml::from_str(text)?)
    }

    /// Whether it is made of other buildpacks and has no programs of its own.
    pub fn is_composite(&self) -> bool {
        !self.order.is_empty()
    }
}

/// A `buildpack.toml` that was refused.
#[derive(Debug, Error)]
pub enum BuildpackTomlError {
    /// It is no TOML, or a known key has another type; exit code 1 in the reference.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// There is no Buildpack API in it, or one that is no version; exit code 12, as for one that is not supported.
    #[error("`api` should be an API version such as `0.12` but is `{0}`")]
    Api(String),
}

/// The table `[buildpack]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BuildpackInfo {
    /// Its id.
    pub id: BuildpackId,
    /// Its version; the specification demands one, the reference lifecycle does not.
    pub version: Option<BuildpackVersion>,
    /// Its name for people; empty if it has none.
    #[serde(default)]
    pub name: String,
    /// A URL for people; empty if it has none.
    #[serde(default)]
    pub homepage: String,
    /// Whether the user's variables are kept out of its environment.
    #[serde(default)]
    pub clear_env: bool,
    /// One sentence for people; empty if it has none.
    #[serde(default)]
    pub description: String,
    /// Words to find it by.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// Its licences.
    #[serde(default)]
    pub licenses: Vec<License>,
    /// The media types of the SBOM files that it may write.
    #[serde(default)]
    pub sbom_formats: Vec<String>,
    /// The execution environments that it takes part in; empty means all (Buildpack API 0.12).
    #[serde(default, deserialize_with = "read_exec_env")]
    pub exec_env: Vec<String>,
}

/// One of `[[buildpack.licenses]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct License {
    /// An SPDX identifier; empty if there is none.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Where its text is; empty if nowhere.
    #[serde(default)]
    pub uri: String,
}

/// One of `[[targets]]`; what is empty matches anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// The operating system, such as `linux`.
    #[serde(default)]
    pub os: String,
    /// The processor, such as `amd64`.
    #[serde(default)]
    pub arch: String,
    /// Its variant, such as `v8`. The specification and pack call it `variant`, the lifecycle `arch-variant`.
    #[serde(default, alias = "arch-variant")]
    pub variant: String,
    /// The distributions; none means any.
    #[serde(default)]
    pub distros: Vec<Distro>,
}

/// One of `[[targets.distros]]`; what is empty matches anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Distro {
    /// As `ID` in `/etc/os-release`, such as `debian`.
    #[serde(default)]
    pub name: String,
    /// As `VERSION_ID` there, such as `13`.
    #[serde(default)]
    pub version: String,
}

/// One of `[[stacks]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Stack {
    /// The stack's id, or `*`.
    #[serde(default)]
    pub id: String,
    /// What it needs of the stack.
    #[serde(default)]
    pub mixins: Vec<String>,
}

/// The lifecycle reads `exec-env = ["test"]`, the specification has `[[buildpack.exec-env]] name = "test"`.
fn read_exec_env<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Text(String),
        Table { name: String },
    }
    let entries = Vec::<Entry>::deserialize(deserializer)?;
    Ok(entries
        .into_iter()
        .map(|entry| match entry {
            Entry::Text(name) | Entry::Table { name } => name,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_that_it_knows_and_passes_by_the_rest() {
        let text = r#"
            api = "0.12"
            new-key = 1
            [buildpack]
            id = "vec/one"
            version = "1.0.0"
            name = "One"
            homepage = "https://example.invalid"
            clear-env = true
            description = "does things"
            keywords = ["a"]
            sbom-formats = ["application/spdx+json"]
            exec-env = ["test", "*"]
            [[buildpack.licenses]]
            type = "MIT"
            [[targets]]
            os = "linux"
            arch-variant = "v8"
            [[targets]]
            variant = "v7"
            [[targets.distros]]
            name = "debian"
            [[stacks]]
            id = "*"
            mixins = ["x"]
            [metadata.deep]
            n = 1
        "#;
        let descriptor = BuildpackDescriptor::parse(text).unwrap();
        assert_eq!(descriptor.api, Api::new(0, 12));
        assert!(!descriptor.is_composite());
        let info = &descriptor.buildpack;
        assert_eq!(info.id, "vec/one");
        assert!(info.clear_env);
        assert_eq!(info.exec_env, ["test", "*"]);
        assert_eq!(info.licenses[0].kind, "MIT");
        assert_eq!(descriptor.targets[0].variant, "v8");
        assert_eq!(descriptor.targets[1].variant, "v7");
        assert_eq!(descriptor.targets[1].distros[0].name, "debian");
        assert_eq!(descriptor.stacks[0].id, "*");
        assert_eq!(descriptor.metadata["deep"]["n"].as_integer(), Some(1));
    }

    #[test]
    fn exec_env_may_be_tables() {
        let text = "api = '0.12'\n[buildpack]\nid = 'a'\n[[buildpack.exec-env]]\nname = 'test'\n";
        assert_eq!(
            BuildpackDescriptor::parse(text).unwrap().buildpack.exec_env,
            ["test"]
        );
    }

    #[test]
    fn a_composite_has_an_order() {
        let text = "api = '0.10'\n[buildpack]\nid = 'a'\nversion = '1'\n\
            [[order]]\n[[order.group]]\nid = 'b'\nversion = '2'\noptional = true\n";
        let descriptor = BuildpackDescriptor::parse(text).unwrap();
        assert!(descriptor.is_composite());
        assert!(descriptor.order[0].group[0].optional);
    }

    #[test]
    fn a_missing_api_is_told_apart() {
        for text in [
            "[buildpack]\nid = 'a'\n",
            "",
            "api = 'x'\n[buildpack]\nid = 'a'\n",
        ] {
            assert!(
                matches!(BuildpackDescriptor::parse(text), Err(BuildpackTomlError::Api(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn types_are_strict() {
        for text in [
            "api = '0.10'\n[buildpack]\nversion = '1'\n",
            "api = 0.10\n[buildpack]\nid = 'a'\n",
            "api = = ",
            "api = '0.10'\n[buildpack]\nid = 'a'\nclear-env = 'true'\n",
            "api = '0.10'\n[buildpack]\nid = 'a'\nversion = '../..'\n",
        ] {
            assert!(
                matches!(BuildpackDescriptor::parse(text), Err(BuildpackTomlError::Toml(_))),
                "{text}"
            );
        }
    }
}
