//! Debian base images, assembled from the package archive without root, registry or maintainer scripts.

pub mod flavour;
pub mod lock;
pub mod error;

pub mod release;
pub mod index;
pub mod relation;
pub mod closure;

mod keys;
pub mod mirror;
mod resolve;
