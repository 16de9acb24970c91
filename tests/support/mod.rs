//! What tests share: servers, repositories, temporary folders.

pub(crate) mod git;
pub(crate) mod registry;
pub(crate) mod events;
