//! Git in a sandbox: joins what `git` asks for with what `sandbox` can do.
//!
//! The job's root holds this very program, the libraries that it needs, the mirror, and a folder; no shell, no tools. It
//! reaches one port of its own loopback, at which the worker listens.

mod libraries;
mod listener;

use std::fs;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use crate::events::Cancel;
use crate::events::Stream;
use crate::git::isolation::Channel;
use crate::git::isolation::ENDPOINT_PORT;
use crate::git::isolation::ENTRY;
use crate::git::isolation::Ended;
use crate::git::isolation::Endpoint;
use crate::git::isolation::Isolation;
use crate::git::isolation::IsolationError;
use crate::git::isolation::MIRROR;
use crate::git::isolation::Work;
use crate::git_job::libraries::Library;
use crate::model::failure::Failure;
use crate::model::limit_reached::Limit;
use crate::model::limits::Limits;
use crate::sandbox;
use crate::sandbox::command::Command;
use crate::sandbox::command::Exit;
use crate::sandbox::command::RunAs;
use crate::sandbox::directory::JobDirectory;
use crate::sandbox::error::SandboxError;
use crate::sandbox::job::Job as _;
use crate::sandbox::job::JobError;
use crate::sandbox::ladder::Ground;
use crate::sandbox::ladder::Walls;
use crate::sandbox::native::NativeJob;
use crate::sandbox::spec::Bind;
use crate::sandbox::spec::BindMode;
use crate::sandbox::spec::JobSpec;
use crate::sandbox::spec::LayersState;
use crate::sandbox::spec::Network;
use crate::sandbox::spec::User;

/// Whom git runs as inside.
const USER_ID: u32 = 1000;
/// Where the program is inside.
const PROGRAM: &str = "/packhorse";
/// Where its libraries are.
const LIBRARIES: &str = "/lib";
/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(1);
/// Processes and threads: the program has a few.
const PROCESSES_MAX: u64 = 64;
/// Bytes of what it says.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;

/// Runs git's jobs.
#[derive(Debug)]
pub struct GitJobs {
    /// `<data>/jobs`.
    jobs_directory: PathBuf,
    /// What they stand on.
    ground: Ground,
    /// The program that is started, as monitor and inside.
    program: PathBuf,
    libraries: OnceLock<Vec<Library>>,
}

impl GitJobs {
    /// Makes it for a machine with this ground; why not, where jobs are not walled off well enough to be worth it.
    ///
    /// `program` is packhorse, a path that this process can open.
    pub fn new(jobs_directory: PathBuf, ground: Ground, program: PathBuf) -> Result<Self, String> {
        match ground.walls {
            Walls::Namespaces => Ok(Self {
                jobs_directory,
                ground,
                program,
                libraries: OnceLock::new(),
            }),
            // It would have the machine's network, and the worker's endpoint would be anybody's.
            Walls::Chroot => Err(format!(
                "on the rung `{}` jobs have no network of their own",
                ground.rung()
            )),
        }
    }

    fn libraries(&self) -> &[Library] {
        self.libraries.get_or_init(libraries::of_this_process)
    }

    /// The program, its libraries, and the mirror.
    fn binds(&self, work: &Work<'_>) -> Result<Vec<Bind>, SandboxError> {
        let program = fs::canonicalize(&self.program).map_err(|source| SandboxError::Start {
            step: format!("find the program `{}`", self.program.display()),
            why: source.to_string(),
        })?;
        let read_only = |source: &Path, target: PathBuf| Bind {
            source: source.to_owned(),
            target,
            mode: BindMode::ReadOnly,
        };
        let mut binds = vec![
            read_only(&program, PROGRAM.into()),
            Bind {
                source: work.mirror.to_owned(),
                target: MIRROR.into(),
                mode: if work.writes_mirror {
                    BindMode::ReadWrite
                } else {
                    BindMode::ReadOnly
                },
            },
        ];
        binds.extend(
            self.libraries()
                .iter()
                .map(|library| read_only(&library.file, Path::new(LIBRARIES).join(&library.name))),
        );
        Ok(binds)
    }

