//! Decides what buildpacks find of the last build: metadata, cached layers, their store (Platform spec, "restorer").

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use packhorse_spec::identifier::BuildpackId;
use packhorse_spec::identifier::LayerName;
use packhorse_spec::labels::lifecycle::BuildpackLayers;
use packhorse_spec::labels::lifecycle::LayerLabel;
use packhorse_spec::labels::lifecycle::LifecycleLabel;
use packhorse_spec::layer_toml::LayerDescriptor;
use packhorse_spec::metadata_json::metadata_from_json;
use packhorse_spec::store_toml::Store;
use serde_json::Value;

use crate::buildpack::metadata::CacheMetadata;

/// What is known of the last build.
#[derive(Debug, Clone, Copy)]
pub struct LastBuild<'a> {
    /// The previous image's label.
    pub image: Option<&'a LifecycleLabel>,
    /// What the cache has.
    pub cache: Option<&'a CacheMetadata>,
    /// Whether only the stores are to be restored (`--skip-restore`, `--clear-cache`, another execution environment).
    pub skip_layers: bool,
}

/// What one buildpack finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    /// The buildpack.
    pub buildpack: BuildpackId,
    /// The text of its `store.toml`.
    pub store: Option<String>,
    /// The text of each restored `<layer>.toml`. It has metadata and never types.
    pub layers: BTreeMap<LayerName, String>,
    /// The layers whose folders stay; all others of the cache are removed.
    pub keep: BTreeSet<LayerName>,
    /// What was decided, one sentence each.
    pub decisions: Vec<String>,
}

/// Decides for each buildpack of the group, by id and whatever its version.
pub fn decide(group: &[BuildpackId], last: LastBuild<'_>) -> Vec<Restored> {
    group.iter().map(|id| decide_one(id, last)).collect()
}

fn decide_one(id: &BuildpackId, last: LastBuild<'_>) -> Restored {
    let in_image = last.image.and_then(|label| label.buildpack(id.as_str()));
    let in_cache = last
        .cache
        .and_then(|cache| cache.buildpacks.iter().find(|one| one.id == id.as_str()));
    let store = in_image.and_then(|one| one.store.as_ref()).map(|store| {
        Store {
            metadata: store
                .metadata
                .as_ref()
                .filter(|data| data.is_object())
                .map(metadata_from_json),
        }
        .to_text()
    });
    let mut restored = Restored {
        buildpack: id.clone(),
        store,
        layers: BTreeMap::new(),
        keep: BTreeSet::new(),
        decisions: Vec::new(),
    };
    if last.skip_layers {
        return restored;
    }
    let none = BTreeMap::new();
    let layers_of = |one: Option<&BuildpackLayers>| one.map(|one| one.layers.clone());
    let image_layers = layers_of(in_image).unwrap_or_else(|| none.clone());
    let cache_layers: BTreeMap<String, LayerLabel> = layers_of(in_cache)
        .unwrap_or(none)
        .into_iter()
        .filter(|(_, layer)| layer.cache)
        .collect();

    for (name, layer) in &image_layers {
        let is_cached = cache_layers.contains_key(name);
        // A layer for the build must be there; one that was cached and is not any more comes back as a whole or not.
        let is_of_use = layer.launch && if layer.cache { is_cached } else { !layer.build };
        if is_of_use {
            restored.restore(name, layer, cache_layers.get(name), "the previous image");
        }
    }
    for (name, layer) in &cache_layers {
        let is_the_images = layer.launch && image_layers.contains_key(name);
        if !is_the_images {
            restored.restore(name, layer, Some(layer), "the cache");
        }
    }
    restored
}

