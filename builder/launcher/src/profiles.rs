//! Finds the scripts that a shell reads before it starts a process (Buildpack spec, "profile.d").

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::failure::io_text;
use crate::layers;
use crate::layers::LayersError;

/// The application's own script, by the name that bash is given: relative, and read in the application's folder.
const APP_PROFILE: &str = ".profile";

/// The scripts of all layers in order, then the application's.
pub(crate) fn find_profiles(
    layers: &[Vec<PathBuf>],
    process_type: Option<&str>,
    app_dir: &Path,
) -> Result<Vec<PathBuf>, LayersError> {
    let mut profiles = Vec::new();
    for layer in layers.iter().flatten() {
        profiles.extend(layers::find_files(layer, "profile.d", process_type)?);
    }
    let path = app_dir.join(APP_PROFILE);
    match fs::metadata(&path) {
        Ok(metadata) if !metadata.is_dir() => profiles.push(PathBuf::from(APP_PROFILE)),
        Ok(_) => {}
        Err(source) if source.kind() == io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(LayersError::Read {
                path,
                why: io_text(&source),
            });
        }
    }
    Ok(profiles)
}
