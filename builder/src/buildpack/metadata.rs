//! What is recorded of a build: `config/metadata.toml`, the buildpacks' part of the lifecycle label, and of the cache.

use std::collections::BTreeMap;

use packhorse_spec::identifier::NameError;
use packhorse_spec::identifier::ProcessType;
use packhorse_spec::labels::lifecycle::BuildpackLayers;
use packhorse_spec::labels::lifecycle::LayerLabel;
use packhorse_spec::labels::lifecycle::LayerSha;
use packhorse_spec::labels::lifecycle::LifecycleLabel;
use packhorse_spec::labels::lifecycle::StoreLabel;
use packhorse_spec::metadata_json::metadata_to_json;
use packhorse_spec::metadata_toml::BuildMetadata;
use serde::Deserialize;
use serde::Serialize;

use crate::buildpack::build::Built;
use crate::buildpack::layers::LayerOnDisk;
use crate::buildpack::paths::Paths;
use crate::model::digest::DiffId;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// The digests of the layers that have contents, by buildpack id and layer name.
pub type LayerDigests = BTreeMap<(String, String), DiffId>;

/// What is recorded of cached layers (`io.buildpacks.lifecycle.cache.metadata`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheMetadata {
    /// The layer with the SBOM files of cached layers.
    #[serde(default)]
    pub sbom: LayerSha,
    /// The cached layers of each buildpack of the group, even if there are none.
    #[serde(default)]
    pub buildpacks: Vec<BuildpackLayers>,
}

/// Why layers cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// A launch layer has no folder, and the previous image does not have it either.
    #[error("cannot reuse layer {layer} of buildpack {buildpack}: the previous image does not have it")]
    NothingToReuse {
        /// The buildpack.
        buildpack: String,
        /// The layer.
        layer: String,
    },
    /// A layer for launch and cache has no folder.
    #[error("layer {layer} of buildpack {buildpack} is to be cached but has no contents")]
    CachedWithoutContents {
        /// The buildpack.
        buildpack: String,
        /// The layer.
        layer: String,
    },
    /// A process type cannot be the name of a link in `/cnb/process`.
    #[error("cannot start processes by their type: {source}")]
    ProcessType {
        /// Which, and why.
        source: NameError,
    },
    /// The exporter has not given a digest.
    #[error("layer {layer} of buildpack {buildpack} was not exported")]
    NotExported {
        /// The buildpack.
        buildpack: String,
        /// The layer.
        layer: String,
    },
}

impl Failure for MetadataError {
    fn facts(&self) -> Facts {
        match self {
            Self::NothingToReuse { .. } => Facts::user("layer_not_reusable"),
            Self::CachedWithoutContents { .. } => Facts::user("layer_without_contents"),
            Self::ProcessType { .. } => Facts::user("process_type_invalid"),
            Self::NotExported { .. } => Facts::bug("layer_not_exported"),
        }
    }
}

/// What `config/metadata.toml` says; the label `io.buildpacks.build.metadata` follows from it
/// ([`packhorse_spec::labels::build::BuildLabel::new`]).
pub fn build_metadata(built: &Built) -> BuildMetadata {
    BuildMetadata {
        bom: Vec::new(),
        buildpacks: built.group.clone(),
        extensions: Vec::new(),
        labels: built.labels.clone(),
        processes: built.processes.clone(),
        slices: built.slices.clone(),
        buildpack_default_process_type: built.default_process_type.clone(),
    }
}

/// Writes `config/metadata.toml`.
pub fn write_build_metadata(job: &dyn Job, paths: &Paths, metadata: &BuildMetadata) -> Result<(), JobError> {
    let folder = paths.layers.join("config");
    job.make_directory(&folder)?;
    job.write_file(
        &folder.join("metadata.toml"),
        metadata.to_text().as_bytes(),
        0o644,
    )
}

/// The launch layers of each buildpack, for the lifecycle label. A layer without contents is the previous image's.
pub fn launch_layers(
    built: &Built,
    digests: &LayerDigests,
    previous: Option<&LifecycleLabel>,
) -> Result<Vec<BuildpackLayers>, MetadataError> {
    let mut all = of_each_buildpack(
        built,
        |layer| layer.types.launch,
        |layer| {
            let (buildpack, name) = (layer.buildpack.clone(), layer.name.clone());
            if layer.has_directory {
                return digest_of(layer, digests);
            }
            if layer.types.cache {
                return Err(MetadataError::CachedWithoutContents {
                    buildpack,
                    layer: name,
                });
            }
            let before = previous
                .and_then(|label| label.buildpack(&buildpack))
                .and_then(|one| one.layers.get(&name));
            before
                .map(|before| before.sha.clone())
                .ok_or(MetadataError::NothingToReuse {
                    buildpack,
                    layer: name,
                })
        },
    )?;
    for (buildpack, store) in all.iter_mut().zip(&built.stores) {
        buildpack.store = store.as_ref().map(|store| StoreLabel {
            metadata: store.metadata.as_ref().map(metadata_to_json),
        });
    }
    Ok(all)
}

/// The types of the processes, sorted: the names of the links in `/cnb/process`.
pub fn process_types(built: &Built) -> Result<Vec<ProcessType>, MetadataError> {
    let types = built.processes.iter().map(|process| process.process_type.parse());
    types
        .collect::<Result<_, _>>()
        .map_err(|source| MetadataError::ProcessType { source })
}

/// The cached layers of each buildpack, as the reference records them; for the comparison with its recorded builds. One
/// without contents is not cached.
#[cfg(test)]
pub(super) fn cached_layers(
    built: &Built,
    digests: &LayerDigests,
) -> Result<Vec<BuildpackLayers>, MetadataError> {
    of_each_buildpack(
        built,
        |layer| layer.types.cache && layer.has_directory,
        |layer| digest_of(layer, digests),
    )
}

fn digest_of(layer: &LayerOnDisk, digests: &LayerDigests) -> Result<String, MetadataError> {
    let key = (layer.buildpack.clone(), layer.name.clone());
    let digest = digests.get(&key).map(ToString::to_string);
    digest.ok_or(MetadataError::NotExported {
        buildpack: key.0,
        layer: key.1,
    })
}

fn of_each_buildpack(
    built: &Built,
    is_wanted: impl Fn(&LayerOnDisk) -> bool,
    sha: impl Fn(&LayerOnDisk) -> Result<String, MetadataError>,
) -> Result<Vec<BuildpackLayers>, MetadataError> {
    let mut all = Vec::new();
    for member in &built.group {
        let mut layers = BTreeMap::new();
        for layer in built
            .layers
            .iter()
            .filter(|layer| layer.buildpack == member.id.as_str() && is_wanted(layer))
        {
            let label = LayerLabel {
                sha: sha(layer)?,
                data: layer.metadata.as_ref().map(metadata_to_json),
                build: layer.types.build,
                launch: layer.types.launch,
                cache: layer.types.cache,
            };
            layers.insert(layer.name.clone(), label);
        }
        let id = member.id.to_string();
        all.push(BuildpackLayers {
            id,
            version: member.version.clone(),
            layers,
            store: None,
        });
    }
    Ok(all)
}
