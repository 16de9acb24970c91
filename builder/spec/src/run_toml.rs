//! `run.toml` and the older `stack.toml`: the run images of a builder (Platform spec, "run.toml").

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

    /// Reads the text of a `stack.toml`: one image, in the table `[run-image]`.
    pub fn parse_stack(text: &str) -> Result<Self, toml::de::Error> {
        #[derive(Deserialize)]
        struct Stack {
            #[serde(rename = "run-image")]
            run_image: Option<RunImage>,
        }
        let stack: Stack = toml::from_str(text)?;
        Ok(Self {
            images: stack.run_image.into_iter().collect(),
        })
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

    #[test]
    fn stack_toml_has_one_image() {
        let images =
            RunImages::parse_stack("[build-image]\nimage='x'\n[run-image]\nimage='a'\nmirrors=['b']\n")
                .unwrap();
        assert_eq!(
            images.images,
            [RunImage {
                image: "a".into(),
                mirrors: vec!["b".into()]
            }]
        );
        assert!(RunImages::parse_stack("").unwrap().images.is_empty());
    }
}
