//! What a build leaves as proof: the image's digest, where it is, and what is in it.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::model::digest::DiffId;
use crate::model::digest::Digest;
use crate::model::phase::Phase;

/// What became of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerOutcome {
    /// It is new.
    Added,
    /// It is the previous image's, unchanged.
    Reused,
    /// It is the run image's.
    Base,
}

/// One layer of a finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerReceipt {
    /// `packhorse/nodejs:node`, `app`, `launcher`, …
    pub name: String,
    /// What became of it.
    pub outcome: LayerOutcome,
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// Its length as it is stored, in bytes.
    pub size: u64,
}

/// What a build leaves as proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The digest of the image's manifest.
    pub digest: Digest,
    /// The length of the manifest in bytes.
    pub manifest_size: u64,
    /// The outputs, as they are written: `registry.example/app:1`, `oci:DIR`.
    pub outputs: Vec<String>,
    /// The layers, from the base upwards.
    pub layers: Vec<LayerReceipt>,
    /// `id@version` of the buildpacks that took part, in order.
    pub buildpacks: Vec<String>,
    /// The sandbox rung that was in force.
    pub rung: String,
    /// Whether this is an earlier build's receipt, since nothing changed.
    #[serde(skip)]
    pub unchanged: bool,
    /// How long each phase took.
    #[serde(skip)]
    pub phases: Vec<(Phase, Duration)>,
}
