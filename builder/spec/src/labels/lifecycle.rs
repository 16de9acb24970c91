//! The label with the layers of an image: what a rebuild reuses and where a rebase cuts.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::json_writer;
use crate::labels::null_as_default;

/// Which layers an image has and where they come from (Platform spec, "io.buildpacks.lifecycle.metadata").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LifecycleLabel {
    /// The layers of the application, one for each slice and one for the rest.
    #[serde(default)]
    pub app: AppLayers,
    /// The SBOM layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<LayerSha>,
    /// The launch layers of each buildpack, in the order of the group.
    #[serde(default, deserialize_with = "null_as_default")]
    pub buildpacks: Vec<BuildpackLayers>,
    /// The layer with `metadata.toml`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: LayerSha,
    /// The launcher's layer.
    #[serde(default, deserialize_with = "null_as_default")]
    pub launcher: LayerSha,
    /// The layer with the links in `/cnb/process`; its sha is empty if there are no processes.
    #[serde(default, rename = "process-types", deserialize_with = "null_as_default")]
    pub process_types: LayerSha,
    /// The run image.
    #[serde(default, rename = "runImage", deserialize_with = "null_as_default")]
    pub run_image: RunImageLabel,
    /// The run image once more, for older platforms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackLabel>,
}

/// The layers of the application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AppLayers {
    /// As they are now.
    List(Vec<LayerSha>),
    /// As very old images have them (an object, a list of texts, or `null`); a rebase keeps it.
    Other(Value),
}

impl Default for AppLayers {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl AppLayers {
    /// The layers' diff ids; none if the label is very old.
    pub fn diff_ids(&self) -> impl Iterator<Item = &str> {
        let list = match self {
            Self::List(list) => list.as_slice(),
            Self::Other(_) => &[],
        };
        list.iter().map(|layer| layer.sha.as_str())
    }
}

/// A layer by its diff id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSha {
    /// The diff id, `sha256:…`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub sha: String,
}

/// The layers of one buildpack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildpackLayers {
    /// The buildpack's id.
    #[serde(default, rename = "key", deserialize_with = "null_as_default")]
    pub id: String,
    /// Its version.
    #[serde(default, deserialize_with = "null_as_default")]
    pub version: String,
    /// Its launch layers by name.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: BTreeMap<String, LayerLabel>,
    /// What it remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreLabel>,
}

/// One layer of a buildpack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerLabel {
    /// Its diff id.
    #[serde(default, deserialize_with = "null_as_default")]
    pub sha: String,
    /// Its metadata; see [`crate::metadata_json`].
    #[serde(default)]
    pub data: Option<Value>,
    /// Whether later buildpacks used it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub build: bool,
    /// Whether it is part of the image.
    #[serde(default, deserialize_with = "null_as_default")]
    pub launch: bool,
    /// Whether it was cached.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cache: bool,
}

/// A buildpack's `store.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreLabel {
    /// Its metadata; see [`crate::metadata_json`].
    #[serde(default)]
    pub metadata: Option<Value>,
}

/// The run image of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunImageLabel {
    /// The diff id of its topmost layer: where a rebase cuts.
    #[serde(default, rename = "topLayer", deserialize_with = "null_as_default")]
    pub top_layer: String,
    /// Its reference with the digest.
    #[serde(default, deserialize_with = "null_as_default")]
    pub reference: String,
    /// The name that it was asked for by (Platform API 0.12).
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub image: String,
    /// Names of its copies.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub mirrors: Vec<String>,
}

/// The field `stack`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackLabel {
    /// The run image.
    #[serde(default, rename = "runImage", deserialize_with = "null_as_default")]
    pub run_image: StackRunImage,
}

/// The run image in the field `stack`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRunImage {
    /// Its name.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub image: String,
    /// Names of its copies.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub mirrors: Vec<String>,
}

impl LifecycleLabel {
    /// Reads the text of the label.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The text of the label.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        json_writer::to_text(self)
    }

    /// The layers of the buildpack of that id.
    pub fn buildpack(&self, id: &str) -> Option<&BuildpackLayers> {
        self.buildpacks.iter().find(|buildpack| buildpack.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_and_null_fields_are_empty() {
        for text in [
            "{}",
            r#"{"buildpacks":null,"config":null,"runImage":null,"stack":null,"process-types":{}}"#,
        ] {
            assert_eq!(
                LifecycleLabel::parse(text).unwrap(),
                LifecycleLabel::default(),
                "{text}"
            );
        }
        let label = LifecycleLabel::parse(r#"{"buildpacks":[{"key":"a","layers":null}],"other":1}"#).unwrap();
        assert!(label.buildpack("a").unwrap().layers.is_empty());
        assert!(LifecycleLabel::parse("x").is_err() && LifecycleLabel::parse("{\"config\":1}").is_err());
    }

    #[test]
    fn very_old_app_fields_are_kept() {
        for app in [json!({"sha": "sha256:x"}), json!(["sha256:x"])] {
            let label = LifecycleLabel::parse(&json!({ "app": app.clone() }).to_string()).unwrap();
            assert_eq!(label.app.diff_ids().count(), 0);
            let written: Value = serde_json::from_str(&label.to_text().unwrap()).unwrap();
            assert_eq!(written["app"], app);
        }
    }
}
