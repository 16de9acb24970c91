//! `packhorse inspect`: what is in an image, by manifest and configuration alone.

pub mod image;
mod summary;

use std::sync::Arc;

use crate::cli::arguments::image::InspectArguments;
use crate::cli::config::Config;
use crate::cli::failure::CommandError;
use crate::cli::inspect::summary::Summary;
use crate::cli::render;
use crate::cli::tools;
use crate::cli::tools::Toolbox;
use crate::events::Silence;

/// Runs the command.
pub fn run(arguments: &InspectArguments, config: &Config) -> Result<u8, CommandError> {
    let toolbox = Toolbox::open(config, &arguments.insecure_registry, Arc::new(Silence))?;
    let image = tools::block_on(image::anywhere(
        &arguments.image,
        &toolbox.store,
        &toolbox.registry,
    ))??;
    let summary = Summary::of(&image);
    if arguments.json {
        render::json(&summary);
    } else {
        render::result(&summary.text())?;
    }
    Ok(0)
}
