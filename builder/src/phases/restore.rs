//! Phase 3: brings back what the chosen buildpacks kept of the last build.

use std::collections::BTreeMap;

use packhorse_spec::identifier::BuildpackId;
use packhorse_spec::labels::lifecycle::BuildpackLayers;
use packhorse_spec::labels::lifecycle::LayerLabel;

use crate::buildpack::metadata::CacheMetadata;
use crate::buildpack::restore::LastBuild;
use crate::buildpack::restore::decide;
use crate::buildpack::restored_files;
use crate::events::Cancelled;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::phases::handover::Plan;
use crate::phases::handover::Restored;
use crate::phases::handover::Tools;
use crate::sandbox::job::Job as _;
use crate::sandbox::job::JobError;
use crate::store::caches::record::CachedLayer;

/// Why the last build's layers could not be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The sandbox failed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Failure for RestoreError {
    fn facts(&self) -> Facts {
        match self {
            Self::Job(error) => error.facts(),
            Self::Cancelled(error) => error.facts(),
        }
    }
}

/// Mounts the last build's layers and removes from them what must not come back.
pub fn restore_layers(plan: Plan, tools: &Tools<'_>) -> Result<Restored, RestoreError> {
    tools.cancel.check()?;
    let job = &plan.sandbox.job;
    job.attach_layers()?;
    let group: Vec<BuildpackId> = plan
        .detected
        .group
        .iter()
        .map(|one| one.member.id.clone())
        .collect();
    let cached = plan
        .sandbox
        .state
        .as_ref()
        .map(|state| metadata_of(state.layers()));
    let last = LastBuild {
        image: plan.source.previous.as_ref().map(|image| &image.label),
        cache: cached.as_ref(),
        skip_layers: false,
    };
    restored_files::apply(
        job,
        &plan.setting.paths,
        &decide(&group, last),
        tools.watcher.as_ref(),
    )?;
    Ok(Restored { plan })
}

/// What the cache has, in the form in which the reference records it.
fn metadata_of(layers: &[CachedLayer]) -> CacheMetadata {
    let mut buildpacks: Vec<BuildpackLayers> = Vec::new();
    for layer in layers {
        let label = LayerLabel {
            sha: layer
                .layer
                .as_ref()
                .map(|descriptor| descriptor.diff_id.to_string())
                .unwrap_or_default(),
            data: serde_json::from_str(&layer.metadata).ok(),
            build: layer.build,
            launch: layer.launch,
            cache: layer.cache,
        };
        match buildpacks
            .iter_mut()
            .find(|buildpack| buildpack.id == layer.buildpack)
        {
            Some(buildpack) => {
                buildpack.layers.insert(layer.name.clone(), label);
            }
            None => buildpacks.push(BuildpackLayers {
                id: layer.buildpack.clone(),
                layers: BTreeMap::from([(layer.name.clone(), label)]),
                ..BuildpackLayers::default()
            }),
        }
    }
    CacheMetadata {
        buildpacks,
        ..CacheMetadata::default()
    }
}
