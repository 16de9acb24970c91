//! `build.toml`: what a buildpack did not provide after all (Buildpack spec, "build.toml").

use serde::Deserialize;

use crate::sbom::LegacyBomEntry;

/// A parsed `build.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct BuildToml {
    /// The entries of its plan that it leaves to the next provider.
    #[serde(default)]
    pub unmet: Vec<Unmet>,
    /// The old bill of materials of the build.
    #[serde(default)]
    pub bom: Vec<LegacyBomEntry>,
}

/// One of `[[unmet]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Unmet {
    /// A name of the buildpack's plan. Empty, or none of the plan's, is an error of the build.
    #[serde(default)]
    pub name: String,
}

impl BuildToml {
    /// Reads the text of a `build.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_unmet() {
        let build = BuildToml::parse("[[unmet]]\nname = 'a'\n[[unmet]]\n[[bom]]\nname = 'b'\n").unwrap();
        assert_eq!(build.unmet, [Unmet { name: "a".into() }, Unmet::default()]);
        assert_eq!(build.bom[0].name, "b");
        assert!(BuildToml::parse("unmet = 'a'").is_err());
    }
}
