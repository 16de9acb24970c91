//! buildpack
