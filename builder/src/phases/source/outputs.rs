//! Looks at the outputs before any work: do they hold the image already, may they be written, what did they hold?

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::model::descriptor::Descriptor;
use crate::model::output::Output;
use crate::model::previous_image::PreviousImage;
use crate::model::receipt::Receipt;
use crate::model::reference::ImageReference;
use crate::oci::layout::Layout;
use crate::oci::temporary::TemporaryFile;
use crate::phases::handover::ARCHITECTURE;
use crate::phases::handover::Tools;
use crate::phases::source::SourceError;
use crate::registry::pull::Platform;

/// The largest image configuration that is read.
const CONFIG_BYTES_MAX: usize = 8 << 20;

/// Whether an output holds the receipt's image. A registry is asked once, by HEAD.
pub(super) async fn holds(
    output: &Output,
    receipt: &Receipt,
    tools: &Tools<'_>,
) -> Result<bool, SourceError> {
    match output {
        Output::Registry(reference) => {
            match tools.registry.head(reference).await {
                Ok(held) => Ok(held.is_some_and(|held| held.digest == receipt.digest)),
                // Whoever may not look may not push either, and that is the failure to tell.
                Err(error) if error.forbids_reading() => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
        Output::Layout { directory, name } => {
            Ok(Layout::open(directory).is_ok_and(|layout| layout_holds(&layout, name.as_deref(), receipt)))
        }
        Output::Local(name) => Ok(layout_holds(tools.store.images()?.layout(), Some(name), receipt)),
    }
}

fn layout_holds(layout: &Layout, name: Option<&str>, receipt: &Receipt) -> bool {
    let held = layout.find(name).ok().flatten();
    held.is_some_and(|held| held.descriptor.digest == receipt.digest && layout.contains(&held.descriptor))
}

/// Fails unless every output may be written.
pub(super) async fn check(outputs: &[Output], tools: &Tools<'_>) -> Result<(), SourceError> {
    for output in outputs {
        match output {
            Output::Registry(reference) => tools.registry.check_push(reference).await?,
            Output::Layout { directory, .. } => {
                Layout::check_place(directory)?;
                check_directory(directory)?;
                if directory.join("oci-layout").exists() {
                    Layout::open(directory)?.index()?;
                }
            }
            Output::Local(_) => {}
        }
    }
    Ok(())
}

fn check_directory(directory: &Path) -> Result<(), SourceError> {
    let failed = |source| SourceError::Layout {
        path: directory.to_owned(),
        source,
    };
    fs::create_dir_all(directory).map_err(failed)?;
    // It is removed at once.
    TemporaryFile::create(directory).map(drop).map_err(failed)
}

/// The image that an output holds now; one that cannot be understood counts as none.
pub(super) async fn previous_image(
    output: &Output,
    tools: &Tools<'_>,
) -> Result<Option<PreviousImage>, SourceError> {
    let parts = match output {
        Output::Registry(reference) => registry_image(reference, tools).await?,
        Output::Layout { directory, name } => Layout::open(directory)
            .ok()
            .and_then(|layout| layout_image(&layout, name.as_deref())),
        Output::Local(name) => layout_image(tools.store.images()?.layout(), Some(name)),
    };
    Ok(parts.and_then(|(manifest, config)| PreviousImage::read(&manifest, &config)))
}

async fn registry_image(
    reference: &ImageReference,
    tools: &Tools<'_>,
) -> Result<Option<(Value, Value)>, SourceError> {
    let platform = Platform {
        os: "linux".to_owned(),
        architecture: ARCHITECTURE.to_owned(),
        variant: None,
    };
    let manifest = match tools.registry.image(reference, &platform).await {
        Ok(manifest) => manifest,
        Err(error) if error.means_no_image() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Ok(manifest) = serde_json::from_slice::<Value>(&manifest.bytes) else {
        return Ok(None);
    };
    let Ok(config) = serde_json::from_value(manifest["config"].clone()) else {
        return Ok(None);
    };
    let config = match tools
        .registry
        .blob_bytes(reference, &config, CONFIG_BYTES_MAX)
        .await
    {
        Ok(config) => config,
        Err(error) if error.means_no_image() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(serde_json::from_slice(&config)
        .ok()
        .map(|config| (manifest, config)))
}

fn layout_image(layout: &Layout, name: Option<&str>) -> Option<(Value, Value)> {
    let entry = layout.find(name).ok()??;
    let json = |descriptor: &Descriptor| {
        serde_json::from_slice::<Value>(&layout.read_blob(&descriptor.digest).ok()?).ok()
    };
    let manifest = json(&entry.descriptor)?;
    let config = json(&serde_json::from_value(manifest["config"].clone()).ok()?)?;
    Some((manifest, config))
}
