//! `<layer>.toml`: what a layer is for (Buildpack spec, "Layer Content Metadata").

use serde::Deserialize;
use thiserror::Error;

use crate::toml_writer::Section;

/// A parsed `<layer>.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerDescriptor {
    /// The table `[types]`; a restored file has none until the buildpack adds it.
    pub types: Option<LayerTypes>,
    /// The table `[metadata]`.
    pub metadata: Option<toml::Table>,
}

/// What a layer is used for; all false means that it is thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub struct LayerTypes {
    /// It becomes part of the image.
    #[serde(default)]
    pub launch: bool,
    /// Later buildpacks use it.
    #[serde(default)]
    pub build: bool,
    /// It is kept for the next build.
    #[serde(default)]
    pub cache: bool,
}

impl LayerTypes {
    /// Whether it is used for nothing.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// A `<layer>.toml` that was refused.
#[derive(Debug, Error)]
pub enum LayerTomlError {
    /// It is no TOML, or a known key has another type.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// The form of Buildpack APIs before 0.6.
    #[error("the key `{0}` should be in the table `types`")]
    TopLevelType(&'static str),
}

impl LayerDescriptor {
    /// Reads the text of a `<layer>.toml`. The reference reads every TOML file of a buildpack's layers folder so,
    /// `launch.toml`, `build.toml` and `store.toml` among them.
    pub fn parse(text: &str) -> Result<Self, LayerTomlError> {
        #[derive(Deserialize)]
        struct File {
            types: Option<LayerTypes>,
            metadata: Option<toml::Table>,
            launch: Option<toml::Value>,
            build: Option<toml::Value>,
            cache: Option<toml::Value>,
        }
        let file: File = toml::from_str(text)?;
        for (key, value) in [
            ("launch", file.launch),
            ("build", file.build),
            ("cache", file.cache),
        ] {
            if value.is_some() {
                return Err(LayerTomlError::TopLevelType(key));
            }
        }
        Ok(Self {
            types: file.types,
            metadata: file.metadata,
        })
    }

    /// The types, all false if the file has no such table.
    pub fn layer_types(&self) -> LayerTypes {
        self.types.unwrap_or_default()
    }

    /// The text of a restored file: never the types, and nothing at all without metadata.
    pub fn to_restored_text(metadata: Option<&toml::Table>) -> String {
        Section::new().metadata("metadata", metadata).to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_types_and_metadata() {
        let layer =
            LayerDescriptor::parse("[types]\nlaunch = true\n[metadata]\nn = 1\n[metadata.deep]\n").unwrap();
        assert_eq!(
            layer.types,
            Some(LayerTypes {
                launch: true,
                ..LayerTypes::default()
            })
        );
        assert_eq!(layer.metadata.unwrap()["n"].as_integer(), Some(1));
        assert_eq!(LayerDescriptor::parse("").unwrap(), LayerDescriptor::default());
        assert!(
            LayerDescriptor::parse("[types]\n")
                .unwrap()
                .layer_types()
                .is_none()
        );
        assert!(LayerDescriptor::parse("other = 1\n[[processes]]\ntype = 'web'\n").is_ok());
    }

    #[test]
    fn types_at_the_top_are_refused() {
        for key in ["launch", "build", "cache"] {
            let error = LayerDescriptor::parse(&format!("{key} = false\n[types]\n")).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the key `{key}` should be in the table `types`")
            );
        }
        assert!(matches!(
            LayerDescriptor::parse("[types]\nlaunch = 'yes'\n"),
            Err(LayerTomlError::Toml(_))
        ));
        assert!(matches!(
            LayerDescriptor::parse("[types\n"),
            Err(LayerTomlError::Toml(_))
        ));
    }

    #[test]
    fn a_restored_file_has_the_bytes_of_the_reference() {
        let metadata = "n = 1.0\nname = 'bcl'\n[deep]\nlist = ['a', 'b']\n"
            .parse()
            .unwrap();
        let expected =
            "[metadata]\n  n = 1.0\n  name = \"bcl\"\n  [metadata.deep]\n    list = [\"a\", \"b\"]\n";
        assert_eq!(LayerDescriptor::to_restored_text(Some(&metadata)), expected);
        assert_eq!(LayerDescriptor::to_restored_text(None), "");
    }
}
