//! One file for each layer that the buildpack makes.

pub(crate) mod dependencies;
pub(crate) mod node;
pub(crate) mod node_headers;
pub(crate) mod npm_cache;
pub(crate) mod npm_home;
