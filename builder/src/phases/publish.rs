//! Phase 6: sends the image to its outputs, blobs first and the manifest last, and keeps the receipt.

use std::path::PathBuf;

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
use crate::registry::push::Pushed as HowPushed;
use crate::store::error::StoreError;
use crate::store::pushed::Pushed;

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
            Output::Registry(reference) => push(&image, reference, request, tools).await?,
            Output::Layout { directory, name } => {
                let layout = tokio::task::block_in_place(|| Layout::open_or_create(directory))?;
                write(&image, &layout, name.as_deref(), request, tools).await?;
            }
            Output::Local(name) => {
                let images = tools.store.images()?;
                let _kept = tokio::task::block_in_place(|| images.keep_all())?;
                write(&image, images.layout(), Some(name), request, tools).await?;
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

async fn push(
    image: &Image,
    reference: &ImageReference,
    request: &BuildRequest,
    tools: &Tools<'_>,
) -> Result<(), PublishError> {
    let pushed = &tools.store.pushed(SCOPE, reference.registry())?;
    stream::iter(blobs_of(image))
        .map(|blob| push_blob(blob, reference, request, pushed, tools))
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

async fn push_blob(
    blob: &Descriptor,
    reference: &ImageReference,
    request: &BuildRequest,
    pushed: &Pushed,
    tools: &Tools<'_>,
) -> Result<(), PublishError> {
    let (registry, events, cancel) = (tools.registry, tools.watcher.as_ref(), tools.cancel);
    let known = pushed.repository(&blob.digest);
    let sent = match holder_of(blob, request, tools)? {
        Holder::File(path) => {
            let mount_from = known.as_deref();
            registry
                .push_blob(reference, blob, &path, mount_from, events, cancel)
                .await
        }
        Holder::Registry(from) => registry.copy_blob(from, reference, blob, events, cancel).await,
    };
    if let Err(RegistryError::Broken { .. }) = sent {
        // The next build makes it again.
        tools.store.blobs()?.discard(&blob.digest)?;
    }
    if sent? == HowPushed::Uploaded || known.is_none() {
        // What cannot be noted is uploaded to the next repository.
        let _unnoted = pushed.remember(&blob.digest, reference.repository());
    }
    Ok(())
}

async fn write(
    image: &Image,
    layout: &Layout,
    name: Option<&str>,
    request: &BuildRequest,
    tools: &Tools<'_>,
) -> Result<(), PublishError> {
    for blob in blobs_of(image) {
        tools.cancel.check()?;
        if layout.contains(blob) {
            continue;
        }
        let path = match holder_of(blob, request, tools)? {
            Holder::File(path) => path,
            Holder::Registry(from) => {
                let path = tools.store.blobs()?.path(&blob.digest);
                let events = tools.watcher.as_ref();
                tools
                    .registry
                    .blob(from, blob, &path, events, tools.cancel)
                    .await?;
                path
            }
        };
        tokio::task::block_in_place(|| layout.add_blob(blob, &path))?;
    }
    let platform = Platform {
        os: "linux".to_owned(),
        architecture: image.architecture.clone(),
        variant: None,
    };
    Ok(tokio::task::block_in_place(|| {
        layout.add_bytes(&image.descriptor, &image.manifest)?;
        layout.set(name, &image.descriptor, Some(platform))
    })?)
}

/// What an image needs beside its manifest, each blob once.
fn blobs_of(image: &Image) -> Vec<&Descriptor> {
    let layers = image.layers.iter().map(|layer| &layer.descriptor.blob);
    let mut blobs: Vec<&Descriptor> = layers.chain([&image.config]).collect();
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup_by_key(|blob| blob.digest);
    blobs
}

/// Who has the bytes of a blob.
enum Holder<'a> {
    File(PathBuf),
    Registry(&'a ImageReference),
}

/// Mostly the store. But a layer that a buildpack kept without its contents is the previous image's, and that one is in
/// the first output, which another machine may have written.
fn holder_of<'a>(
    blob: &Descriptor,
    request: &'a BuildRequest,
    tools: &Tools<'_>,
) -> Result<Holder<'a>, PublishError> {
    let blobs = tools.store.blobs()?;
    if blobs.contains(blob) {
        return Ok(Holder::File(blobs.path(&blob.digest)));
    }
    Ok(match request.outputs.first() {
        Some(Output::Registry(reference)) => Holder::Registry(reference),
        Some(Output::Layout { directory, .. }) => {
            Holder::File(Layout::open(directory)?.blob_path(&blob.digest))
        }
        Some(Output::Local(_)) => Holder::File(tools.store.images()?.layout().blob_path(&blob.digest)),
        None => Holder::File(blobs.path(&blob.digest)),
    })
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
