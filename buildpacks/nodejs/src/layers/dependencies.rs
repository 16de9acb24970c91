//! The layers with installed packages: `dependencies` for launch, `build-dependencies` for the build script alone.

use crate::NodejsBuildpack;
use crate::NodejsBuildpackError;
use crate::dependencies_key::DependenciesKey;
use crate::node_modules::NODE_MODULES;
use crate::output;
use libcnb::build::BuildContext;
use libcnb::data::layer::LayerName;
use libcnb::data::layer_name;
use libcnb::layer::CachedLayerDefinition;
use libcnb::layer::InvalidMetadataAction;
use libcnb::layer::LayerState;
use libcnb::layer::RestoredLayerAction;
use libcnb::layer::UncachedLayerDefinition;
use std::path::Path;
use std::path::PathBuf;

/// Which of the two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DependenciesLayer {
    /// In the image, and kept from build to build.
    Launch,
    /// Only kept from build to build.
    BuildOnly,
}

impl DependenciesLayer {
    fn name(self) -> LayerName {
        match self {
            Self::Launch => layer_name!("dependencies"),
            Self::BuildOnly => layer_name!("build-dependencies"),
        }
    }
}

/// Keeps the restored layer if its key is `key`, or has it filled by `fill`; returns its `node_modules`.
pub(crate) fn prepare_dependencies(
    context: &BuildContext<NodejsBuildpack>,
    layer: DependenciesLayer,
    key: &DependenciesKey,
    fill: impl FnOnce(&Path) -> Result<(), NodejsBuildpackError>,
) -> libcnb::Result<PathBuf, NodejsBuildpackError> {
    let name = layer.name();
    let layer = context.cached_layer(
        layer.name(),
        CachedLayerDefinition {
            build: false,
            launch: layer == DependenciesLayer::Launch,
            invalid_metadata_action: &|_| InvalidMetadataAction::DeleteLayer,
            restored_layer_action: &|cached: &DependenciesKey, path| {
                if cached == key && path.join(NODE_MODULES).is_dir() {
                    RestoredLayerAction::KeepLayer
                } else {
                    RestoredLayerAction::DeleteLayer
                }
            },
        },
    )?;
    match layer.state {
        LayerState::Restored { .. } => {
            output::line(&format!(
                "Layer `{name}` kept from the last build; nothing of it changed"
            ));
        }
        LayerState::Empty { .. } => {
            fill(&layer.path())?;
            layer.write_metadata(key)?;
        }
    }
    Ok(layer.path().join(NODE_MODULES))
}

/// Empties the layer and takes it out of image and cache.
pub(crate) fn give_up_dependencies(
    context: &BuildContext<NodejsBuildpack>,
    layer: DependenciesLayer,
) -> libcnb::Result<(), NodejsBuildpackError> {
    let neither = UncachedLayerDefinition {
        build: false,
        launch: false,
    };
    context.uncached_layer(layer.name(), neither).map(|_| ())
}
