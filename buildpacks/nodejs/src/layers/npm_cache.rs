//! The layer with npm's cache of packages: never in the image, kept from build to build.

use crate::NodejsBuildpack;
use crate::NodejsBuildpackError;
use libcnb::build::BuildContext;
use libcnb::data::layer_name;
use libcnb::generic::GenericMetadata;
use libcnb::layer::CachedLayerDefinition;
use libcnb::layer::InvalidMetadataAction;
use libcnb::layer::RestoredLayerAction;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// npm never removes what it does not use any more, so a cache that has grown past this is begun anew.
const SIZE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// The folder for `npm_config_cache`.
pub(crate) fn prepare_npm_cache(
    context: &BuildContext<NodejsBuildpack>,
) -> libcnb::Result<PathBuf, NodejsBuildpackError> {
    let layer = context.cached_layer(
        layer_name!("npm-cache"),
        CachedLayerDefinition {
            build: false,
            launch: false,
            invalid_metadata_action: &|_| InvalidMetadataAction::DeleteLayer,
            restored_layer_action: &|_: &GenericMetadata, path| {
                if size_bytes(path) > SIZE_BYTES_MAX {
                    RestoredLayerAction::DeleteLayer
                } else {
                    RestoredLayerAction::KeepLayer
                }
            },
        },
    )?;
    Ok(layer.path())
}

/// The sum of the files' sizes; what cannot be read counts nothing.
fn size_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_add_up_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), "123").unwrap();
        fs::write(folder.path().join("c"), "45").unwrap();
        assert_eq!(size_bytes(folder.path()), 5);
        std::os::unix::fs::symlink("..", folder.path().join("a/up")).unwrap();
        assert_eq!(size_bytes(folder.path()), 7, "the link itself has two bytes");
        assert_eq!(size_bytes(&folder.path().join("gone")), 0);
    }
}
