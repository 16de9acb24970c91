//! What the layers of an image hold for a start: their folders, in order, and the files in them.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use packhorse_spec::group_toml::GroupMember;
use thiserror::Error;

use crate::environment;
use crate::environment::Environment;
use crate::failure::io_text;

/// The largest environment file that is read, in bytes: more than the system takes as one variable.
const ENVIRONMENT_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What could not be read.
#[derive(Debug, Error)]
pub(crate) enum LayersError {
    #[error("find buildpack directory: stat {}: {why}", path.display())]
    Buildpack { path: PathBuf, why: String },
    #[error("failed to list files in dir '{}': {why}", path.display())]
    List { path: PathBuf, why: String },
    #[error("failed to read file '{}': {why}", path.display())]
    Read { path: PathBuf, why: String },
    #[error("the file '{}' is larger than {ENVIRONMENT_FILE_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
}

/// The layers of each buildpack of the group that has any, both in order.
///
/// A layer is any folder; whether it was one for launch was decided when the image was made. A link is none.
pub(crate) fn find_layers(
    layers_dir: &Path,
    buildpacks: &[GroupMember],
) -> Result<Vec<Vec<PathBuf>>, LayersError> {
    let mut found = Vec::new();
    for buildpack in buildpacks {
        let path = layers_dir.join(buildpack.id.escaped());
        match fs::metadata(&path) {
            Ok(_) => {}
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(LayersError::Buildpack {
                    path,
                    why: io_text(&source),
                });
            }
        }
        found.push(
            list(&path)?
                .into_iter()
                .filter(|entry| entry.is_folder)
                .map(|entry| entry.path)
                .collect(),
        );
    }
    Ok(found)
}

/// The files of a subfolder of a layer, and then those of its own subfolder for the process type, sorted by name.
pub(crate) fn find_files(
    layer: &Path,
    folder: &str,
    process_type: Option<&str>,
) -> Result<Vec<PathBuf>, LayersError> {
    let folder = layer.join(folder);
    let mut files = Vec::new();
    for folder in std::iter::once(folder.clone()).chain(process_type.map(|name| folder.join(name))) {
        files.extend(
            list(&folder)?
                .into_iter()
                .filter(|entry| !entry.is_folder)
                .map(|entry| entry.path),
        );
    }
    Ok(files)
}

/// Applies all layers of one buildpack: first the folders of each, then the files of each.
pub(crate) fn apply_layers(
    layers: &[PathBuf],
    process_type: Option<&str>,
    environment: &mut Environment,
) -> Result<(), LayersError> {
    for layer in layers {
        environment.add_layer_folders(layer, |folder| fs::metadata(folder).is_ok());
    }
    for layer in layers {
        apply_environment_folder(&layer.join("env"), environment)?;
        apply_environment_folder(&layer.join("env.launch"), environment)?;
        if let Some(process_type) = process_type {
            apply_environment_folder(&layer.join("env.launch").join(process_type), environment)?;
        }
    }
    Ok(())
}

fn apply_environment_folder(folder: &Path, environment: &mut Environment) -> Result<(), LayersError> {
    for entry in list(folder)? {
        if entry.is_folder || (entry.is_link && metadata(&entry.path)?.is_dir()) {
            continue;
        }
        let Some(file) = environment::read_file_name(&entry.name) else {
            continue;
        };
        let content = read(&entry.path)?;
        let mut delimiter_file = file.variable.clone();
        delimiter_file.push(".delim");
        let delimiter = read(&folder.join(delimiter_file)).map(OsString::into_vec);
        let delimiter = delimiter.unwrap_or_else(|_| file.default_delimiter.to_vec());
        environment.apply(file, content, &delimiter);
    }
    Ok(())
}

struct Entry {
    name: OsString,
    path: PathBuf,
    is_folder: bool,
    is_link: bool,
}

/// The entries of a folder, sorted by the bytes of their names; none if there is no such folder.
fn list(folder: &Path) -> Result<Vec<Entry>, LayersError> {
    let refused = |source: io::Error| LayersError::List {
        path: folder.to_owned(),
        why: io_text(&source),
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(refused(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(refused)?;
        let kind = entry.file_type().map_err(refused)?;
        found.push(Entry {
            name: entry.file_name(),
            path: entry.path(),
            is_folder: kind.is_dir(),
            is_link: kind.is_symlink(),
        });
    }
    found.sort_by(|one, other| OsStr::cmp(&one.name, &other.name));
    Ok(found)
}

fn metadata(path: &Path) -> Result<fs::Metadata, LayersError> {
    fs::metadata(path).map_err(|source| LayersError::Read {
        path: path.to_owned(),
        why: io_text(&source),
    })
}

fn read(path: &Path) -> Result<OsString, LayersError> {
    let refused = |source: io::Error| LayersError::Read {
        path: path.to_owned(),
        why: io_text(&source),
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(refused)?;
    file.take(ENVIRONMENT_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(refused)?;
    if bytes.len() as u64 > ENVIRONMENT_FILE_BYTES_MAX {
        return Err(LayersError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(OsString::from_vec(bytes))
}
