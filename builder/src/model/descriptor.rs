//! Descriptors: a blob's media type, digest and size, and a layer's with its diffID.

use serde::Deserialize;
use serde::Serialize;

use crate::model::digest::DiffId;
use crate::model::digest::Digest;

/// OCI media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI media type of an image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI media type of an image configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI media type of a layer without compression.
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI media type of a gzip layer.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI media type of a zstd layer.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's media type of an image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's media type of a list of manifests.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A blob: what it is, its digest and its length (OCI image spec, descriptor).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type.
    pub media_type: String,
    /// The digest of the blob's bytes.
    pub digest: Digest,
    /// The blob's length in bytes.
    pub size: u64,
}

/// A layer: the blob that holds it and the identity of what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerDescriptor {
    /// The blob.
    #[serde(flatten)]
    pub blob: Descriptor,
    /// The digest of the tar before compression.
    pub diff_id: DiffId,
}
