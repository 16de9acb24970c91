//! Runs a build's commands inside limits. Beside git's transport registration the only place with unsafe code.
//!
//! `native::NativeJob::start` is the way in. The worker re-executes its own program as a [`monitor`]; the monitor
//! makes the namespaces and clones `init`, PID 1 of the job, which builds the root file system and runs commands.

pub mod attachment;
pub mod command;
pub mod job;
pub mod error;
pub mod identity;
pub mod ladder;
pub mod probe;
pub mod subordinate_ids;
pub mod directory;
pub mod spec;
pub mod native;
pub mod kill_handle;
pub mod monitor;
pub mod inventory;
pub mod kernel_settings;
pub mod id_helper;
pub mod cgroup_survey;
pub mod scope;

mod certificates;
mod chroot;
mod cgroup;
mod cgroup_place;
mod cgroup_v2;
mod command_line;
mod command_process;
mod terminal;
mod connect;
mod device;
mod disk_usage;
mod ending;
mod file_process;
mod filter;
mod id_range;
mod init;
mod job_files;
mod linux;
mod message;
mod mount;
mod mount_point;
mod network_namespace;
mod files;
mod landlock_rules;
mod launch;
mod output;
mod privilege;
mod probe_record;
mod proc;
mod process_usage;
mod root;
mod secret_mount;
mod running;
mod streams;
mod feed;
mod socket;
mod step;
mod syscalls;
mod turn;
mod watch;

use std::path::Path;

use crate::model::rung::RungChoice;
use crate::sandbox::error::SandboxError;
use crate::sandbox::identity::Surroundings;
use crate::sandbox::ladder::Climbed;
use crate::sandbox::ladder::Ground;
use crate::sandbox::ladder::Walls;
use crate::sandbox::native::NativeJob;
use crate::sandbox::probe::Found;
use crate::sandbox::spec::JobSpec;

/// Finds out what this machine allows; nothing of this process changes. To be called while it has one thread.
pub fn survey(surroundings: &Surroundings, data_directory: &Path) -> Result<Climbed, SandboxError> {
    Ok(ladder::climb(surroundings, &found(surroundings, data_directory)?))
}

fn found(surroundings: &Surroundings, data_directory: &Path) -> Result<Found, SandboxError> {
    probe_record::found(surroundings, data_directory).map_err(|source| SandboxError::Start {
        step: "try what this machine allows".to_owned(),
        why: source.to_string(),
    })
}

/// Makes this process able to start jobs on the rung that is chosen. To be called first thing in `main`, while it has
/// one thread: a plain user becomes root of a namespace of its own.
///
/// After [`SandboxError::Forbidden`] the process may still do everything that needs no sandbox, unless mapping the ids
/// failed half-way; then it should end.
pub fn enter(
    surroundings: &Surroundings,
    choice: RungChoice,
    data_directory: &Path,
) -> Result<(Ground, Climbed), SandboxError> {
    let climbed = survey(surroundings, data_directory)?;
    let ground = ladder::choose(&climbed, choice)?;
    if ground.walls == Walls::Namespaces {
        identity::enter(ground.identity, surroundings)?;
    }
    Ok((ground, climbed))
}

/// Starts a job with our own runner: namespaces, overlay, filters. It holds no process but PID 1 until a command runs.
pub fn start(spec: JobSpec) -> Result<NativeJob, SandboxError> {
    NativeJob::start(spec)
}
