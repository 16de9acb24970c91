//! What a cache state says of itself, in `state.json`.

use serde::Deserialize;
use serde::Serialize;

use crate::model::descriptor::LayerDescriptor;

/// The version of the record; others are not read.
pub(super) const VERSION: u32 = 1;

/// A layer in a cache state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedLayer {
    /// The buildpack's id, unescaped.
    pub buildpack: String,
    /// The layer's name.
    pub name: String,
    /// Whether it is for later buildpacks.
    pub build: bool,
    /// Whether it is in the image.
    pub launch: bool,
    /// Whether its files are kept for the next build.
    pub cache: bool,
    /// The `[metadata]` of its TOML file, as JSON; empty if it has none.
    pub metadata: String,
    /// What it is in the image, if it is there.
    pub layer: Option<LayerDescriptor>,
}

/// A state: its trees, the newest first, and its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateRecord {
    pub(super) version: u32,
    pub(super) app: String,
    pub(super) scope: String,
    pub(super) trees: Vec<u64>,
    pub(super) layers: Vec<CachedLayer>,
}
