//! Where an image goes.

use std::fmt;
use std::path::PathBuf;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::reference::ImageReference;

/// One place that an image goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A repository and tag of a registry.
    Registry(ImageReference),
    /// A folder in the OCI image layout; the tag becomes the reference's name in its index.
    Layout {
        /// The folder.
        directory: PathBuf,
        /// `org.opencontainers.image.ref.name`.
        name: Option<String>,
    },
    /// The local store, under a name.
    Local(String),
}

/// An output that cannot be meant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OutputError {
    /// Not one of the known kinds.
    #[error("`{0}` is not an output: outputs are `registry` and `oci:DIRECTORY`")]
    Unknown(String),
    /// `registry` without a name to push to.
    #[error("the output `registry` needs a tag: add `--tag REGISTRY/APP:TAG`")]
    RegistryWithoutTag,
    /// A name that already says which image it is.
    #[error("`{0}` names an image by its digest, which a new image cannot have: give a tag")]
    Digest(ImageReference),
}

impl Failure for OutputError {
    fn facts(&self) -> Facts {
        Facts::user("output_invalid")
    }
}

/// Joins what `--output` and `--tag` say: the registry is the default with a tag, the local store without both.
///
/// `local_name` is the app's name, used when the image goes to the local store.
pub fn outputs_of(
    outputs: &[String],
    tags: &[ImageReference],
    local_name: &str,
) -> Result<Vec<Output>, OutputError> {
    if outputs.is_empty() && tags.is_empty() {
        return Ok(vec![Output::Local(local_name.to_owned())]);
    }
    if let Some(fixed) = tags.iter().find(|tag| tag.digest().is_some()) {
        return Err(OutputError::Digest(fixed.clone()));
    }
    let to_registry = || tags.iter().cloned().map(Output::Registry);
    if outputs.is_empty() {
        return Ok(to_registry().collect());
    }
    let mut all = Vec::new();
    for output in outputs {
        if output == "registry" {
            if tags.is_empty() {
                return Err(OutputError::RegistryWithoutTag);
            }
            all.extend(to_registry());
        } else if let Some(directory) = output
            .strip_prefix("oci:")
            .filter(|directory| !directory.is_empty())
        {
            let name = tags.first().and_then(|tag| tag.tag().map(str::to_owned));
            all.push(Output::Layout {
                directory: PathBuf::from(directory),
                name,
            });
        } else {
            return Err(OutputError::Unknown(output.clone()));
        }
    }
    Ok(all)
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => write!(formatter, "{reference}"),
            Self::Layout { directory, .. } => write!(formatter, "oci:{}", directory.display()),
            Self::Local(name) => write!(formatter, "the local store as {name}"),
        }
    }
}
