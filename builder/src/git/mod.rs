//! Source code from git: the only code that names git2. Its transports run over `http` and the user's own ssh.

pub mod error;
pub mod settings;
pub mod repository;
pub mod checkout;
pub mod work_tree;

pub mod inside;
pub mod isolation;

mod isolated;
mod plain_http;
mod quarantine;
mod relay;
mod revision;
mod task;
mod tree_files;
mod written_tree;
mod mirror;
mod fetch;
mod submodule;
mod transport;
mod smart_http;
mod ssh;
mod credential;
mod program;