impl Restored {
    fn restore(&mut self, name: &str, layer: &LayerLabel, cached: Option<&LayerLabel>, origin: &str) {
        let id = &self.buildpack;
        // Labels come from outside, and the name becomes part of a path.
        let Ok(name) = name.parse::<LayerName>() else {
            self.decisions.push(format!(
                "not restoring a layer of {id}: `{}` is no layer's name",
                name.escape_debug()
            ));
            return;
        };
        if cached.is_some_and(|cached| cached.sha != layer.sha) {
            self.decisions.push(format!(
                "removing layer {name} of {id}: the cache has another than the previous image"
            ));
            return;
        }
        self.decisions.push(format!(
            "restoring metadata of layer {name} of {id} from {origin}"
        ));
        if cached.is_some() {
            self.decisions
                .push(format!("restoring layer {name} of {id} from the cache"));
            self.keep.insert(name.clone());
        }
        let metadata = layer
            .data
            .as_ref()
            .filter(|data| Value::is_object(data))
            .map(metadata_from_json);
        self.layers
            .insert(name, LayerDescriptor::to_restored_text(metadata.as_ref()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(types: &str, sha: &str) -> LayerLabel {
        LayerLabel {
            sha: sha.to_owned(),
            data: Some(serde_json::json!({ "n": 1, "when": "t", "nothing": null })),
            launch: types.contains('l'),
            build: types.contains('b'),
            cache: types.contains('c'),
        }
    }

    fn buildpack(layers: &[(&str, &str, &str)]) -> Vec<BuildpackLayers> {
        let layers = layers
            .iter()
            .map(|(name, types, sha)| ((*name).to_owned(), layer(types, sha)))
            .collect();
        vec![BuildpackLayers {
            id: "a/b".into(),
            version: "1".into(),
            layers,
            store: None,
        }]
    }

    /// The names of the restored files and, with a `*`, of those whose folders stay.
    fn restored(image: &[(&str, &str, &str)], cache: &[(&str, &str, &str)]) -> String {
        let image = LifecycleLabel {
            buildpacks: buildpack(image),
            ..LifecycleLabel::default()
        };
        let cache = CacheMetadata {
            buildpacks: buildpack(cache),
            ..CacheMetadata::default()
        };
        let last = LastBuild {
            image: Some(&image),
            cache: Some(&cache),
            skip_layers: false,
        };
        let restored = decide(&["a/b".parse().unwrap()], last).remove(0);
        assert!(
            restored
                .keep
                .iter()
                .all(|name| restored.layers.contains_key(name))
        );
        let mark = |name: &LayerName| if restored.keep.contains(name) { "*" } else { "" };
        restored
            .layers
            .keys()
            .map(|name| format!("{name}{}", mark(name)))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_truth_table_of_the_specification() {
        for (types, cached, expected) in [
            ("b", None, ""),
            ("bl", None, ""),
            ("l", None, "x"),
            ("lc", Some("lc"), "x*"),
            ("blc", Some("blc"), "x*"),
            ("lc", None, ""),
            ("lc", Some("l"), ""),
        ] {
            let cache: Vec<_> = cached.map(|types| ("x", types, "1")).into_iter().collect();
            assert_eq!(
                restored(&[("x", types, "1")], &cache),
                expected,
                "{types} {cached:?}"
            );
        }
    }

    #[test]
    fn layers_of_the_cache_alone() {
        assert_eq!(
            restored(&[], &[("x", "c", "1"), ("y", "bc", "2"), ("z", "lc", "3")]),
            "x* y* z*"
        );
        assert_eq!(restored(&[("x", "bl", "1")], &[("x", "lc", "1")]), "");
    }

    #[test]
    fn a_cache_that_differs_from_the_image_is_not_used() {
        assert_eq!(restored(&[("x", "lc", "1")], &[("x", "lc", "2")]), "");
        assert_eq!(restored(&[("x", "l", "1")], &[("x", "c", "2")]), "x*");
    }

    #[test]
    fn names_that_are_paths_are_not_restored() {
        assert_eq!(
            restored(
                &[("../x", "l", "1"), ("store", "l", "1"), ("ok", "l", "1")],
                &[("a/b", "c", "1")]
            ),
            "ok"
        );
    }

    #[test]
    fn metadata_went_through_json() {
        let image = LifecycleLabel {
            buildpacks: buildpack(&[("x", "l", "1")]),
            ..LifecycleLabel::default()
        };
        let last = LastBuild {
            image: Some(&image),
            cache: None,
            skip_layers: false,
        };
        let restored = decide(&["a/b".parse().unwrap()], last);
        let text = restored[0].layers.values().next().unwrap();
        assert_eq!(text, "[metadata]\n  n = 1.0\n  when = \"t\"\n");
    }

    #[test]
    fn stores_survive_all() {
        let mut image = LifecycleLabel {
            buildpacks: buildpack(&[("x", "l", "1")]),
            ..LifecycleLabel::default()
        };
        let metadata = Some(serde_json::json!({ "runs": 1 }));
        image.buildpacks[0].store = Some(packhorse_spec::labels::lifecycle::StoreLabel { metadata });
        let last = LastBuild {
            image: Some(&image),
            cache: None,
            skip_layers: true,
        };
        let restored = decide(&["a/b".parse().unwrap()], last);
        assert_eq!(restored[0].store.as_deref(), Some("[metadata]\n  runs = 1.0\n"));
        assert!(restored[0].layers.is_empty());
    }
}
