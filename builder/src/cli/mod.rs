//! The command line: one file a command, one that reads the environment, one that prints.

pub mod arguments;
pub mod config;
pub mod words;
pub mod render;
pub mod tools;

pub mod base;
pub mod build;
pub mod cache;
pub mod inspect;
pub mod plan;
pub mod run;
