//! Phase 1: what is the source, did anything change, may the outputs be written, and what did they hold before?

mod describe;
mod outputs;

use std::io;
use std::path::PathBuf;

use crate::base::ensure::current_lock_digest;
use crate::base::error::BaseError;
use crate::events::Cancelled;
use crate::git::error::GitError;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::receipt::Receipt;
use crate::model::request::BuildRequest;
use crate::model::secret::SecretError;
use crate::oci::layout::LayoutError;
use crate::phases::handover::ARCHITECTURE;
use crate::phases::handover::Fetched;
use crate::phases::handover::SCOPE;
use crate::phases::handover::Source;
use crate::phases::handover::Tools;
use crate::registry::error::RegistryError;
use crate::store::error::StoreError;

/// Why the first phase failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory is missing or is none.
    #[error("there is no source directory `{path}`: {why}")]
    NoDirectory {
        /// As it was named.
        path: PathBuf,
        /// The kernel's words.
        why: String,
    },
    /// The directory has no such folder.
    #[error("there is no folder `{subdirectory}` in `{path}`")]
    NoSubdirectory {
        /// The directory.
        path: PathBuf,
        /// The folder in it.
        subdirectory: String,
    },
    /// A buildpack that the command line names is none.
    #[error("`{path}` is no buildpack: {why}")]
    NoBuildpack {
        /// As it was named.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Git could not fetch it.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The base's lock could not be read.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// Something in the source directory cannot be read.
    #[error("cannot read `{path}` of the source: {source}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The kernel's words.
        source: std::io::Error,
    },
    /// The build's secrets cannot be looked for.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A registry refuses, or does not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An output folder holds a layout that cannot be used.
    #[error(transparent)]
    LayoutInvalid(#[from] LayoutError),
    /// An output folder cannot be written.
    #[error("cannot write the image to `{path}`: {source}")]
    Layout {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Failure for SourceError {
    fn facts(&self) -> Facts {
        match self {
            Self::NoDirectory { .. } => Facts::user("source_not_found"),
            Self::NoSubdirectory { .. } => Facts::user("subdirectory_not_found"),
            Self::NoBuildpack { .. } => Facts::user("buildpack_missing"),
            Self::Git(error) => error.facts(),
            Self::Base(error) => error.facts(),
            Self::Unreadable { .. } => Facts::user("source_unreadable"),
            Self::Secret(error) => error.facts(),
            Self::Store(error) => error.facts(),
            Self::Registry(error) => error.facts(),
            Self::LayoutInvalid(error) => error.facts(),
            Self::Layout { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::Layout { .. } => Facts::user("output_unwritable"),
            Self::Cancelled(error) => error.facts(),
        }
    }
}

/// Finds the source. If a receipt says that it was built before and every output still holds that image, that is the
/// answer; else every output is checked for write access before any work.
pub async fn fetch(request: &BuildRequest, tools: &Tools<'_>) -> Result<Fetched, SourceError> {
    let described = tokio::task::block_in_place(|| describe::describe(request, tools))?;
    if !request.force
        && let Some(receipt) = unchanged(request, tools, &described).await?
    {
        return Ok(Fetched::Unchanged(receipt));
    }
    tools.cancel.check()?;
    outputs::check(&request.outputs, tools).await?;
    let previous = match request.outputs.first() {
        Some(output) => outputs::previous_image(output, tools).await?,
        None => None,
    };
    Ok(Fetched::Changed(Box::new(Source {
        previous,
        ..described
    })))
}

/// The receipt of this very build, if all outputs hold its image.
async fn unchanged(
    request: &BuildRequest,
    tools: &Tools<'_>,
    described: &Source,
) -> Result<Option<Receipt>, SourceError> {
    let Some(lock) = current_lock_digest(tools.store.root(), ARCHITECTURE)? else {
        return Ok(None);
    };
    let kept = tools.store.receipts(SCOPE)?.get(&described.key.key(lock).0)?;
    let Some(receipt) = kept.and_then(|bytes| serde_json::from_slice::<Receipt>(&bytes).ok()) else {
        return Ok(None);
    };
    for output in &request.outputs {
        if !outputs::holds(output, &receipt, tools).await? {
            return Ok(None);
        }
    }
    let outputs = request.outputs.iter().map(ToString::to_string).collect();
    Ok(Some(Receipt {
        outputs,
        unchanged: true,
        ..receipt
    }))
}
