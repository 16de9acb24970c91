//! SBOM files: their names, their media types, and the old bill of materials (Buildpack spec, "Software-Bill-of-Materials").

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::json_writer;
use crate::metadata_json;
use crate::toml_writer::Section;

/// The name of the file that holds the old bill of materials, in `sbom/launch` and `sbom/build` of the layers folder.
pub const LEGACY_SBOM_FILE: &str = "sbom.legacy.json";

/// The kinds of SBOM files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SbomFormat {
    /// `CycloneDX`.
    CycloneDx,
    /// SPDX.
    Spdx,
    /// Syft's own.
    Syft,
}

impl SbomFormat {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::CycloneDx, Self::Spdx, Self::Syft];

    /// The media type that `sbom-formats` in `buildpack.toml` must name.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::CycloneDx => "application/vnd.cyclonedx+json",
            Self::Spdx => "application/spdx+json",
            Self::Syft => "application/vnd.syft+json",
        }
    }

    /// The name of an exported file, which is also how a buildpack's file ends after its first dot.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::CycloneDx => "sbom.cdx.json",
            Self::Spdx => "sbom.spdx.json",
            Self::Syft => "sbom.syft.json",
        }
    }

    /// Whether one of a buildpack's `sbom-formats` names this kind; parameters such as `;version=1.4` do not count.
    pub fn is_declared_in(self, sbom_formats: &[String]) -> bool {
        sbom_formats.iter().any(|declared| {
            let media_type = declared.split(';').next().unwrap_or_default().trim();
            media_type.eq_ignore_ascii_case(self.media_type())
        })
    }
}

/// What the SBOM file of a buildpack is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SbomSubject {
    /// All of the buildpack's launch layers: `launch.sbom.*`.
    Launch,
    /// All that its build used: `build.sbom.*`.
    Build,
    /// The layer of that name.
    Layer(String),
}

/// The meaning of a file's name in a buildpack's layers folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SbomFileName {
    /// It is no SBOM file.
    Other,
    /// It looks like one, `NAME.sbom.*.json`, but not of a known kind; that is an error of the build.
    UnknownFormat,
    /// It is one.
    Sbom(SbomSubject, SbomFormat),
}

/// What a file in a buildpack's layers folder is by its name.
///
/// The name of a layer ends at the first dot, so that a layer with a dot in its name cannot have an SBOM.
pub fn read_file_name(name: &str) -> SbomFileName {
    let looks_like_one = name
        .split_once(".sbom.")
        .is_some_and(|(_, rest)| rest.strip_suffix(".json").is_some());
    if !looks_like_one {
        return SbomFileName::Other;
    }
    let format = SbomFormat::ALL.into_iter().find(|format| {
        name.strip_suffix(format.file_name())
            .is_some_and(|before| before.ends_with('.'))
    });
    let subject = match name.split('.').next().unwrap_or_default() {
        "launch" => SbomSubject::Launch,
        "build" => SbomSubject::Build,
        layer => SbomSubject::Layer(layer.to_owned()),
    };
    format.map_or(SbomFileName::UnknownFormat, |format| {
        SbomFileName::Sbom(subject, format)
    })
}

/// One of `[[bom]]` in `launch.toml` or `build.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct LegacyBomEntry {
    /// What was put in.
    #[serde(default)]
    pub name: String,
    /// A version beside the name, which is an error of the build.
    #[serde(default)]
    pub version: Option<String>,
    /// All else about it.
    #[serde(default)]
    pub metadata: Option<toml::Table>,
    /// The buildpack that put it in; in the files of buildpacks it is not there.
    #[serde(default)]
    pub buildpack: Option<LegacyBomBuildpack>,
}

/// Who made a [`LegacyBomEntry`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct LegacyBomBuildpack {
    /// The buildpack's id.
    #[serde(default)]
    pub id: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
}

impl LegacyBomEntry {
    /// The entry as JSON has it, in `sbom.legacy.json` and, before Platform API 0.9, in a label.
    pub fn to_json(&self) -> impl Serialize + use<> {
        #[derive(Serialize)]
        struct Entry {
            name: String,
            #[serde(skip_serializing_if = "String::is_empty")]
            version: String,
            metadata: Option<Value>,
            buildpack: LegacyBomBuildpack,
        }
        Entry {
            name: self.name.clone(),
            version: self.version.clone().unwrap_or_default(),
            metadata: self.metadata.as_ref().map(metadata_json::metadata_to_json),
            buildpack: self.buildpack.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn section(&self) -> Section {
        let buildpack = self.buildpack.clone().unwrap_or_default();
        Section::new()
            .value("name", self.name.as_str())
            .text_unless_empty("version", self.version.as_deref().unwrap_or_default())
            .metadata("metadata", self.metadata.as_ref())
            .table(
                "buildpack",
                Section::new()
                    .value("id", buildpack.id)
                    .value("version", buildpack.version),
            )
    }
}

/// The text of a `sbom.legacy.json`; without entries it is `null`.
pub fn legacy_sbom_text(entries: &[LegacyBomEntry]) -> Result<String, serde_json::Error> {
    let list: Option<Vec<_>> =
        (!entries.is_empty()).then(|| entries.iter().map(LegacyBomEntry::to_json).collect());
    Ok(json_writer::to_text(&list)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        let layer = |name: &str, format| SbomFileName::Sbom(SbomSubject::Layer(name.into()), format);
        let cases = [
            (
                "launch.sbom.cdx.json",
                SbomFileName::Sbom(SbomSubject::Launch, SbomFormat::CycloneDx),
            ),
            (
                "build.sbom.spdx.json",
                SbomFileName::Sbom(SbomSubject::Build, SbomFormat::Spdx),
            ),
            ("lay.sbom.syft.json", layer("lay", SbomFormat::Syft)),
            ("a.b.sbom.syft.json", layer("a", SbomFormat::Syft)),
            ("lay.sbom.other.json", SbomFileName::UnknownFormat),
            ("lay.sbom.json", SbomFileName::Other),
            ("lay.toml", SbomFileName::Other),
            ("sbom.cdx.json", SbomFileName::Other),
            ("lay.sbom.cdx.json.bak", SbomFileName::Other),
        ];
        for (name, expected) in cases {
            assert_eq!(read_file_name(name), expected, "{name}");
        }
    }

    #[test]
    fn formats_are_declared_without_parameters() {
        let declared = [
            "application/vnd.cyclonedx+json; version=1.4".to_owned(),
            "application/spdx+json".to_owned(),
        ];
        assert!(SbomFormat::CycloneDx.is_declared_in(&declared));
        assert!(SbomFormat::Spdx.is_declared_in(&declared));
        assert!(!SbomFormat::Syft.is_declared_in(&declared));
    }

    #[test]
    fn the_legacy_file() {
        assert_eq!(legacy_sbom_text(&[]).unwrap(), "null\n");
        let entry = LegacyBomEntry {
            name: "a".into(),
            metadata: Some("k = '<'\n".parse().unwrap()),
            buildpack: Some(LegacyBomBuildpack {
                id: "vec/one".into(),
                version: "1".into(),
            }),
            ..LegacyBomEntry::default()
        };
        assert_eq!(
            legacy_sbom_text(&[entry]).unwrap(),
            "[{\"name\":\"a\",\"metadata\":{\"k\":\"\\u003c\"},\"buildpack\":{\"id\":\"vec/one\",\"version\":\"1\"}}]\n"
        );
    }
}
