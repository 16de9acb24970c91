//! Finds an image by what a person types: a name in the local store, `oci:DIRECTORY[:NAME]`, or a registry's reference.

use std::path::Path;
use std::path::PathBuf;

use crate::model::descriptor::Descriptor;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::reference::ImageReference;
use crate::model::reference::ReferenceError;
use crate::oci::config::ConfigError;
use crate::oci::config::ImageConfig;
use crate::oci::layout::Layout;
use crate::oci::layout::LayoutError;
use crate::oci::manifest::Document;
use crate::oci::manifest::IndexEntry;
use crate::oci::manifest::Manifest;
use crate::oci::manifest::ManifestError;
use crate::oci::manifest::Platform;
use crate::registry::client::Registry;
use crate::registry::error::RegistryError;
use crate::registry::pull;
use crate::store::Store;
use crate::store::error::StoreError;

/// The most bytes of an image's configuration.
const CONFIG_BYTES_MAX: usize = 4 << 20;
/// How many names a message lists.
const NAMES_TOLD_MAX: usize = 10;
/// An index of indexes is read this deep.
const INDEX_DEPTH_MAX: usize = 4;

/// An image: what its manifest and its configuration say.
#[derive(Debug, Clone)]
pub struct FoundImage {
    /// As it was typed.
    pub name: String,
    /// Its manifest's descriptor.
    pub descriptor: Descriptor,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: ImageConfig,
}

/// Why there is no image to look at.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image of that name on this machine.
    #[error("there is no image `{name}` in {place}{}", known(.names))]
    NotFound {
        /// As it was typed.
        name: String,
        /// Where it was looked for.
        place: String,
        /// What is there.
        names: Vec<String>,
    },
    /// The image is for other machines.
    #[error("the image `{name}` has no variant for {platform}")]
    Platform {
        /// As it was typed.
        name: String,
        /// `linux/amd64`.
        platform: String,
    },
    /// The layout cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry refuses, or does not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It is no name of an image either.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The manifest is malformed.
    #[error("cannot read the image `{name}`: {source}")]
    Manifest {
        /// As it was typed.
        name: String,
        /// What is wrong.
        source: ManifestError,
    },
    /// The configuration is malformed.
    #[error("cannot read the image `{name}`: {source}")]
    Config {
        /// As it was typed.
        name: String,
        /// What is wrong.
        source: ConfigError,
    },
}

impl Failure for ImageError {
    fn facts(&self) -> Facts {
        match self {
            Self::NotFound { .. } => Facts::user("image_not_found"),
            Self::Platform { .. } => Facts::user("image_platform_missing"),
            Self::Layout(error) => error.facts(),
            Self::Store(error) => error.facts(),
            Self::Registry(error) => error.facts(),
            Self::Reference(error) => error.facts(),
            Self::Manifest { source, .. } => source.facts(),
            Self::Config { source, .. } => source.facts(),
        }
    }
}

/// `; there are a, b` for a message.
fn known(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [name] => format!("; there is `{name}`"),
        names => {
            let told: Vec<&str> = names.iter().take(NAMES_TOLD_MAX).map(String::as_str).collect();
            let more = names.len() - told.len();
            let more = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            format!("; there are `{}`{more}", told.join("`, `"))
        }
    }
}

/// An image on this machine, and the layout that has its blobs.
pub fn local(name: &str, store: &Store) -> Result<(FoundImage, Layout), ImageError> {
    let (layout, entry) = match name.strip_prefix("oci:") {
        Some(place) => in_layout(name, place)?,
        None => in_store(name, store)?,
    };
    let (descriptor, manifest) = manifest_of(name, &layout, entry.descriptor, INDEX_DEPTH_MAX)?;
    let bytes = layout.read_blob(&manifest.config.digest)?;
    Ok((found(name, descriptor, manifest, &bytes)?, layout))
}

/// An image on this machine, else in a registry: of that only manifest and configuration are fetched.
pub async fn anywhere(name: &str, store: &Store, registry: &Registry) -> Result<FoundImage, ImageError> {
    match local(name, store) {
        // A name without a slash is one of the local store: nobody means Docker Hub by a slip of the pen.
        Err(ImageError::NotFound { .. }) if name.contains('/') && !name.starts_with("oci:") => {}
        other => return other.map(|(image, _)| image),
    }
    let reference: ImageReference = name.parse()?;
    let platform = pull::Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        variant: None,
    };
    let pulled = registry.image(&reference, &platform).await?;
    let document = Document::parse(&pulled.bytes, Some(&pulled.descriptor.media_type));
    let Document::Manifest(manifest) = document.map_err(|source| malformed(name, source))? else {
        return Err(ImageError::Platform {
            name: name.to_owned(),
            platform: "linux/amd64".to_owned(),
        });
    };
    let bytes = registry
        .blob_bytes(&reference, &manifest.config, CONFIG_BYTES_MAX)
        .await?;
    found(name, pulled.descriptor, manifest, &bytes)
}

