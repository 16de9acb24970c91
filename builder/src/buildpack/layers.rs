//! The layers that a buildpack left in its folder, by their `<layer>.toml` (Buildpack spec, "Layer Types").

use std::path::Path;
use std::path::PathBuf;

use packhorse_spec::layer_toml::LayerDescriptor;
use packhorse_spec::layer_toml::LayerTypes;

use crate::buildpack::allowance::Allowance;
use crate::sandbox::job::EntryKind;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// The largest TOML file of a buildpack's layers folder that is read.
const TOML_BYTES_MAX: u64 = 4 << 20;
/// The most bytes of all of them that are read.
const TOML_BYTES_MAX_IN_ALL: u64 = 64 << 20;
/// The most names in a buildpack's layers folder.
pub const NAMES_MAX: usize = 100_000;
/// Files of the layers folder that are TOML but describe no layer.
const NO_LAYERS: [&str; 3] = ["launch", "build", "store"];

/// One layer after its buildpack built.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerOnDisk {
    /// The buildpack's id, not escaped.
    pub buildpack: String,
    /// The layer's name.
    pub name: String,
    /// What it is for.
    pub types: LayerTypes,
    /// What the buildpack wrote about it.
    pub metadata: Option<toml::Table>,
    /// Its folder inside the job, whether or not it is there.
    pub directory: PathBuf,
    /// Whether its folder is there.
    pub has_directory: bool,
}

/// What a buildpack left that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// A file that should be TOML.
    #[error("cannot understand `{path}`: {why}")]
    Toml {
        /// Which.
        path: String,
        /// Where and why.
        why: String,
    },
    /// The folder of a layer that is for nothing cannot be put aside.
    #[error("cannot put `{path}` aside, which is a layer for neither launch, build nor cache: {source}")]
    Ignore {
        /// Which.
        path: String,
        /// Why.
        source: JobError,
    },
    /// The sandbox failed.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// What the TOML files of one buildpack's layers folder may come to.
pub fn toml_allowance() -> Allowance {
    Allowance::new(TOML_BYTES_MAX_IN_ALL)
}

/// A TOML file of the layers folder as text; none if it is not there.
pub fn read_text(
    job: &dyn Job,
    path: &Path,
    allowance: &mut Allowance,
) -> Result<Option<String>, LayersError> {
    let refused = |why: String| LayersError::Toml {
        path: path.display().to_string(),
        why,
    };
    let read = allowance.take(TOML_BYTES_MAX, |limit| job.read_file(path, limit));
    let read = read.map_err(|error| match error {
        // Not regular, not readable or too large: what the buildpack left is at fault.
        JobError::File { why, .. } => refused(why),
        other => LayersError::Job(other),
    })?;
    read.map(|bytes| String::from_utf8(bytes).map_err(|why| refused(why.to_string())))
        .transpose()
}

/// Reads every TOML file of a buildpack's layers folder as one of a layer, as the reference does with `launch.toml`,
/// `build.toml` and `store.toml` too; puts the folders of layers that are for nothing aside, under `<layer>.ignore`;
/// gives the others, sorted by name.
pub fn read_layers(
    job: &dyn Job,
    buildpack: &str,
    folder: &Path,
    allowance: &mut Allowance,
) -> Result<Vec<LayerOnDisk>, LayersError> {
    let entries = job.list(folder, NAMES_MAX)?;
    let is_there = |name: &str| {
        let found = entries.iter().find(|entry| entry.name == *name);
        found.is_some_and(|entry| entry.kind == EntryKind::Directory)
    };
    let mut layers = Vec::new();
    for entry in &entries {
        let refused = |why: &str| LayersError::Toml {
            path: folder.join(&entry.name).display().to_string(),
            why: why.to_owned(),
        };
        let Some(name) = entry.name.as_encoded_bytes().strip_suffix(b".toml") else {
            continue;
        };
        let name = std::str::from_utf8(name).map_err(|_| refused("its name is not UTF-8"))?;
        let path = folder.join(&entry.name);
        let text = read_text(job, &path, allowance)?.ok_or_else(|| refused("it leads nowhere"))?;
        let descriptor = LayerDescriptor::parse(&text).map_err(|why| refused(why.to_string().trim_end()))?;
        let directory = folder.join(name);
        let types = descriptor.layer_types();
        if types.is_none() {
            if entries.iter().any(|entry| entry.name == *name) {
                put_aside(job, &directory)?;
            }
        } else if !NO_LAYERS.contains(&name) {
            let has_directory = is_there(name);
            let buildpack = buildpack.to_owned();
            let (name, metadata) = (name.to_owned(), descriptor.metadata);
            layers.push(LayerOnDisk {
                buildpack,
                name,
                types,
                metadata,
                directory,
                has_directory,
            });
        }
    }
    // The names of the files sort otherwise where one name begins with the other.
    layers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(layers)
}

fn put_aside(job: &dyn Job, directory: &Path) -> Result<(), LayersError> {
    let mut aside = directory.as_os_str().to_owned();
    aside.push(".ignore");
    job.rename(directory, Path::new(&aside))
        .map_err(|source| match source {
            source @ JobError::File { .. } => LayersError::Ignore {
                path: directory.display().to_string(),
                source,
            },
            other => LayersError::Job(other),
        })
}
