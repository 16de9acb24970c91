//! One file for each layer that the buildpack makes.

pub(crate) mod node;
pub(crate) mod npm_cache;
