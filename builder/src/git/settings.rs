//! What git is told: plain data that `cli::config` fills.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::http;

/// The settings of everything that is fetched by git.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the mirrors are kept: `<data>/git`.
    pub mirrors_directory: PathBuf,
    /// The HTTP client.
    pub http: http::settings::Settings,
    /// Put before every program that must run as the user (`git credential`, ssh); mostly empty.
    pub user_command: Vec<OsString>,
    /// The git program, for `git credential` alone.
    pub git_program: OsString,
    /// The ssh program: one argument of `exec`, or several words as in `GIT_SSH_COMMAND`.
    pub ssh_command: Vec<OsString>,
    /// Hosts (`host` or `host:port`) beside loopback that may be fetched from over plain HTTP.
    pub plain_http_hosts: Vec<String>,
    /// Bounds.
    pub limits: Limits,
}

impl Settings {
    /// The defaults, with mirrors in `mirrors_directory`.
    pub fn new(mirrors_directory: PathBuf) -> Self {
        Self {
            mirrors_directory,
            http: http::settings::Settings::default(),
            user_command: Vec::new(),
            git_program: "git".into(),
            ssh_command: vec!["ssh".into()],
            plain_http_hosts: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// What a repository and a checkout may cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of one fetch.
    pub fetch_bytes_max: u64,
    /// Objects of one fetch: files, folders and commits.
    pub fetch_objects_max: u64,
    /// Branches, tags and other refs that a remote may have.
    pub refs_max: usize,
    /// Bytes of all files of a checkout together.
    pub checkout_bytes_max: u64,
    /// Files, folders and links of a checkout.
    pub checkout_entries_max: u64,
    /// Folders inside folders of a checkout.
    pub checkout_depth_max: usize,
    /// Submodules inside submodules.
    pub submodule_depth_max: usize,
    /// Submodules of one checkout.
    pub submodules_max: usize,
    /// How long a remote may be silent.
    pub silence: Duration,
    /// How long one job of git may take, where it runs in one.
    pub job_timeout: Duration,
    /// Memory of one job of git, in bytes.
    pub job_memory_bytes_max: u64,
    /// How long a credential helper may take.
    pub credential_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fetch_bytes_max: 8 << 30,
            fetch_objects_max: 50_000_000,
            refs_max: 500_000,
            checkout_bytes_max: 8 << 30,
            checkout_entries_max: 1_000_000,
            checkout_depth_max: 128,
            submodule_depth_max: 5,
            submodules_max: 200,
            silence: Duration::from_secs(120),
            job_timeout: Duration::from_secs(60 * 60),
            job_memory_bytes_max: 4 << 30,
            credential_timeout: Duration::from_secs(60),
        }
    }
}
