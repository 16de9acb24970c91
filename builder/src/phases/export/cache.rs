//! What of the layers is for the next build: the rest is removed through the mounted view, and the upper becomes a tree
//! of the cache's new state.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use packhorse_spec::identifier::escape;

use crate::buildpack::layers::NAMES_MAX;
use crate::buildpack::metadata::CacheMetadata;
use crate::buildpack::metadata::LayerDigests;
use crate::buildpack::metadata::cached_layers;
use crate::phases::export::ExportError;
use crate::phases::handover::CachedBuild;
use crate::phases::handover::Finished;
use crate::phases::handover::ImageLayer;
use crate::phases::handover::Tools;
use crate::sandbox::job::Job;
