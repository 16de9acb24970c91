//! `report.toml`: what was published (Platform spec, "report.toml").

use serde::Deserialize;

use crate::toml_writer::Section;

/// A parsed `report.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The table `[image]`.
    pub image: ImageReport,
    /// What the specification does not have, such as the phases of a build; tables are written after `[image]`.
    pub other: toml::Table,
}

/// The table `[image]` of a [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageReport {
    /// The names that were written, as the user typed them.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The image's id in a daemon; only there.
    #[serde(default)]
    pub image_id: Option<String>,
    /// The digest of its manifest; only in a registry.
    #[serde(default)]
    pub digest: Option<String>,
    /// The size of the manifest in bytes.
    #[serde(default)]
    pub manifest_size: Option<i64>,
}

impl Report {
    /// Reads the text of a `report.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let mut other: toml::Table = toml::from_str(text)?;
        let image = other
            .remove("image")
            .map(ImageReport::deserialize)
            .transpose()?
            .unwrap_or_default();
        Ok(Self { image, other })
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let image = Section::new()
            .value("tags", self.image.tags.clone())
            .optional("image-id", self.image.image_id.as_deref())
            .optional("digest", self.image.digest.as_deref())
            .optional(
                "manifest-size",
                self.image.manifest_size.filter(|size| *size != 0),
            );
        Section::from(&self.other).table_first("image", image).to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_file_goes_round() {
        let text = include_str!("../../../testdata/vectors/processes/expected/report.toml");
        let report = Report::parse(text).unwrap();
        assert!(report.image.digest.as_ref().unwrap().starts_with("sha256:"));
        assert!(report.other.is_empty());
        assert_eq!(report.to_text(), text);
    }

    #[test]
    fn other_tables_are_kept() {
        let text = "ok = true\n\n[image]\n  tags = []\n\n[[phases]]\n  at = 2001-02-03T04:05:06Z\n  name = \"detect\"\n  seconds = 0.5\n";
        assert_eq!(Report::parse(text).unwrap().to_text(), text);
    }
}
