//! The buildpack side of a build: which ones take part, what they are given, what they leave behind.
//!
//! Everything a buildpack does or leaves goes through [`crate::sandbox::job::Job`]; nothing here touches the disk.

pub mod paths;
pub mod library;
pub mod target;

pub mod environment;
pub mod env_files;
pub mod bindings;
pub mod setting;
pub mod failed_step;

pub mod detect;
pub mod order;
pub mod bin_detect;
pub mod resolve;

pub mod restore;
pub mod restored_files;

pub mod build;
pub mod bin_build;
pub mod build_plan;
pub mod allowance;
pub mod layers;
pub mod processes;
pub mod sbom;
pub mod output;

pub mod metadata;

#[cfg(test)]
mod tests;
