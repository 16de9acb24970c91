//! http

pub mod dialler;
