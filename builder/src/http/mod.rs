//! Our one HTTP client: certificates, proxy, mirrors, retries and verified downloads.

pub mod settings;
pub mod client;
pub mod download;
pub mod blocking;
pub mod mirror;
pub mod redact;
pub mod error;
pub mod authorities;

mod retry;
mod roots;
pub mod dialler;
