//! `store.toml`: what a buildpack remembers from build to build (Buildpack spec, "store.toml").

use serde::Deserialize;

use crate::toml_writer::Section;

/// A parsed `store.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Store {
    /// The table `[metadata]`.
    #[serde(default)]
    pub metadata: Option<toml::Table>,
}

impl Store {
    /// Reads the text of a `store.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        Section::new()
            .metadata("metadata", self.metadata.as_ref())
            .to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round() {
        let text = "[metadata]\n  runs = 1.0\n";
        assert_eq!(Store::parse(text).unwrap().to_text(), text);
        assert_eq!(Store::parse("").unwrap().to_text(), "");
        assert!(Store::parse("metadata = 1").is_err());
    }
}
