//! SBOM files: those that buildpacks left, where they go, and how they come back (Buildpack spec, "SBOM").

use std::path::Path;
use std::path::PathBuf;

use packhorse_spec::identifier::BuildpackId;
use packhorse_spec::sbom::LEGACY_SBOM_FILE;
use packhorse_spec::sbom::LegacyBomEntry;
use packhorse_spec::sbom::SbomFileName;
use packhorse_spec::sbom::SbomFormat;
use packhorse_spec::sbom::SbomSubject;
use packhorse_spec::sbom::legacy_sbom_text;
use packhorse_spec::sbom::read_file_name;

use crate::buildpack::allowance::Allowance;
use crate::buildpack::layers::LayerOnDisk;
use crate::buildpack::layers::NAMES_MAX;
use crate::sandbox::job::Entry;
use crate::sandbox::job::EntryKind;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// The largest SBOM file that is taken; one at a time is in memory.
const SBOM_BYTES_MAX: u64 = 64 << 20;
/// The most bytes of all SBOM files of a build.
const SBOM_BYTES_MAX_IN_ALL: u64 = 1 << 30;

/// Which of the collections an SBOM file belongs to: folders of `<layers>/sbom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SbomKind {
    /// Goes into the image.
    Launch,
    /// Is about the build alone.
    Build,
    /// Is kept with the cached layers.
    Cache,
}

impl SbomKind {
    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Build => "build",
            Self::Cache => "cache",
        }
    }
}

/// An SBOM file that a buildpack left, and one place where it goes; a cached layer's goes to two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SbomFile {
    /// The buildpack.
    pub buildpack: BuildpackId,
    /// The collection.
    pub kind: SbomKind,
    /// The layer that it is about; none: all of the buildpack.
    pub layer: Option<String>,
    /// Its format.
    pub format: SbomFormat,
    /// The file that the buildpack left.
    pub source: PathBuf,
}

impl SbomFile {
    /// Where it goes below `<layers>/sbom`: `launch/<id>/<layer>/sbom.cdx.json`.
    pub fn place(&self) -> PathBuf {
        let folder = Path::new(self.kind.folder()).join(self.buildpack.escaped());
        let folder = self
            .layer
            .as_ref()
            .map_or(folder.clone(), |layer| folder.join(layer));
        folder.join(self.format.file_name())
    }
}

/// An SBOM file that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SbomError {
    /// Its ending names no known format.
    #[error(
        "`{path}` is an SBOM of no known format: its name must end in `.sbom.cdx.json`, `.sbom.spdx.json` or `.sbom.syft.json`"
    )]
    UnknownFormat {
        /// Which.
        path: String,
    },
    /// `buildpack.toml` does not announce it.
    #[error(
        "`{path}` has the undeclared SBOM media type {media_type}: `sbom-formats` of the buildpack does not name it"
    )]
    Undeclared {
        /// Which.
        path: String,
        /// Its media type.
        media_type: &'static str,
    },
    /// It is about a layer that does not exist.
    #[error("`{path}` is about a layer without a `{layer}.toml`")]
    NoLayer {
        /// Which.
        path: String,
        /// The layer.
        layer: String,
    },
}

/// The SBOM files among the names of a buildpack's layers folder, and where they go.
pub fn sbom_files(
    buildpack: &BuildpackId,
    folder: &Path,
    names: &[Entry],
    layers: &[LayerOnDisk],
    sbom_formats: &[String],
) -> Result<Vec<SbomFile>, SbomError> {
    let mut files = Vec::new();
    for entry in names {
        let source = folder.join(&entry.name);
        let path = source.display().to_string();
        let (subject, format) = match read_file_name(&entry.name.to_string_lossy()) {
            SbomFileName::Other => continue,
            SbomFileName::UnknownFormat => return Err(SbomError::UnknownFormat { path }),
            SbomFileName::Sbom(subject, format) => (subject, format),
        };
        if !format.is_declared_in(sbom_formats) {
            return Err(SbomError::Undeclared {
                path,
                media_type: format.media_type(),
            });
        }
        let mut add = |kind: SbomKind, layer: Option<&String>| {
            let (buildpack, source) = (buildpack.clone(), source.clone());
            files.push(SbomFile {
                buildpack,
                kind,
                layer: layer.cloned(),
                format,
                source,
            });
        };
        match &subject {
            SbomSubject::Launch => add(SbomKind::Launch, None),
            SbomSubject::Build => add(SbomKind::Build, None),
            SbomSubject::Layer(name) => {
                let has_toml = names.iter().any(|entry| entry.name == *format!("{name}.toml"));
                if !has_toml {
                    return Err(SbomError::NoLayer {
                        path,
                        layer: name.clone(),
                    });
                }
                let types = layers
                    .iter()
                    .find(|layer| layer.name == *name)
                    .map(|layer| layer.types)
                    .unwrap_or_default();
                add(
                    if types.launch {
                        SbomKind::Launch
                    } else {
                        SbomKind::Build
                    },
                    Some(name),
                );
                if types.cache {
                    add(SbomKind::Cache, Some(name));
                }
            }
        }
    }
    Ok(files)
}

