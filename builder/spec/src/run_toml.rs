//! `run.toml`: the run images of a builder (Platform spec, "run.toml").

use serde::Deserialize;

use crate::toml_writer::Section;

/// The run images of a builder; the first is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RunImages {
    /// The table `[[images]]`.
    #[serde(default)]
    pub images: Vec<RunImage>,
}

/// A run image and the places that hold copies of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RunImage {
    /// Its reference.
    #[serde(default)]
    pub image: String,
    /// References of its copies.
    #[serde(default)]
    pub mirrors: Vec<String>,
}

impl RunImages {
    /// Reads the text of a `run.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of a `run.toml`.
    pub fn to_text(&self) -> String {
        let images = self.images.iter().map(|image| {
            let mirrors = (!image.mirrors.is_empty()).then(|| image.mirrors.clone());
            Section::new()
                .value("image", image.image.as_str())
                .optional("mirrors", mirrors)
        });
        Section::new().tables("images", images).to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_toml_goes_round() {
        let text =
            "[[images]]\n  image = \"a/b:1\"\n  mirrors = [\"c/b:1\"]\n\n[[images]]\n  image = \"d\"\n";
        let images = RunImages::parse(text).unwrap();
        assert_eq!(images.images[0].mirrors, ["c/b:1"]);
        assert_eq!(images.to_text(), text);
    }
}
