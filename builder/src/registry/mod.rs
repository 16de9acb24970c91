//! The distribution protocol (OCI distribution spec 1.1): who may, pull, push, mount.

pub mod client;
pub mod credentials;
pub mod credential_survey;
pub mod clock;
pub mod pull;
pub mod push;
pub mod error;

mod mount;
mod auth;
mod challenge;
mod helper;
