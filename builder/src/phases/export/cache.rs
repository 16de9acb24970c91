//! What of the layers is for the next build: the rest is removed through the mounted view, and the upper becomes a tree
//! of the cache's new state.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use packhorse_spec::identifier::escape_id;
use packhorse_spec::metadata_json::metadata_to_json;

use crate::buildpack::layers::LayerOnDisk;
use crate::buildpack::layers::NAMES_MAX;
use crate::buildpack::metadata::LayerDigests;
use crate::model::descriptor::LayerDescriptor;
use crate::model::digest::DiffId;
use crate::phases::export::ExportError;
use crate::phases::handover::Finished;
use crate::phases::handover::Image;
use crate::phases::handover::Sandbox;
use crate::phases::handover::Tools;
use crate::sandbox::job::Job as _;
use crate::store::caches::record::CachedLayer;

/// Lists of more trees than this are made one tree, beside the publishing.
const DEPTH_MAX: usize = 8;

/// Ends the sandbox. If any layer is for the next build, or the last state must not come back, a new state is written.
pub(super) fn keep(
    finished: Finished,
    digests: &LayerDigests,
    image: &Image,
    tools: &Tools<'_>,
) -> Result<(), ExportError> {
    let Finished {
        plan,
        built,
        early: _,
    } = finished;
    let cached: Vec<&LayerOnDisk> = built
        .layers
        .iter()
        .filter(|layer| layer.types.cache && layer.has_directory)
        .collect();
    let Sandbox {
        job,
        cache,
        state,
        pending,
        ..
    } = plan.sandbox;
    if cached.is_empty() && state.is_none() {
        return Ok(());
    }
    let mut names: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for layer in &cached {
        names
            .entry(escape_id(&layer.buildpack))
            .or_default()
            .insert(&layer.name);
    }
    let layers = &plan.setting.paths.layers;
    for entry in job.list(layers, NAMES_MAX)? {
        let folder = layers.join(&entry.name);
        match entry.name.to_str().and_then(|name| names.get(name)) {
            None => job.remove(&folder)?,
            Some(kept) => {
                for below in job.list(&folder, NAMES_MAX)? {
                    if !below.name.to_str().is_some_and(|name| kept.contains(name)) {
                        job.remove(&folder.join(&below.name))?;
                    }
                }
            }
        }
    }
    drop(job);
    tools.cancel.check()?;
    let blobs: BTreeMap<DiffId, &LayerDescriptor> = image
        .layers
        .iter()
        .map(|layer| (layer.descriptor.diff_id, &layer.descriptor))
        .collect();
    let record = |layer: &&LayerOnDisk| {
        let diff_id = digests.get(&(layer.buildpack.clone(), layer.name.clone()));
        CachedLayer {
            buildpack: layer.buildpack.clone(),
            name: layer.name.clone(),
            build: layer.types.build,
            launch: layer.types.launch,
            cache: layer.types.cache,
            metadata: layer
                .metadata
                .as_ref()
                .map(|metadata| metadata_to_json(metadata).to_string())
                .unwrap_or_default(),
            layer: diff_id
                .and_then(|diff_id| blobs.get(diff_id))
                .map(|descriptor| (*descriptor).clone()),
        }
    };
    let record = cached.iter().map(record).collect();
    drop(state);
    cache.commit(pending, record)?;
    std::thread::spawn(move || {
        // A list that stays deep costs a little time; it is tried again after the next build.
        if let Err(error) = cache.flatten(DEPTH_MAX) {
            tracing::warn!(%error, "cannot flatten the cache");
        }
    });
    Ok(())
}
