//! The layer with Node.js' C++ headers: for packages that compile addons during the build, never in the image.

use crate::NodejsBuildpack;
use crate::NodejsBuildpackError;
use crate::layers::node::InstallNodeError;
use libcnb::build::BuildContext;
use libcnb::data::layer_name;
use libcnb::layer::CachedLayerDefinition;
use libcnb::layer::EmptyLayerCause;
use libcnb::layer::InvalidMetadataAction;
use libcnb::layer::LayerRef;
use libcnb::layer::LayerState;
use libcnb::layer::RestoredLayerAction;
use serde::Deserialize;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// The folder with the headers, in the package of Node.js and in the layer, where node-gyp looks for it.
const FOLDER: &str = "include";
/// A header that every Node.js has.
const ANY_HEADER: &str = "include/node/node_version.h";

/// What the headers are of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeHeadersMetadata {
    pub(crate) arch: String,
    pub(crate) node_version: String,
}

/// The layer, whatever it holds so far.
pub(crate) struct NodeHeaders(LayerRef<NodejsBuildpack, (), NodeHeadersMetadata>);

/// Makes the layer or keeps the restored one; of which Node.js that is, is to be asked with [`NodeHeaders::are_of`].
pub(crate) fn restore_node_headers(
    context: &BuildContext<NodejsBuildpack>,
) -> libcnb::Result<NodeHeaders, NodejsBuildpackError> {
    let layer = context.cached_layer(
        layer_name!("node-headers"),
        CachedLayerDefinition {
            build: true,
            launch: false,
            invalid_metadata_action: &|_| InvalidMetadataAction::DeleteLayer,
            restored_layer_action: &|cached: &NodeHeadersMetadata, path| {
                let action = if path.join(ANY_HEADER).is_file() {
                    RestoredLayerAction::KeepLayer
                } else {
                    RestoredLayerAction::DeleteLayer
                };
                (action, cached.clone())
            },
        },
    )?;
    Ok(NodeHeaders(layer))
}

impl NodeHeaders {
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// Whether the layer was restored with the headers of exactly this Node.js.
    pub(crate) fn are_of(&self, wanted: &NodeHeadersMetadata) -> bool {
        match &self.0.state {
            LayerState::Restored { cause } => cause == wanted,
            LayerState::Empty {
                cause:
                    EmptyLayerCause::NewlyCreated
                    | EmptyLayerCause::InvalidMetadataAction { .. }
                    | EmptyLayerCause::RestoredLayerAction { .. },
            } => false,
        }
    }

    /// Takes the headers out of `node_layer`, where they were just unpacked, in place of what the layer held.
    pub(crate) fn take_from(
        &self,
        node_layer: &Path,
        metadata: NodeHeadersMetadata,
    ) -> libcnb::Result<(), NodejsBuildpackError> {
        move_headers(node_layer, &self.path()).map_err(NodejsBuildpackError::InstallNode)?;
        self.0.write_metadata(metadata)
    }
}

fn move_headers(node_layer: &Path, headers_layer: &Path) -> Result<(), InstallNodeError> {
    let path = headers_layer.join(FOLDER);
    let removed = match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    removed
        .and_then(|()| fs::rename(node_layer.join(FOLDER), &path))
        .map_err(|source| InstallNodeError::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_replace_those_of_the_last_build() {
        let layers = tempfile::tempdir().unwrap();
        let (node, headers) = (layers.path().join("node"), layers.path().join("node-headers"));
        fs::create_dir_all(node.join("include/node")).unwrap();
        fs::write(node.join(ANY_HEADER), "new").unwrap();
        fs::create_dir_all(headers.join("include/node")).unwrap();
        fs::write(headers.join("include/node/gone.h"), "old").unwrap();
        move_headers(&node, &headers).unwrap();
        assert_eq!(fs::read_to_string(headers.join(ANY_HEADER)).unwrap(), "new");
        assert!(!headers.join("include/node/gone.h").exists());
        assert!(!node.join("include").exists());
        let error = move_headers(&node, &headers).unwrap_err().to_string();
        assert!(error.contains("node-headers/include`: No such file"), "{error}");
    }
}
