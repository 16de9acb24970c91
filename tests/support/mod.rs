//! What tests share: servers, repositories, temporary folders, and packhorse as a user runs it.

pub(crate) mod git;
pub(crate) mod registry;
pub(crate) mod code;
pub(crate) mod events;
pub(crate) mod home;
pub(crate) mod run;
pub(crate) mod processes;
pub(crate) mod terminal;
pub(crate) mod app;
pub(crate) mod image;
pub(crate) mod proxy;
pub(crate) mod user;
pub(crate) mod redact;
pub(crate) mod ask;
pub(crate) mod launches;
pub(crate) mod left_out;
pub(crate) mod chance;
pub(crate) mod remains;
