//! Runs a build's commands inside limits. Beside git's transport registration the only place with unsafe code.

pub mod command;
pub mod job;
