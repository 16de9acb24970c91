//! Manifests and indexes: OCI media types in what is written, Docker's too in what is read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::model::descriptor::CONFIG;
use crate::model::descriptor::DOCKER_LIST;
use crate::model::descriptor::DOCKER_MANIFEST;
use crate::model::descriptor::Descriptor;
use crate::model::descriptor::INDEX;
use crate::model::descriptor::LAYER_GZIP;
use crate::model::descriptor::LAYER_TAR;
use crate::model::descriptor::LAYER_ZSTD;
use crate::model::descriptor::MANIFEST;
use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::json::canonical_bytes;

/// The annotation that holds an image's name in a layout.
pub const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u8,
    /// The manifest's own media type; old writers leave it out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers' blobs, the lowest first.
    pub layers: Vec<Descriptor>,
    /// Notes about the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests: of one image for several platforms, or of the images in a layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u8,
    /// The index's own media type; layouts often leave it out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The manifests.
    #[serde(default)]
    pub manifests: Vec<IndexEntry>,
    /// Notes about the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One manifest of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The manifest.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes, the name among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest of an index is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A document that a reference can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// Why bytes are no manifest and no index.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// The JSON is not a manifest's or an index's.
    #[error("the manifest is malformed: {0}")]
    Json(String),
    /// A kind that is not read here.
    #[error("manifests of media type `{0}` are not supported")]
    MediaType(String),
}

impl Failure for ManifestError {
    fn facts(&self) -> Facts {
        match self {
            Self::Json(_) => Facts::platform("manifest_malformed"),
            Self::MediaType(_) => Facts::platform("manifest_unsupported"),
        }
    }
}

impl Manifest {
    /// The manifest of an image with these bytes as its configuration. Layers get OCI media types; their bytes and
    /// digests stay.
    pub fn new(config: &[u8], layers: impl IntoIterator<Item = Descriptor>) -> Self {
        let typed = |layer: Descriptor| Descriptor {
            media_type: oci_media_type(&layer.media_type),
            ..layer
        };
        Self {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config: describe(CONFIG, config),
            layers: layers.into_iter().map(typed).collect(),
            annotations: BTreeMap::new(),
        }
    }

    /// The canonical bytes: these are what a reference names.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

impl Default for Index {
    fn default() -> Self {
        let media_type = INDEX.to_owned();
        Self {
            schema_version: 2,
            media_type,
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }
}

impl Index {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

impl Document {
    /// Reads a manifest or an index, told apart by its own media type, else by `media_type` from outside, else by what
    /// is in it.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            schema_version: u64,
            media_type: Option<String>,
            manifests: Option<serde_json::Value>,
        }
        let malformed = |error: serde_json::Error| ManifestError::Json(error.to_string());
        let kind: Kind = serde_json::from_slice(bytes).map_err(malformed)?;
        if kind.schema_version != 2 {
            return Err(ManifestError::MediaType(format!(
                "schema version {}",
                kind.schema_version
            )));
        }
        let stated = kind
            .media_type
            .as_deref()
            .filter(|own| !own.is_empty())
            .or(media_type);
        match stated {
            None if kind.manifests.is_some() => {
                serde_json::from_slice(bytes).map(Self::Index).map_err(malformed)
            }
            Some(INDEX | DOCKER_LIST) => serde_json::from_slice(bytes).map(Self::Index).map_err(malformed),
            Some(MANIFEST | DOCKER_MANIFEST) | None => serde_json::from_slice(bytes)
                .map(Self::Manifest)
                .map_err(malformed),
            Some(other) => Err(ManifestError::MediaType(other.chars().take(200).collect())),
        }
    }
}

/// The descriptor of bytes.
pub fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    }
}

/// The OCI media type of what Docker names otherwise; any other stays.
pub fn oci_media_type(media_type: &str) -> String {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar" => LAYER_TAR,
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => LAYER_ZSTD,
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        }
        "application/vnd.docker.container.image.v1+json" => CONFIG,
        DOCKER_MANIFEST => MANIFEST,
        DOCKER_LIST => INDEX,
        other => other,
    }
    .to_owned()
}

fn to_bytes<T: Serialize>(document: &T) -> Vec<u8> {
    // Structs of texts, numbers and lists always become JSON.
    serde_json::to_value(document).map_or_else(|_| Vec::new(), |value| canonical_bytes(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_layer_gets_the_oci_type_and_keeps_its_bytes() {
        let docker = describe("application/vnd.docker.image.rootfs.diff.tar.gzip", b"layer");
        let manifest = Manifest::new(b"{}", [docker.clone()]);
        assert_eq!(manifest.layers[0].media_type, LAYER_GZIP);
        assert_eq!(manifest.layers[0].digest, docker.digest);
        let bytes = manifest.to_bytes();
        assert_eq!(Document::parse(&bytes, None), Ok(Document::Manifest(manifest)));
        assert!(
            bytes.starts_with(br#"{"config":{"digest":"sha256:"#),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }

    #[test]
    fn documents_are_told_apart() {
        let index = Index::default();
        assert_eq!(
            Document::parse(&index.to_bytes(), None),
            Ok(Document::Index(index.clone()))
        );
        let bare = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(Document::parse(bare, None), Ok(Document::Index(_))));
        assert!(matches!(
            Document::parse(br#"{"schemaVersion":1}"#, None),
            Err(ManifestError::MediaType(_))
        ));
        let other = br#"{"schemaVersion":2,"mediaType":"x/y"}"#;
        assert_eq!(
            Document::parse(other, None),
            Err(ManifestError::MediaType("x/y".to_owned()))
        );
        assert!(Document::parse(b"nonsense", Some(MANIFEST)).is_err());
    }
}
