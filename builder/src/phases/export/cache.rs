//! What of the layers is for the next build: the rest is removed through the mounted view, so that the upper can become
//! a tree of the cache's next state.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::Path;

use packhorse_spec::identifier::escape_id;
use packhorse_spec::metadata_json::metadata_to_json;

use crate::buildpack::layers::LayerOnDisk;
use crate::buildpack::layers::NAMES_MAX;
use crate::buildpack::metadata::LayerDigests;
use crate::model::secret::SearchWidth;
use crate::oci::layer::diff_id_of;
use crate::oci::tree::append_layer_directory;
use crate::phases::export::ExportError;
use crate::phases::export::leak;
use crate::phases::export::leak::Leak;
use crate::phases::handover::Finished;
use crate::phases::handover::ImageLayer;
use crate::phases::handover::NextState;
use crate::phases::handover::Sandbox;
use crate::phases::handover::Tools;
use crate::phases::handover::USER_ID;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;
use crate::store::caches::record::CachedLayer;
use crate::store::directory_layer::tree_of_user;

/// Ends the sandbox. None if no layer is for the next build and none was before.
pub(super) fn prepare(
    finished: Finished,
    digests: &LayerDigests,
    layers: &[ImageLayer],
    tools: &Tools<'_>,
) -> Result<Option<NextState>, ExportError> {
    check(&finished, tools)?;
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

/// Looks for secrets in what the cache would keep and no image has: metadata always, files where that was asked for.
fn check(finished: &Finished, tools: &Tools<'_>) -> Result<(), ExportError> {
    let guard = &finished.plan.source.guard;
    for layer in finished.built.layers.iter().filter(|layer| layer.types.cache) {
        leak::check_metadata(guard, layer)?;
    }
    let only_cached = |layer: &&LayerOnDisk| layer.types.cache && !layer.types.launch && layer.has_directory;
    if guard.search.is_none() || guard.width == SearchWidth::Leaving {
        return Ok(());
    }
    let layers = &finished.plan.setting.paths.layers;
    let root = finished.plan.sandbox.job.open_directory(layers)?;
    let tree = tree_of_user(root.as_fd(), layers, USER_ID, tools.cancel.flag());
    for layer in finished.built.layers.iter().filter(only_cached) {
        let place = Path::new(&escape_id(&layer.buildpack)).join(&layer.name);
        let looked = diff_id_of(|tar| {
            guard.watch(tar);
            append_layer_directory(tar, &tree, &place)
        });
        tools.cancel.check()?;
        let name = format!("{}:{}", layer.buildpack, layer.name);
        looked.map_err(|error| match Leak::of_tree(&name, &error) {
            Some(leak) => ExportError::Leak(leak),
            None => error.into(),
        })?;
    }
    Ok(())
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
