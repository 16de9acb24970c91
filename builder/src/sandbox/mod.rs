//! Runs a build's commands inside limits. Beside git's transport registration the only place with unsafe code.
//!
//! `native::NativeJob::start` is the way in. The worker re-executes its own program as a [`monitor`]; the monitor
//! makes the namespaces and clones `init`, PID 1 of the job, which builds the root file system and runs commands.

pub mod command;
pub mod job;
pub mod error;
pub mod identity;
pub mod subordinate_ids;
pub mod directory;
pub mod spec;
pub mod native;
pub mod monitor;

mod certificates;
mod cgroup;
mod command_process;
mod connect;
mod device;
mod file_process;
mod filter;
mod id_range;
mod init;
mod linux;
mod message;
mod mount;
mod mount_point;
mod network_namespace;
mod files;
mod launch;
mod output;
mod proc;
mod root;
mod running;
mod socket;
mod step;
mod syscalls;
mod turn;

use crate::sandbox::error::SandboxError;
use crate::sandbox::native::NativeJob;
use crate::sandbox::spec::JobSpec;

/// Starts a job with our own runner: namespaces, overlay, filters. It holds no process but PID 1 until a command runs.
pub fn start(spec: JobSpec) -> Result<NativeJob, SandboxError> {
    NativeJob::start(spec)
}
