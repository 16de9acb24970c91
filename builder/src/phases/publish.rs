//! Phase 6: sends the image to its outputs, blobs first and the manifest last, and keeps the receipt.

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::stream;

use crate::events::Cancelled;
use crate::events::Event;
use crate::model::descriptor::Descriptor;
use crate::model::descriptor::MANIFEST;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::output::Output;
use crate::model::receipt::LayerReceipt;
use crate::model::receipt::Receipt;
use crate::model::reference::ImageReference;
use crate::model::request::BuildRequest;
use crate::oci::layout::Layout;
use crate::oci::layout::LayoutError;
use crate::oci::manifest::Platform;
use crate::phases::handover::Image;
use crate::phases::handover::NextState;
use crate::phases::handover::SCOPE;
use crate::phases::handover::Tools;
use crate::registry::error::RegistryError;
use crate::store::error::StoreError;

/// States of more trees than this are made one tree.
const DEPTH_MAX: usize = 8;
/// Blobs that are sent at once.
const UPLOADS: usize = 4;

/// Why the image could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A registry refused, or did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layout could not be written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The receipt could not be written down.
    #[error("cannot write the receipt: {0}")]
    Receipt(serde_json::Error),
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Failure for PublishError {
    fn facts(&self) -> Facts {
        match self {
            Self::Registry(error) => error.facts(),
            Self::Layout(error) => error.facts(),
            Self::Receipt(_) => Facts::bug("receipt_unwritable"),
            Self::Store(error) => error.facts(),
            Self::Cancelled(error) => error.facts(),
        }
    }
}

/// Sends the image to every output. The receipt is kept only when all of them have it.
pub async fn publish_image(
    image: Image,
    request: &BuildRequest,
    tools: &Tools<'_>,
) -> Result<Receipt, PublishError> {
    for output in &request.outputs {
        tools.cancel.check()?;
        match output {
            Output::Registry(reference) => push(&image, reference, tools).await?,
            Output::Layout { directory, name } => {
                tokio::task::block_in_place(|| {
                    write_layout(
                        &image,
                        &Layout::open_or_create(directory)?,
                        name.as_deref(),
                        tools,
                    )
                })?;
            }
            Output::Local(name) => {
                let images = tools.store.images()?;
                tokio::task::block_in_place(|| write_layout(&image, images.layout(), Some(name), tools))?;
            }
        }
    }
    let receipt = receipt_of(&image, request);
    if image.is_settled {
        let bytes = serde_json::to_vec(&receipt).map_err(PublishError::Receipt)?;
        tools.store.receipts(SCOPE)?.put(&image.key.0, &bytes)?;
    }
    if let Some(next) = image.next {
        tokio::task::block_in_place(|| keep_cache(next, tools));
    }
    Ok(receipt)
}

/// The layers become the state that the next build gets. Losing them costs time, and no build.
fn keep_cache(next: NextState, tools: &Tools<'_>) {
    let kept = next.cache.commit(next.pending, next.layers);
    if let Err(error) = kept.and_then(|()| next.cache.flatten(DEPTH_MAX).map(|_| ())) {
        tools.watcher.tell(Event::Warning {
            text: format!("the layers are not kept for the next build: {error}"),
        });
    }
}

async fn push(image: &Image, reference: &ImageReference, tools: &Tools<'_>) -> Result<(), PublishError> {
    let blobs = tools.store.blobs()?;
    let mut all: Vec<&Descriptor> = image.layers.iter().map(|layer| &layer.descriptor.blob).collect();
    all.push(&image.config);
    all.sort_by_key(|blob| blob.digest);
    all.dedup_by_key(|blob| blob.digest);
    stream::iter(all)
        .map(|blob| {
            let path = blobs.path(&blob.digest);
            async move {
                tools
                    .registry
                    .push_blob(reference, blob, &path, None, tools.watcher.as_ref(), tools.cancel)
                    .await
            }
        })
        .buffer_unordered(UPLOADS)
        .try_collect::<Vec<_>>()
        .await?;
    tools.cancel.check()?;
    tools
        .registry
        .push_manifest(reference, MANIFEST, &image.manifest)
        .await?;
    Ok(())
}

fn write_layout(
    image: &Image,
    layout: &Layout,
    name: Option<&str>,
    tools: &Tools<'_>,
) -> Result<(), PublishError> {
    let blobs = tools.store.blobs()?;
    for blob in image
        .layers
        .iter()
        .map(|layer| &layer.descriptor.blob)
        .chain([&image.config])
    {
        tools.cancel.check()?;
        if !layout.contains(blob) {
            layout.add_blob(blob, &blobs.path(&blob.digest))?;
        }
    }
    layout.add_bytes(&image.descriptor, &image.manifest)?;
    let platform = Platform {
        os: "linux".to_owned(),
        architecture: image.architecture.clone(),
        variant: None,
    };
    Ok(layout.set(name, &image.descriptor, Some(platform))?)
}

fn receipt_of(image: &Image, request: &BuildRequest) -> Receipt {
    let layer = |layer: &crate::phases::handover::ImageLayer| LayerReceipt {
        name: layer.name.clone(),
        outcome: layer.outcome,
        diff_id: layer.descriptor.diff_id,
        size: layer.descriptor.blob.size,
    };
    Receipt {
        digest: image.descriptor.digest,
        manifest_size: image.descriptor.size,
        outputs: request.outputs.iter().map(ToString::to_string).collect(),
        layers: image.layers.iter().map(layer).collect(),
        buildpacks: image.buildpacks.clone(),
        rung: image.rung.clone(),
        unchanged: false,
        phases: Vec::new(),
    }
}
