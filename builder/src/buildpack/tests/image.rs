//! As much of an exporter as the rules of restoring need: digests of layers, the image's label, a cache in a folder.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use packhorse_spec::identifier::escape_id;
use packhorse_spec::labels::lifecycle::LifecycleLabel;

use crate::buildpack::build::Built;
use crate::buildpack::detect::Detected;
use crate::buildpack::metadata::CacheMetadata;
use crate::buildpack::metadata::LayerDigests;
use crate::buildpack::metadata::cached_layers;
use crate::buildpack::metadata::launch_layers;
use crate::buildpack::metadata::process_types;
use crate::buildpack::restore::LastBuild;
use crate::buildpack::restore::decide;
use crate::buildpack::restored_files;
use crate::buildpack::tests::fixture::Failed;
use crate::buildpack::tests::fixture::Fixture;
use crate::buildpack::tests::fixture::copy_tree;
use crate::model::digest::DiffId;
use crate::model::digest::Digest;

/// What stays between the builds of one app.
pub(super) struct Between {
    pub(super) image: Option<LifecycleLabel>,
    pub(super) cache: Option<CacheMetadata>,
    folder: tempfile::TempDir,
}

impl Between {
    pub(super) fn new() -> Self {
        Self {
            image: None,
            cache: None,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Loses a cached layer's folder, behind the back of what is recorded.
    pub(super) fn lose_layer(&self, place: &str) {
        fs::remove_dir_all(self.folder.path().join("layers").join(place)).unwrap();
    }

    /// Loses the whole cache.
    pub(super) fn forget_cache(&mut self) {
        self.cache = None;
        fs::remove_dir_all(self.folder.path().join("layers")).unwrap();
    }

    /// Lays all cached layers into the job, then brings them to what is to be restored.
    pub(super) fn restore(
        &self,
        fixture: &Fixture,
        detected: &Detected,
        image: Option<&LifecycleLabel>,
        skip_layers: bool,
    ) {
        let cached = self.folder.path().join("layers");
        if cached.exists() {
            copy_tree(&cached, &fixture.job.host("layers"));
        }
        let sboms = self.folder.path().join("sbom");
        if sboms.exists() && !skip_layers {
            copy_tree(&sboms, &fixture.job.host("layers/sbom"));
        }
        let group: Vec<_> = detected
            .group
            .iter()
            .map(|participant| participant.member.id.clone())
            .collect();
        let last = LastBuild {
            image,
            cache: self.cache.as_ref(),
            skip_layers,
        };
        restored_files::apply(
            &fixture.job,
            &fixture.paths,
            &decide(&group, last),
            &fixture.heard,
        )
        .unwrap();
    }

    /// Makes the label of the new image, then the new cache; nothing changes if the former fails.
    pub(super) fn export(
        &mut self,
        fixture: &Fixture,
        built: &Built,
        previous: Option<&LifecycleLabel>,
    ) -> Result<(), Failed> {
        let mut digests = LayerDigests::new();
        for layer in built.layers.iter().filter(|layer| layer.has_directory) {
            let mut bytes = Vec::new();
            describe(&fixture.job.host(&layer.directory), &mut bytes);
            digests.insert(
                (layer.buildpack.clone(), layer.name.clone()),
                DiffId(Digest::of(&bytes)),
            );
        }
        let buildpacks = launch_layers(built, &digests, previous)?;
        process_types(built)?;
        self.image = Some(LifecycleLabel {
            buildpacks,
            ..LifecycleLabel::default()
        });
        let cache = CacheMetadata {
            buildpacks: cached_layers(built, &digests)?,
            ..CacheMetadata::default()
        };
        let folder = self.folder.path().join("layers");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        for buildpack in &cache.buildpacks {
            for name in buildpack.layers.keys() {
                let place = Path::new(&escape_id(&buildpack.id)).join(name);
                copy_tree(&fixture.job.host("layers").join(&place), &folder.join(&place));
            }
        }
        self.cache = Some(cache);
        // The SBOM layers of the image and of the cache.
        for kind in ["launch", "cache"] {
            let kept = self.folder.path().join("sbom").join(kind);
            let made = fixture.job.host("layers/sbom").join(kind);
            if kept.exists() {
                fs::remove_dir_all(&kept).unwrap();
            }
            if made.exists() {
                copy_tree(&made, &kept);
            }
        }
        Ok(())
    }
}

/// All that a layer's digest depends on: names, kinds, modes, contents; not times, not hard links.
fn describe(path: &Path, bytes: &mut Vec<u8>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    bytes.extend_from_slice(path.file_name().unwrap().as_bytes());
    bytes.extend_from_slice(format!("\0{:o}\0", metadata.mode()).as_bytes());
    if metadata.is_symlink() {
        bytes.extend_from_slice(fs::read_link(path).unwrap().as_os_str().as_bytes());
    } else if metadata.is_dir() {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        for name in &names {
            describe(name, bytes);
        }
    } else {
        bytes.extend_from_slice(&fs::read(path).unwrap());
    }
    bytes.push(0);
}
