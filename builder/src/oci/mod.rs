//! An image as bytes: layer tars, blobs, configuration, manifest, layout. No tokio, no network, no child processes.

pub mod tar;
pub mod tree;
pub mod slices;
pub mod layer;
pub mod temporary;
