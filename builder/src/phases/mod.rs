//! The six phases of a build. They never import each other: each takes a value of `handover` that only the one before
//! makes.

pub mod handover;

pub mod source;
pub mod detect;
pub mod restore;
pub mod build;
pub mod export;
pub mod publish;

pub mod plan_report;
