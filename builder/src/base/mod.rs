//! Debian base images, assembled from the package archive without root, registry or maintainer scripts.

pub mod ensure;
pub mod flavour;
pub mod lock;
pub mod mirror;
pub mod sink;
pub mod layer;
pub mod place;
pub mod error;

mod resolve;
pub mod release;
pub mod index;
pub mod relation;
pub mod closure;
mod keys;

mod assemble;
mod deb;
mod paths;
mod unpack;
mod disk;
mod tree;
mod made;
mod accounts;
mod alternatives;
mod scripts;
mod status;
mod config;
mod record;
