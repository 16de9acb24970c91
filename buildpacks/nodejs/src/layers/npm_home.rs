//! The layer with a home folder for npm and scripts where the build has none: empty at first, and not kept.
//!
//! Its path is the same in each build, since node-gyp writes it into what it makes.

use crate::NodejsBuildpack;
use crate::NodejsBuildpackError;
use libcnb::build::BuildContext;
use libcnb::data::layer_name;
use libcnb::layer::UncachedLayerDefinition;
use std::path::PathBuf;

/// The folder.
pub(crate) fn make_npm_home(
    context: &BuildContext<NodejsBuildpack>,
) -> libcnb::Result<PathBuf, NodejsBuildpackError> {
    let neither = UncachedLayerDefinition {
        build: false,
        launch: false,
    };
    let layer = context.uncached_layer(layer_name!("npm-home"), neither)?;
    Ok(layer.path())
}
