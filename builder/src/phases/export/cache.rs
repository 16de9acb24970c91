//! What of the layers is for the next build: the rest is removed through the mounted view, so that the upper can become
//! a tree of the cache's next state.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use packhorse_spec::identifier::escape_id;
use packhorse_spec::metadata_json::metadata_to_json;

use crate::buildpack::layers::LayerOnDisk;
use crate::buildpack::layers::NAMES_MAX;
use crate::buildpack::metadata::LayerDigests;
use crate::phases::export::ExportError;
use crate::phases::handover::Finished;
use crate::phases::handover::ImageLayer;
use crate::phases::handover::NextState;
use crate::phases::handover::Sandbox;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;
use crate::store::caches::record::CachedLayer;

/// Ends the sandbox. None if no layer is for the next build and none was before.
pub(super) fn prepare(
    finished: Finished,
    digests: &LayerDigests,
    layers: &[ImageLayer],
) -> Result<Option<NextState>, ExportError> {
    let Finished { plan, built, .. } = finished;
    let Sandbox {
        job,
        cache,
        state,
        pending,
        ..
    } = plan.sandbox;
    let is_cached = |layer: &&LayerOnDisk| layer.types.cache && layer.has_directory;
    let cached: Vec<&LayerOnDisk> = built.layers.iter().filter(is_cached).collect();
    if cached.is_empty() && state.is_none() {
        return Ok(None);
    }
    remove_others(&job, &plan.setting.paths.layers, &cached)?;
    let record = cached
        .into_iter()
        .map(|layer| record_of(layer, digests, layers))
        .collect();
    Ok(Some(NextState {
        cache,
        pending,
        layers: record,
    }))
}

/// Removes everything from the layers folder but the folders of `cached`.
fn remove_others(job: &dyn Job, layers: &Path, cached: &[&LayerOnDisk]) -> Result<(), JobError> {
    let mut names: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for layer in cached {
        names
            .entry(escape_id(&layer.buildpack))
            .or_default()
            .insert(&layer.name);
    }
    for entry in job.list(layers, NAMES_MAX)? {
        let folder = layers.join(&entry.name);
        let Some(kept) = entry.name.to_str().and_then(|name| names.get(name)) else {
            job.remove(&folder)?;
            continue;
        };
        for below in job.list(&folder, NAMES_MAX)? {
            if !below.name.to_str().is_some_and(|name| kept.contains(name)) {
                job.remove(&folder.join(&below.name))?;
            }
        }
    }
    Ok(())
}

fn record_of(layer: &LayerOnDisk, digests: &LayerDigests, layers: &[ImageLayer]) -> CachedLayer {
    let diff_id = digests.get(&(layer.buildpack.clone(), layer.name.clone()));
    let of_image = diff_id.and_then(|id| layers.iter().find(|one| one.descriptor.diff_id == *id));
    let metadata = layer
        .metadata
        .as_ref()
        .map(|metadata| metadata_to_json(metadata).to_string());
    CachedLayer {
        buildpack: layer.buildpack.clone(),
        name: layer.name.clone(),
        build: layer.types.build,
        launch: layer.types.launch,
        cache: layer.types.cache,
        metadata: metadata.unwrap_or_default(),
        layer: of_image.map(|one| one.descriptor.clone()),
    }
}