/// Copies the files of all buildpacks to their places in `<layers>/sbom`, with the two files of the old form.
pub fn collect(job: &dyn Job, layers: &Path, files: &[SbomFile], boms: &LegacyBoms) -> Result<(), JobError> {
    let root = layers.join("sbom");
    let mut allowance = Allowance::new(SBOM_BYTES_MAX_IN_ALL);
    for file in files {
        let bytes = allowance.take(SBOM_BYTES_MAX, |limit| job.read_file(&file.source, limit))?;
        let bytes = bytes.ok_or_else(|| unwritable(&file.source, "it is gone"))?;
        write(job, &root.join(file.place()), &bytes)?;
    }
    for (kind, entries) in [(SbomKind::Launch, &boms.launch), (SbomKind::Build, &boms.build)] {
        let path = root.join(kind.folder()).join(LEGACY_SBOM_FILE);
        let text = legacy_sbom_text(entries).map_err(|why| unwritable(&path, &why.to_string()))?;
        write(job, &path, text.as_bytes())?;
    }
    Ok(())
}

/// The bills of materials of the old form, of all buildpacks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LegacyBoms {
    /// Of `launch.toml`.
    pub launch: Vec<LegacyBomEntry>,
    /// Of `build.toml`.
    pub build: Vec<LegacyBomEntry>,
}

/// Puts the SBOM files of the last build, which were unpacked to `<layers>/sbom`, beside the layers that they are about,
/// as far as their buildpacks take part again and have a layers folder; then removes `<layers>/sbom`.
pub fn restore(job: &dyn Job, layers: &Path, group: &[BuildpackId]) -> Result<(), JobError> {
    let root = layers.join("sbom");
    let mut allowance = Allowance::new(SBOM_BYTES_MAX_IN_ALL);
    for kind in [SbomKind::Cache, SbomKind::Launch] {
        for id in group {
            let has_layers = job
                .list(layers, NAMES_MAX)?
                .iter()
                .any(|entry| entry.name == *id.escaped());
            let folder = root.join(kind.folder()).join(id.escaped());
            for layer in if has_layers {
                job.list(&folder, NAMES_MAX)?
            } else {
                Vec::new()
            } {
                if layer.kind == EntryKind::Directory {
                    restore_layer(
                        job,
                        &folder.join(&layer.name),
                        &layers.join(id.escaped()).join(&layer.name),
                        &mut allowance,
                    )?;
                }
            }
        }
    }
    job.remove(&root)
}

fn restore_layer(
    job: &dyn Job,
    folder: &Path,
    layer: &Path,
    allowance: &mut Allowance,
) -> Result<(), JobError> {
    for format in SbomFormat::ALL {
        let mut place = layer.as_os_str().to_owned();
        place.push(".");
        place.push(format.file_name());
        let file = folder.join(format.file_name());
        if let Some(bytes) = allowance.take(SBOM_BYTES_MAX, |limit| job.read_file(&file, limit))? {
            job.write_file(Path::new(&place), &bytes, 0o644)?;
        }
    }
    Ok(())
}

fn write(job: &dyn Job, path: &Path, bytes: &[u8]) -> Result<(), JobError> {
    if let Some(folder) = path.parent() {
        job.make_directory(folder)?;
    }
    job.write_file(path, bytes, 0o644)
}

fn unwritable(path: &Path, why: &str) -> JobError {
    JobError::File {
        action: "copy",
        path: path.display().to_string(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packhorse_spec::layer_toml::LayerTypes;

    fn files(names: &[&str], formats: &[&str]) -> Result<Vec<String>, SbomError> {
        let names: Vec<Entry> = names
            .iter()
            .map(|name| Entry {
                name: name.into(),
                kind: EntryKind::File,
            })
            .collect();
        let layer = |name: &str, launch: bool, cache: bool| LayerOnDisk {
            buildpack: "a/b".into(),
            name: name.into(),
            types: LayerTypes {
                launch,
                build: false,
                cache,
            },
            metadata: None,
            directory: "/layers/a_b/x".into(),
            has_directory: true,
        };
        let layers = [layer("run", true, true), layer("keep", false, true)];
        let formats: Vec<String> = formats.iter().map(ToString::to_string).collect();
        let files = sbom_files(
            &"a/b".parse().unwrap(),
            Path::new("/layers/a_b"),
            &names,
            &layers,
            &formats,
        )?;
        Ok(files
            .iter()
            .map(|file| file.place().display().to_string())
            .collect())
    }

    #[test]
    fn files_go_where_their_layers_go() {
        let cdx = ["application/vnd.cyclonedx+json"];
        assert_eq!(
            files(&["launch.sbom.cdx.json"], &cdx).unwrap(),
            ["launch/a_b/sbom.cdx.json"]
        );
        assert_eq!(
            files(&["build.sbom.cdx.json"], &cdx).unwrap(),
            ["build/a_b/sbom.cdx.json"]
        );
        assert_eq!(
            files(&["run.sbom.cdx.json", "run.toml"], &cdx).unwrap(),
            ["launch/a_b/run/sbom.cdx.json", "cache/a_b/run/sbom.cdx.json"]
        );
        assert_eq!(
            files(&["keep.sbom.cdx.json", "keep.toml"], &cdx).unwrap(),
            ["build/a_b/keep/sbom.cdx.json", "cache/a_b/keep/sbom.cdx.json"]
        );
        assert_eq!(
            files(&["off.sbom.cdx.json", "off.toml"], &cdx).unwrap(),
            ["build/a_b/off/sbom.cdx.json"]
        );
    }

    #[test]
    fn what_is_refused() {
        let cdx = ["application/vnd.cyclonedx+json"];
        assert!(matches!(
            files(&["launch.sbom.spdx.json"], &cdx),
            Err(SbomError::Undeclared { .. })
        ));
        assert!(matches!(
            files(&["launch.sbom.foo.json"], &cdx),
            Err(SbomError::UnknownFormat { .. })
        ));
        assert!(matches!(
            files(&["gone.sbom.cdx.json"], &cdx),
            Err(SbomError::NoLayer { .. })
        ));
    }
}
