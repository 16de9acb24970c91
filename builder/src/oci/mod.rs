//! An image as bytes: layer tars, blobs, configuration, manifest, layout. Blocking code; no network, no child processes.

pub mod tar;
pub mod tree;
pub mod slices;
pub mod layer;
pub mod decode;
pub mod unpack;
pub mod overlay;
pub mod json;
pub mod config;
pub mod manifest;
pub mod layout;
pub mod validate;
pub mod temporary;
pub mod removal;
