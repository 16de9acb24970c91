//! Plain data and pure decisions: no I/O, no clock, no environment, no tokio.

pub mod failure;
pub mod digest;
pub mod descriptor;
pub mod timestamp;
pub mod reference;
pub mod source;
pub mod named_by;
pub mod owners;
pub mod rung;
pub mod policy;
pub mod refused;
pub mod size;
pub mod limits;
pub mod limit_reached;
pub mod phase;
pub mod output;
pub mod secret;
pub mod request;
pub mod receipt;
pub mod build_key;
pub mod previous_image;
