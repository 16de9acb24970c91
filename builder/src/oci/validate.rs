//! Re-derives every digest, size and diffID of an image, and says the first that is wrong.

use std::io::Read;

use crate::model::descriptor::Descriptor;
use crate::model::digest::DiffId;
use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::config::ConfigError;
use crate::oci::config::ImageConfig;
use crate::oci::decode::DecodeError;
use crate::oci::decode::DecodeLimits;
use crate::oci::decode::LayerReader;
use crate::oci::layout::Layout;
use crate::oci::layout::LayoutError;
use crate::oci::manifest::Document;
use crate::oci::manifest::Manifest;
use crate::oci::tar::reader::TarReadError;
use crate::oci::tar::reader::TarReader;

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// Something of it cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Its configuration is malformed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A layer's blob is broken.
    #[error("layer {position}: {source}")]
    Blob {
        /// The layer, counted from the lowest as 0.
        position: usize,
        /// What is wrong.
        source: DecodeError,
    },
    /// A layer is no tar.
    #[error("layer {position}: {source}")]
    Tar {
        /// The layer, counted from the lowest as 0.
        position: usize,
        /// What is wrong.
        source: TarReadError,
    },
    /// A layer is another than the configuration says.
    #[error("layer {position}: its diffID is {found}, but the configuration says {expected}")]
    DiffId {
        /// The layer, counted from the lowest as 0.
        position: usize,
        /// What the configuration says.
        expected: DiffId,
        /// What the layer is.
        found: DiffId,
    },
    /// Two of its parts do not fit.
    #[error("the image is inconsistent: {0}")]
    Inconsistent(String),
}

impl Failure for ValidateError {
    fn facts(&self) -> Facts {
        match self {
            Self::Layout(error) => error.facts(),
            Self::Config(error) => error.facts(),
            Self::Blob { source, .. } => source.facts(),
            Self::Tar { source, .. } => source.facts(),
            Self::DiffId { .. } | Self::Inconsistent(_) => Facts::platform("image_inconsistent"),
        }
    }
}

/// Validates an image of a layout, or each of an index, and gives the manifests that were read.
pub fn validate(layout: &Layout, image: &Descriptor) -> Result<Vec<Manifest>, ValidateError> {
    let size = layout.read_blob(&image.digest)?.len() as u64;
    if size != image.size {
        return Err(inconsistent(format!(
            "{} has {size} bytes, its descriptor says {}",
            image.digest, image.size
        )));
    }
    match layout.read_document(image)? {
        Document::Manifest(manifest) => {
            validate_manifest(layout, &manifest)?;
            Ok(vec![manifest])
        }
        Document::Index(index) => {
            let mut manifests = Vec::new();
            for entry in &index.manifests {
                // An index in an index would let a layout hold an endless image.
                if matches!(layout.read_document(&entry.descriptor)?, Document::Index(_)) {
                    return Err(inconsistent("an index names an index".to_owned()));
                }
                manifests.extend(validate(layout, &entry.descriptor)?);
            }
            Ok(manifests)
        }
    }
}

fn validate_manifest(layout: &Layout, manifest: &Manifest) -> Result<(), ValidateError> {
    let config = layout.read_blob(&manifest.config.digest)?;
    if config.len() as u64 != manifest.config.size {
        return Err(inconsistent(
            "the configuration has another size than its descriptor says".to_owned(),
        ));
    }
    let config = ImageConfig::parse(&config)?;
    let diff_ids = config.diff_ids()?;
    if diff_ids.len() != manifest.layers.len() {
        let (layers, ids) = (manifest.layers.len(), diff_ids.len());
        return Err(inconsistent(format!(
            "there are {layers} layers and {ids} diffIDs"
        )));
    }
    let history = config
        .as_json()
        .get("history")
        .and_then(|history| history.as_array());
    let of_layers = history.map(|history| {
        history
            .iter()
            .filter(|entry| entry.get("empty_layer") != Some(&true.into()))
            .count()
    });
    if of_layers.is_some_and(|entries| entries != 0 && entries != diff_ids.len()) {
        return Err(inconsistent(
            "the history does not have one entry a layer".to_owned(),
        ));
    }
    for (position, (layer, expected)) in manifest.layers.iter().zip(diff_ids).enumerate() {
        validate_layer(layout, position, layer, expected)?;
    }
    Ok(())
}

fn validate_layer(
    layout: &Layout,
    position: usize,
    layer: &Descriptor,
    expected: DiffId,
) -> Result<(), ValidateError> {
    let broken = |source| ValidateError::Blob { position, source };
    let blob = layout.open_blob(&layer.digest)?;
    let mut reader = LayerReader::new(blob, layer, DecodeLimits::default()).map_err(broken)?;
    let entries = read_entries(&mut reader);
    // A broken blob is told before the broken tar that it makes.
    let (found, _) = reader.finish().map_err(broken)?;
    entries.map_err(|source| ValidateError::Tar { position, source })?;
    if found == expected {
        Ok(())
    } else {
        Err(ValidateError::DiffId {
            position,
            expected,
            found,
        })
    }
}

