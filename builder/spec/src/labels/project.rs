//! The label with the source of an image.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::json_writer;

/// Where the application's source is (Platform spec, "io.buildpacks.project.metadata").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectLabel {
    /// The source; the label is `{}` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ProjectSource>,
}

/// The source in a [`ProjectLabel`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectSource {
    /// Its kind, such as `git`.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its version, such as `{"commit": "…"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub version: BTreeMap<String, Value>,
    /// All else, such as `{"repository": "…"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Value>,
}

impl ProjectLabel {
    /// Reads the text of the label.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The text of the label.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        json_writer::to_text(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_project_label() {
        assert_eq!(ProjectLabel::default().to_text().unwrap(), "{}");
        let source = ProjectSource {
            kind: "git".into(),
            version: BTreeMap::from([("commit".into(), json!("abc"))]),
            metadata: BTreeMap::new(),
        };
        let label = ProjectLabel { source: Some(source) };
        assert_eq!(
            label.to_text().unwrap(),
            r#"{"source":{"type":"git","version":{"commit":"abc"}}}"#
        );
    }
}
