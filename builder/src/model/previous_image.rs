//! The image that an output held before this build: what of it can be reused.

use std::collections::BTreeMap;

use packhorse_spec::labels::LIFECYCLE_LABEL;
use packhorse_spec::labels::lifecycle::LifecycleLabel;
use serde_json::Value;

use crate::model::descriptor::Descriptor;
use crate::model::digest::DiffId;

/// What of an output's last image can be reused.
#[derive(Debug, Clone, Default)]
pub struct PreviousImage {
    /// Its layers by buildpack, as its label lists them.
    pub label: LifecycleLabel,
    /// The blob of each of its layers.
    pub layers: BTreeMap<DiffId, Descriptor>,
}

impl PreviousImage {
    /// Reads a manifest and its config. None if that is no image of buildpacks, or its parts do not agree.
    pub fn read(manifest: &Value, config: &Value) -> Option<Self> {
        let label = config["config"]["Labels"][LIFECYCLE_LABEL].as_str()?;
        let label = LifecycleLabel::parse(label).ok()?;
        let blobs: Vec<Descriptor> = serde_json::from_value(manifest["layers"].clone()).ok()?;
        let diff_ids: Vec<DiffId> = serde_json::from_value(config["rootfs"]["diff_ids"].clone()).ok()?;
        if blobs.len() != diff_ids.len() {
            return None;
        }
        Some(Self {
            label,
            layers: diff_ids.into_iter().zip(blobs).collect(),
        })
    }

    /// The layer `name` of a buildpack: its diffID and its blob.
    pub fn buildpack_layer(&self, buildpack: &str, name: &str) -> Option<(DiffId, &Descriptor)> {
        let layers = self
            .label
            .buildpacks
            .iter()
            .find(|layers| layers.id == buildpack)?;
        let diff_id: DiffId = layers.layers.get(name)?.sha.parse().ok()?;
        Some((diff_id, self.layers.get(&diff_id)?))
    }
}
