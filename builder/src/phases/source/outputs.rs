//! Looks at the outputs before any work: do they hold the image already, may they be written, what did they hold?

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::model::output::Output;
use crate::model::previous_image::PreviousImage;
use crate::model::receipt::Receipt;
use crate::oci::layout::Layout;
use crate::phases::handover::Tools;
use crate::phases::source::SourceError;

/// Whether an output holds the receipt's image. A registry is asked once, by HEAD.
pub(super) async fn holds(output: &Output, receipt: &Receipt, tools: &Tools<'_>) -> Result<bool, SourceError> {
    match output {
        Output::Registry(reference) => {
            let held = tools.registry.head(reference).await?;
            Ok(held.is_some_and(|held| held.digest == receipt.digest))
        }
        Output::Layout { directory, name } => Ok(layout_holds(directory, name.as_deref(), receipt)),
        Output::Local(name) => Ok(layout_holds(&tools.store.images_directory(), Some(name), receipt)),
    }
}

fn layout_holds(directory: &Path, name: Option<&str>, receipt: &Receipt) -> bool {
    let held = Layout::open(directory).ok().and_then(|layout| layout.find(name).ok().flatten());
    held.is_some_and(|held| held.digest == receipt.digest)
}

/// Fails unless every output may be written.
pub(super) async fn check(outputs: &[Output], tools: &Tools<'_>) -> Result<(), SourceError> {
    for output in outputs {
        match output {
            Output::Registry(reference) => tools.registry.check_push(reference).await?,
            Output::Layout { directory, .. } => check_directory(directory)?,
            Output::Local(_) => {}
        }
    }
    Ok(())
}

fn check_directory(directory: &Path) -> Result<(), SourceError> {
    let failed = |source| SourceError::Layout { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    let probe = directory.join(format!(".packhorse-{}", std::process::id()));
    fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(failed)
}

/// The image that an output holds now; one that cannot be understood counts as none.
pub(super) async fn previous_image(output: &Output, tools: &Tools<'_>) -> Result<Option<PreviousImage>, SourceError> {
    let parts = match output {
        Output::Registry(reference) => tools.registry.image(reference).await?,
        Output::Layout { directory, name } => layout_image(directory, name.as_deref()),
        Output::Local(name) => layout_image(&tools.store.images_directory(), Some(name)),
    };
    Ok(parts.and_then(|(manifest, config)| PreviousImage::read(&manifest, &config)))
}

fn layout_image(directory: &Path, name: Option<&str>) -> Option<(Value, Value)> {
    let layout = Layout::open(directory).ok()?;
    let descriptor = layout.find(name).ok()??;
    let manifest = layout.json(&descriptor).ok()?;
    let config = serde_json::from_value(manifest["config"].clone()).ok()?;
    let config = layout.json(&config).ok()?;
    Some((manifest, config))
}
