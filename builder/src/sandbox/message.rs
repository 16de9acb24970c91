//! What worker, monitor and init say to each other.

use std::ffi::OsString;
use std::net::SocketAddr;

use serde::Deserialize;
use serde::Serialize;

use crate::sandbox::attachment::WindowSize;
use crate::sandbox::ladder::Proc;
use crate::sandbox::ladder::Trees;
use crate::sandbox::ladder::Walls;
use crate::sandbox::step::StepError;

/// The first message to a monitor. With it: the socket of init, the lock of the job directory, the lock of the id
/// range if there is one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) id: String,
    pub(crate) directory: OsString,
    pub(crate) ids: Ids,
    pub(crate) proc: Proc,
    pub(crate) trees: Trees,
    pub(crate) walls: Walls,
    /// A group that marks the job's processes, where nothing else tells them from the machine's.
    pub(crate) mark: Option<u32>,
    /// None where the trees are copies, which lie in the job's folder then.
    pub(crate) root_layers: Vec<OsString>,
    pub(crate) layers_lowers: Vec<OsString>,
    pub(crate) layers_directory: OsString,
    pub(crate) layers_volatile: bool,
    pub(crate) binds: Vec<StartBind>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) user_name: String,
    pub(crate) home: OsString,
    pub(crate) hostname: String,
    /// Ports to listen on; none: no way out.
    pub(crate) ports: Option<Vec<u16>>,
    /// The one port that may be connected to, where the job shares the machine's network.
    pub(crate) proxy_port: Option<u16>,
    /// Whether the job has the machine's network, and no network namespace.
    pub(crate) host_network: bool,
    pub(crate) memory_bytes_max: Option<u64>,
    pub(crate) processes_max: u64,
    pub(crate) cpu_hundredths_max: Option<u64>,
    /// After this many milliseconds the monitor kills everything, whatever the worker does.
    pub(crate) lifetime_ms_max: u64,
}

impl Start {
    /// User and group of the job's user as init sees them.
    pub(crate) fn user_of_init(&self) -> (u32, u32) {
        match self.ids {
            Ids::Mapped(_) | Ids::Outer => (self.uid, self.gid),
            Ids::Single => (0, 0),
        }
    }
}

/// The ids of a job.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Ids {
    /// In a user namespace of the job's own.
    Mapped(IdMap),
    /// 0 inside is the worker; the job's user is the same, in a user namespace of each command.
    Single,
    /// Those of the worker; there is no user namespace.
    Outer,
}

/// The ids of a job as the worker sees them: 0 inside is `first` outside.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct IdMap {
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// Whether mounts are mapped too; else owners on disk are already the outside ones.
    pub(crate) idmapped_mounts: bool,
}

/// One bind of a [`Start`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StartBind {
    pub(crate) source: OsString,
    pub(crate) target: OsString,
    pub(crate) read_only: bool,
    /// Leave it out when the job has nothing at `target`.
    pub(crate) only_over_existing: bool,
}

/// Monitor to init while the job is being made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Setup {
    /// The ids are mapped and the cgroup is joined.
    IdsMapped,
    /// Mounts, as descriptors; `more` follow.
    Mounts { more: bool },
}

/// Init to monitor, and monitor to worker: how making the job ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It runs. With it, if the job has a way out: the name server's socket, then the listeners.
    Ready {
        notes: Vec<String>,
        counters: Counters,
        limits: Vec<String>,
        /// Init's number as the monitor and the worker see it.
        init: u32,
    },
    /// It does not.
    Failed(StepError),
    /// It ended.
    Ended(Ended),
}

/// How a job ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Whether something was killed for memory.
    pub(crate) out_of_memory: bool,
    /// The processes with the most memory, where the monitor has looked.
    pub(crate) used_by: Vec<String>,
    pub(crate) why: String,
}

impl Ended {
    /// With this reason, and nothing about memory.
    pub(crate) fn because(why: String) -> Self {
        Self {
            why,
            ..Self::default()
        }
    }
}

/// Files of a job's cgroups that tell what it has used up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Its `oom_kill` line counts processes that the kernel killed for memory.
    pub(crate) memory_events: Option<OsString>,
    /// The memory of all processes, in bytes.
    pub(crate) memory_usage: Option<OsString>,
    /// Its `max` line counts processes that could not be started.
    pub(crate) refused_processes: Option<OsString>,
}

/// Worker to init. With each: the socket for the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start a command. With it: its stdout and stderr, and its stdin if that is a pipe; nothing if it gets a terminal.
    Run(RunRequest),
    /// Send a signal to a command's process group.
    Signal { command: u64, signal: i32 },
    /// Kill every process but init.
    Sweep,
    /// Mount `/layers`.
    AttachLayers,
    /// Mount memory at `folder` with these files in it. With it: a memfd with the contents of all, one after another.
    ShowSecrets {
        folder: OsString,
        files: Vec<SecretFile>,
    },
    /// Unmount it.
    HideSecrets { folder: OsString },
    /// Begin to connect to a TCP address of the job; the socket comes with the answer, and may not be connected yet.
    Connect { address: SocketAddr },
    /// A file call, done by a process of the job's user.
    File(FileRequest),
}

/// One file of the secrets, relative to their folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SecretFile {
    pub(crate) path: OsString,
    pub(crate) bytes: u64,
}

/// A command to start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunRequest {
    pub(crate) command: u64,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) working_directory: OsString,
    /// Whether the command gets a network namespace of its own, where the job has the machine's network.
    pub(crate) apart: bool,
    /// Root of the job in place of its user.
    pub(crate) as_root: bool,
    pub(crate) input: RunInput,
}

/// What a command reads.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum RunInput {
    /// Nothing.
    Nothing,
    /// The third descriptor.
    Pipe,
    /// A terminal, which it makes.
    Terminal { size: WindowSize },
}

/// A file call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FileRequest {
    /// Open a regular file for reading; the descriptor comes with the answer.
    Open { path: OsString },
    /// Open a folder for reading; the descriptor comes with the answer.
    OpenDirectory { path: OsString },
    /// Replace a file. With it: a memfd with the contents.
    Write { path: OsString, mode: u32 },
    /// Make a folder and its parents.
    MakeDirectory { path: OsString },
    /// Rename.
    Rename { from: OsString, to: OsString },
    /// Remove a tree.
    Remove { path: OsString },
}

/// Init, or a process of the job's user, to the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// A command exited.
    Exited { code: i32 },
    /// A command has made its terminal, and will be started; the other side comes with it.
    Terminal,
    /// A signal ended a command.
    Killed { signal: i32 },
    /// A command's program could not be started.
    NotStarted { why: String },
    /// Done; a descriptor comes with it if one was asked for.
    Done,
    /// There is no such file or folder.
    Missing,
    /// It failed.
    Failed { why: String },
}
