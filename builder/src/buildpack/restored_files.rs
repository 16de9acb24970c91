//! Brings the layers folder of a job to what was decided to restore.

use std::collections::BTreeMap;
use std::path::Path;

use crate::buildpack::layers::NAMES_MAX;
use crate::buildpack::paths::Paths;
use crate::buildpack::restore::Restored;
use crate::buildpack::sbom;
use crate::events::Event;
use crate::events::Events;
use crate::sandbox::job::Entry;
use crate::sandbox::job::EntryKind;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// In a layers folder with all that the cache has, removes what is not restored and writes the files that are. A folder
/// that should stay and is not there is only a warning: its buildpack makes the layer again.
pub fn apply(
    job: &dyn Job,
    paths: &Paths,
    restored: &[Restored],
    events: &dyn Events,
) -> Result<(), JobError> {
    let by_folder: BTreeMap<String, &Restored> = restored
        .iter()
        .map(|one| (one.buildpack.escaped(), one))
        .collect();
    for entry in job.list(&paths.layers, NAMES_MAX)? {
        let is_of_the_group = entry
            .name
            .to_str()
            .is_some_and(|name| name == "sbom" || by_folder.contains_key(name));
        if !is_of_the_group || entry.kind != EntryKind::Directory {
            job.remove(&paths.layers.join(&entry.name))?;
        }
    }
    for (name, one) in &by_folder {
        apply_one(job, &paths.layers.join(name), one, events)?;
    }
    let group: Vec<_> = restored.iter().map(|one| one.buildpack.clone()).collect();
    sbom::restore(job, &paths.layers, &group)
}

fn apply_one(job: &dyn Job, folder: &Path, restored: &Restored, events: &dyn Events) -> Result<(), JobError> {
    let entries = job.list(folder, NAMES_MAX)?;
    let stays = |entry: &Entry| {
        entry.kind == EntryKind::Directory && restored.keep.iter().any(|layer| entry.name == *layer.as_str())
    };
    for entry in entries.iter().filter(|entry| !stays(entry)) {
        job.remove(&folder.join(&entry.name))?;
    }
    for layer in &restored.keep {
        if !entries
            .iter()
            .any(|entry| stays(entry) && entry.name == *layer.as_str())
        {
            let text = format!(
                "layer {layer} of {} is not in the cache any more and is made again",
                restored.buildpack
            );
            events.tell(Event::Warning { text });
        }
    }
    for text in &restored.decisions {
        events.tell(Event::Decision { text: text.clone() });
    }
    if restored.store.is_none() && restored.layers.is_empty() {
        return Ok(());
    }
    job.make_directory(folder)?;
    if let Some(store) = &restored.store {
        job.write_file(&folder.join("store.toml"), store.as_bytes(), 0o644)?;
    }
    for (layer, text) in &restored.layers {
        job.write_file(&folder.join(format!("{layer}.toml")), text.as_bytes(), 0o644)?;
    }
    Ok(())
}
