//! A secret in what would leave the build: where it is, and whose.

use packhorse_spec::metadata_json::metadata_to_json;

use crate::buildpack::layers::LayerOnDisk;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::secret::SecretFound;
use crate::oci::layer::LayerError;
use crate::oci::tar::writer::TarError;
use crate::oci::tree::TreeError;
use crate::phases::handover::Guard;
use crate::store::directory_layer::WriteError;

/// A secret where none may be. Nothing is pushed, and no cache is kept.
#[derive(Debug, thiserror::Error)]
#[error("{place} has a secret of the build in it: {found}; nothing was published and no cache was kept")]
pub struct Leak {
    place: String,
    found: SecretFound,
}

impl Failure for Leak {
    fn facts(&self) -> Facts {
        Facts::user("secret_found")
    }
}

impl Leak {
    /// A secret in a file, or in the name of one, of the layer that is called `layer`.
    pub(super) fn in_layer(layer: &str, path: &str, found: SecretFound) -> Self {
        let layer = match layer.split_once(':') {
            Some((buildpack, name)) => format!("layer `{name}` of buildpack {buildpack}"),
            None => format!("the layer `{layer}`"),
        };
        let place = if path.is_empty() {
            format!("a name in {layer}")
        } else {
            format!("`{path}` in {layer}")
        };
        Self { place, found }
    }

    /// If writing a layer ended because of a secret: which.
    pub(super) fn of(layer: &str, error: &WriteError) -> Option<Self> {
        match error {
            WriteError::Layer(LayerError::Contents(error)) => Self::of_tree(layer, error),
            _ => None,
        }
    }

    /// The same of an error before the blob.
    pub(super) fn of_tree(layer: &str, error: &TreeError) -> Option<Self> {
        match error {
            TreeError::Tar(TarError::Secret { path, found }) => {
                Some(Self::in_layer(layer, path, found.clone()))
            }
            _ => None,
        }
    }
}

/// Looks at the labels one by one, so that the one is named, then at the whole configuration.
pub(super) fn check_config(guard: &Guard, labels: &[(String, String)], config: &[u8]) -> Result<(), Leak> {
    let Some(search) = &guard.search else {
        return Ok(());
    };
    for (name, text) in labels {
        if let Some(found) = search.find(name.as_bytes()) {
            let place = "the name of a label of the image".to_owned();
            return Err(Leak { place, found });
        }
        if let Some(found) = search.find(text.as_bytes()) {
            let place = format!("the label `{name}` of the image");
            return Err(Leak { place, found });
        }
    }
    search.find(config).map_or(Ok(()), |found| {
        Err(Leak {
            place: "the image's configuration".to_owned(),
            found,
        })
    })
}

/// Looks at what a cache keeps of a layer beside its files.
pub(super) fn check_metadata(guard: &Guard, layer: &LayerOnDisk) -> Result<(), Leak> {
    let (Some(search), Some(metadata)) = (&guard.search, &layer.metadata) else {
        return Ok(());
    };
    search
        .find(metadata_to_json(metadata).to_string().as_bytes())
        .map_or(Ok(()), |found| {
            Err(Leak {
                place: format!(
                    "the metadata of layer `{}` of buildpack {}",
                    layer.name, layer.buildpack
                ),
                found,
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_layer_path_buildpack_and_secret() {
        let found = SecretFound {
            secret: "npm".to_owned(),
            form: "in base64",
        };
        let cases = [
            Leak::in_layer("test/a:modules", "/layers/test_a/modules/.npmrc", found.clone()),
            Leak::in_layer("test/a:modules", "", found.clone()),
            Leak::in_layer("app", "/workspace/out", found),
        ];
        insta::assert_snapshot!(cases.map(|leak| leak.to_string()).join("\n"));
    }
}