    fn spec(&self, work: &Work<'_>) -> Result<JobSpec, SandboxError> {
        let directory = JobDirectory::create(&self.jobs_directory, "git")?;
        let room = directory.path().to_owned();
        let owners = self.ground.owners();
        let folder = |name: &str, owner: u32| {
            let path = room.join(name);
            make_folder(&path, owners.on_disk(owner))
                .map(|()| path.clone())
                .map_err(|source| SandboxError::Directory {
                    action: "make",
                    path,
                    source,
                })
        };
        let tree = work
            .tree
            .map_or_else(|| folder("tree", USER_ID), |tree| Ok(tree.to_owned()))?;
        Ok(JobSpec {
            directory,
            program: self.program.clone(),
            ground: self.ground,
            root_layers: vec![folder("root", 0)?],
            layers: LayersState {
                lowers: Vec::new(),
                directory: folder("layers", 0)?,
                volatile: true,
            },
            workspace: tree,
            binds: self.binds(work)?,
            user: User {
                uid: USER_ID,
                gid: USER_ID,
                name: "git".to_owned(),
                home: PathBuf::from("/tmp"),
            },
            limits: Limits {
                timeout: work.timeout,
                memory_bytes_max: Some(work.memory_bytes_max),
                processes_max: PROCESSES_MAX,
                output_bytes_max: OUTPUT_BYTES_MAX,
                ..Limits::default()
            },
            hostname: "git".to_owned(),
            network: if work.writes_mirror {
                Network::Listeners { ports: Vec::new() }
            } else {
                Network::None
            },
            environment_ca: None,
            grace: GRACE,
        })
    }
}

impl Isolation for GitJobs {
    fn run(
        &self,
        work: &Work<'_>,
        endpoint: Option<&dyn Endpoint>,
        said: &(dyn Fn(Channel, &[u8]) + Sync),
        cancel: &Cancel,
    ) -> Result<Ended, IsolationError> {
        let spec = self.spec(work).map_err(|error| failure(&error))?;
        let job = sandbox::start(spec).map_err(|error| failure(&error))?;
        let command = command(work, self.libraries());
        let exit = listener::while_listening(&job, ENDPOINT_PORT, endpoint, cancel, || {
            run_command(&job, &command, said)
        });
        exit.map_err(|error| failure(&error))
    }

    fn owner(&self) -> u32 {
        self.ground.owners().on_disk(USER_ID)
    }
}

fn command(work: &Work<'_>, libraries: &[Library]) -> Command {
    let mut arguments: Vec<std::ffi::OsString> = Vec::new();
    // The loader by its own name: where the program looks for it there may be none inside.
    if let Some(loader) = libraries.iter().find(|library| library.is_loader()) {
        arguments.push(Path::new(LIBRARIES).join(&loader.name).into());
        arguments.extend(["--library-path".into(), LIBRARIES.into()]);
    }
    arguments.extend([PROGRAM.into(), ENTRY.into(), work.task.into()]);
    Command {
        name: "git".to_owned(),
        arguments,
        environment: Vec::new(),
        working_directory: "/tmp".into(),
        run_as: RunAs::User,
        timeout: None,
    }
}

fn run_command(
    job: &NativeJob,
    command: &Command,
    said: &(dyn Fn(Channel, &[u8]) + Sync),
) -> Result<Ended, JobError> {
    let hear = |stream, bytes: &[u8]| {
        let channel = match stream {
            Stream::Stdout => Channel::Output,
            Stream::Stderr => Channel::Messages,
        };
        said(channel, bytes);
    };
    Ok(match job.run(command, &hear) {
        Ok(Exit::Code(code)) => Ended::Code(code),
        Ok(Exit::Signal(number)) => Ended::Signal(number),
        Ok(Exit::OverLimit(reached)) => match reached.limit {
            Limit::WallClock(_) | Limit::IdleOutput(_) => Ended::TimedOut,
            Limit::Memory(_) => Ended::OutOfMemory,
            Limit::Output(_) => Ended::TooMuchOutput,
            Limit::Processes(_) | Limit::DiskBytes(_) | Limit::DiskFiles(_) => {
                Ended::NotStarted(reached.to_string())
            }
        },
        Ok(Exit::NotStarted { why }) => Ended::NotStarted(why),
        Ok(Exit::Cancelled) | Err(JobError::Cancelled) => Ended::Cancelled,
        Err(error) => return Err(error),
    })
}

fn failure(error: &(impl Failure + std::fmt::Display)) -> IsolationError {
    IsolationError {
        message: error.to_string(),
        facts: error.facts(),
    }
}

fn make_folder(path: &Path, owner: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))?;
    chown(path, Some(owner), Some(owner))
}