fn in_store(name: &str, store: &Store) -> Result<(Layout, IndexEntry), ImageError> {
    let images = store.images()?;
    match images.get(name)? {
        Some(entry) => Ok((images.layout().clone(), entry)),
        None => Err(ImageError::NotFound {
            name: name.to_owned(),
            place: "the local store".to_owned(),
            names: names_of(&images.list()?),
        }),
    }
}

/// `oci:DIRECTORY` or `oci:DIRECTORY:NAME`; without a name the layout must have one image.
fn in_layout(name: &str, place: &str) -> Result<(Layout, IndexEntry), ImageError> {
    let (directory, wanted) = match place.rsplit_once(':') {
        Some((directory, wanted)) if !Path::new(place).is_dir() => (PathBuf::from(directory), Some(wanted)),
        _ => (PathBuf::from(place), None),
    };
    let layout = Layout::open(&directory)?;
    match layout.find(wanted)? {
        Some(entry) => Ok((layout, entry)),
        None => Err(ImageError::NotFound {
            name: name.to_owned(),
            place: format!("`{}`", directory.display()),
            names: names_of(&layout.index()?.manifests),
        }),
    }
}

fn names_of(entries: &[IndexEntry]) -> Vec<String> {
    entries
        .iter()
        .filter_map(|entry| entry.name().map(str::to_owned))
        .collect()
}

/// The manifest itself, or the one for this machine in an index.
fn manifest_of(
    name: &str,
    layout: &Layout,
    descriptor: Descriptor,
    depth_max: usize,
) -> Result<(Descriptor, Manifest), ImageError> {
    match layout.read_document(&descriptor)? {
        Document::Manifest(manifest) => Ok((descriptor, manifest)),
        Document::Index(index) => {
            let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == "amd64";
            let entry = index
                .manifests
                .into_iter()
                .find(|entry| entry.platform.as_ref().is_none_or(fits));
            match entry {
                Some(entry) if depth_max > 0 => manifest_of(name, layout, entry.descriptor, depth_max - 1),
                _ => Err(ImageError::Platform {
                    name: name.to_owned(),
                    platform: "linux/amd64".to_owned(),
                }),
            }
        }
    }
}

fn found(
    name: &str,
    descriptor: Descriptor,
    manifest: Manifest,
    config: &[u8],
) -> Result<FoundImage, ImageError> {
    let config = ImageConfig::parse(config).map_err(|source| ImageError::Config {
        name: name.to_owned(),
        source,
    })?;
    Ok(FoundImage {
        name: name.to_owned(),
        descriptor,
        manifest,
        config,
    })
}

fn malformed(name: &str, source: ManifestError) -> ImageError {
    ImageError::Manifest {
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::descriptor::MANIFEST;
    use crate::oci::manifest::describe;

    fn put(layout: &Layout, name: &str) {
        let config = ImageConfig::empty("linux", "amd64").to_bytes();
        let manifest = Manifest::new(&config, []);
        layout.add_bytes(&manifest.config, &config).unwrap();
        let bytes = manifest.to_bytes();
        let descriptor = describe(MANIFEST, &bytes);
        layout.add_bytes(&descriptor, &bytes).unwrap();
        layout.set(Some(name), &descriptor, None).unwrap();
    }

    #[test]
    fn images_are_found_by_name_in_the_store_and_in_layouts() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("home")).unwrap();
        put(store.images().unwrap().layout(), "app");
        assert_eq!(local("app", &store).unwrap().0.manifest.layers, []);

        let directory = folder.path().join("out");
        let layout = Layout::open_or_create(&directory).unwrap();
        put(&layout, "1");
        assert!(local(&format!("oci:{}", directory.display()), &store).is_ok());
        put(&layout, "2");
        assert!(local(&format!("oci:{}:2", directory.display()), &store).is_ok());
        let error = local(&format!("oci:{}:3", directory.display()), &store)
            .unwrap_err()
            .to_string();
        assert!(error.contains("there are `1`, `2`"), "{error}");
        assert!(
            local(&format!("oci:{}", directory.display()), &store).is_err(),
            "two images, and none is named"
        );
    }

    #[test]
    fn a_missing_image_is_told_with_those_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("home")).unwrap();
        put(store.images().unwrap().layout(), "shop");
        let error = local("shpo", &store).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no image `shpo` in the local store; there is `shop`"
        );
        assert_eq!(error.facts().code, "image_not_found");
    }
}