fn read_entries(tar: &mut dyn Read) -> Result<(), TarReadError> {
    let mut tar = TarReader::new(tar);
    while tar.next_entry()?.is_some() {}
    Ok(())
}

fn inconsistent(text: String) -> ValidateError {
    ValidateError::Inconsistent(text)
}

/// The digest of a manifest, as references name it.
pub fn digest_of(manifest: &Manifest) -> Digest {
    Digest::of(&manifest.to_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::descriptor::MANIFEST;
    use crate::model::timestamp::Timestamp;
    use crate::oci::layer::compression::Compression;
    use crate::oci::layer::write_layer;
    use crate::oci::manifest::describe;
    use crate::oci::tar::header::Header;
    use crate::oci::tar::header::Kind;

    /// A layout with an image of one layer for each compression; the image and its lowest layer.
    fn image(root: &std::path::Path) -> (Layout, Descriptor, Descriptor) {
        let layout = Layout::open_or_create(root).unwrap();
        let mut config = ImageConfig::empty("linux", "amd64");
        let mut layers = Vec::new();
        for compression in ["gzip", "gzip-single", "zstd", "none"] {
            let compression: Compression = compression.parse().unwrap();
            let layer = write_layer(root, compression, 2, &mut |_| {}, |tar| {
                let (path, kind) = (compression.to_string().into_bytes(), Kind::Directory);
                let mtime = Timestamp::BUILDPACKS;
                Ok(tar.append_empty(&Header {
                    path,
                    kind,
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    mtime,
                })?)
            });
            let layer = layer.unwrap();
            layout
                .add_blob(&layer.descriptor.blob, layer.blob.path())
                .unwrap();
            config.push_layer(layer.descriptor.diff_id, "test");
            layers.push(layer.descriptor.blob);
        }
        let config = config.to_bytes();
        let manifest = Manifest::new(&config, layers.clone());
        layout.add_bytes(&manifest.config, &config).unwrap();
        let bytes = manifest.to_bytes();
        let described = describe(MANIFEST, &bytes);
        layout.add_bytes(&described, &bytes).unwrap();
        layout.set(Some("app"), &described, None).unwrap();
        (layout, described, layers.swap_remove(0))
    }

    #[test]
    fn a_whole_image_is_valid_and_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, described, _) = image(folder.path());
        assert_eq!(validate(&layout, &described).unwrap().len(), 1);
        let layout = Layout::open(folder.path()).unwrap();
        assert_eq!(layout.find(Some("app")).unwrap().unwrap().descriptor, described);
        assert_eq!(layout.find(None).unwrap().unwrap().descriptor, described);
        assert_eq!(layout.find(Some("other")).unwrap(), None);
        layout.set(Some("app"), &described, None).unwrap();
        assert_eq!(layout.index().unwrap().manifests.len(), 1);
        assert!(layout.remove("app").unwrap() && !layout.remove("app").unwrap());
    }

    #[test]
    fn every_broken_part_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, described, layer) = image(folder.path());
        for digest in [layer.digest, described.digest] {
            let path = layout.blob_path(&digest);
            let whole = fs::read(&path).unwrap();
            let mut broken = whole.clone();
            let last = broken.len() - 1;
            broken[last] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, broken).unwrap();
            assert_eq!(
                validate(&layout, &described).unwrap_err().facts().code,
                "blob_broken"
            );
            fs::write(&path, whole).unwrap();
        }
        validate(&layout, &described).unwrap();
        let Document::Manifest(mut manifest) = layout.read_document(&described).unwrap() else {
            panic!()
        };
        manifest.layers.swap(0, 1);
        let bytes = manifest.to_bytes();
        let swapped = describe(MANIFEST, &bytes);
        layout.add_bytes(&swapped, &bytes).unwrap();
        assert!(matches!(
            validate(&layout, &swapped),
            Err(ValidateError::DiffId { position: 0, .. })
        ));
        manifest.layers.pop();
        let bytes = manifest.to_bytes();
        let short = describe(MANIFEST, &bytes);
        layout.add_bytes(&short, &bytes).unwrap();
        assert!(matches!(
            validate(&layout, &short),
            Err(ValidateError::Inconsistent(_))
        ));
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            Layout::open(folder.path()).unwrap_err().facts().code,
            "layout_invalid"
        );
        fs::write(
            folder.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"2.0.0"}"#,
        )
        .unwrap();
        assert_eq!(
            Layout::open(folder.path()).unwrap_err().facts().code,
            "layout_invalid"
        );
    }
}
