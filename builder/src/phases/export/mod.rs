//! Phase 5: layers, config and manifest; every blob is in the store afterwards, and the cache's next state is ready.

mod cache;
mod config;
mod earlier;
mod fixed;
mod late;
mod layers;
mod leak;

use crate::buildpack::metadata::MetadataError;
use crate::events::Cancelled;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::config::ConfigError;
use crate::oci::slices::SliceError;
use crate::oci::tree::TreeError;
use crate::phases::export::leak::Leak;
use crate::phases::handover::Finished;
use crate::phases::handover::Image;
use crate::phases::handover::Tools;
use crate::sandbox::job::JobError;
use crate::store::directory_layer::WriteError;
use crate::store::error::StoreError;

/// Why no image could be made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A layer could not be written.
    #[error(transparent)]
    Layer(#[from] WriteError),
    /// The app's files could not be listed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A slice's pattern is wrong.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// A layer cannot be recorded.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A secret would leave the build.
    #[error(transparent)]
    Leak(#[from] Leak),
    /// A layer that was made before could not be searched for secrets.
    #[error("cannot search layer `{name}` for secrets: {why}")]
    Unsearched {
        /// The layer.
        name: String,
        /// Why not.
        why: String,
    },
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sandbox failed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The run image's configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A label could not be written.
    #[error("cannot write the label `{name}`: {source}")]
    Label {
        /// Its name.
        name: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Failure for ExportError {
    fn facts(&self) -> Facts {
        match self {
            Self::Layer(error) => error.facts(),
            Self::Tree(error) => error.facts(),
            Self::Slice(error) => error.facts(),
            Self::Metadata(error) => error.facts(),
            Self::Leak(error) => error.facts(),
            Self::Unsearched { .. } => Facts::platform("secret_search_failed"),
            Self::Store(error) => error.facts(),
            Self::Job(error) => error.facts(),
            Self::Config(error) => error.facts(),
            Self::Label { .. } => Facts::bug("label_unwritable"),
            Self::Cancelled(error) => error.facts(),
        }
    }
}

/// Writes the layers that are new, names those that are not, and describes the image. The sandbox ends here; what of
/// its layers is for the next build waits until the image is published.
pub fn assemble_image(finished: Finished, tools: &Tools<'_>) -> Result<Image, ExportError> {
    tools.cancel.check()?;
    let layers = layers::write(&finished, tools)?;
    tools.cancel.check()?;
    let digests = layers.digests.clone();
    let image = config::assemble(&finished, layers, tools)?;
    let next = cache::prepare(finished, &digests, &image.layers, tools)?;
    Ok(Image { next, ..image })
}
