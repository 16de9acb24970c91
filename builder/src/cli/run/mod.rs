//! `packhorse run`: tries an image in the sandbox, with its ports published on this machine's loopback.

mod attach;
mod env_file;
mod layers;
mod port;
mod process;
mod sandbox;
mod signals;
mod user;
mod volume;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::arguments::image::RunArguments;
use crate::cli::config::Config;
use crate::cli::failure::CommandError;
use crate::cli::inspect::image;
use crate::cli::interrupt;
use crate::cli::interrupt::INTERRUPTED_EXIT;
use crate::cli::render;
use crate::cli::render::Manner;
use crate::cli::render::Renderer;
use crate::cli::run::attach::Attached;
use crate::cli::run::attach::Surroundings;
use crate::cli::run::env_file::EnvFileError;
use crate::cli::run::layers::Layers;
use crate::cli::run::layers::PrepareError;
use crate::cli::run::port::Port;
use crate::cli::run::process::Process;
use crate::cli::run::process::ProcessError;
use crate::cli::run::process::Wanted;
use crate::cli::run::sandbox::Ready;
use crate::cli::run::signals::Signals;
use crate::cli::run::user::UserError;
use crate::cli::run::volume::VolumeError;
use crate::cli::terminal::Raw;
use crate::cli::tools;
use crate::cli::tools::Toolbox;
use crate::events::Cancel;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::limit_reached::Limit;
use crate::model::limit_reached::LimitReached;
use crate::model::policy::NetworkPolicy;
use crate::sandbox::attachment::Attachment;
use crate::sandbox::attachment::Controls;
use crate::sandbox::command::Command;
use crate::sandbox::command::Exit;
use crate::sandbox::job::Job as _;
use crate::sandbox::job::JobError;
use crate::sandbox::ladder::Walls;
use crate::sandbox::native::NativeJob;

/// What is said of `--network host`.
const HOST_NETWORK: &str = "warning: the image has this machine's own network (`host`): no rule of the network policy \
                            holds, and it reaches what listens on its loopback";
/// A shell's exit code for a process that a signal ended is this and the signal's number.
const SIGNAL_EXIT: i32 = 128;
/// The signal of a process that the kernel ended for its memory.
const KILL: i32 = 9;

/// The image's process did not run to an end of its own.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such program in the image.
    #[error("the image has no program `{program}`")]
    NoProgram {
        /// As it is written.
        program: String,
    },
    /// The program could not be started.
    #[error("cannot start `{program}` in the image: {why}")]
    NotStarted {
        /// As it is written.
        program: String,
        /// The kernel's words.
        why: String,
    },
    /// Nothing can be told to it.
    #[error("cannot pass signals on to the image's process: {source}")]
    NotListening {
        /// Why not.
        source: io::Error,
    },
    /// There is no terminal to give.
    #[error(
        "cannot give the process a terminal: the sandbox of the rung `chroot`, which is all that this machine allows \
         or what was asked for, has none of its own"
    )]
    NoTerminal,
    /// The user's terminal cannot be used.
    #[error("cannot use this terminal for the image's process: {source}")]
    Terminal {
        /// Why not.
        source: io::Error,
    },
    /// The time was up.
    #[error("the image's process was still running after {} days", .after.as_secs() / 86_400)]
    TimedOut {
        /// The limit.
        after: Duration,
    },
}

impl Failure for StartError {
    fn facts(&self) -> Facts {
        match self {
            Self::NoProgram { .. } | Self::NotStarted { .. } => Facts::user("process_not_started"),
            Self::NotListening { .. } | Self::Terminal { .. } => Facts::platform("terminal_unusable"),
            Self::NoTerminal => Facts::platform("terminal_missing"),
            Self::TimedOut { .. } => Facts::user("process_timed_out"),
        }
    }
}

/// Runs the command; its exit code is the process's.
pub fn run(arguments: &RunArguments, config: &Config) -> Result<u8, CommandError> {
    let ports = arguments
        .publish
        .iter()
        .map(|text| port::parse(text))
        .collect::<Result<Vec<Port>, _>>();
    let ports = ports.map_err(CommandError::usage)?;
    let volumes = volume::parse_all(&arguments.volume).map_err(CommandError::usage)?;
    let attached = Attached::of(arguments.interactive, arguments.tty, Surroundings::read())
        .map_err(CommandError::usage)?;
    let variables = variables(arguments, config)?;
    let config = &config.with_network(&arguments.network);
    let toolbox = Toolbox::open(config, &[], tools::watcher(Renderer::new(Manner::Plain)))?;
    if toolbox.builder.network == NetworkPolicy::Host {
        if !ports.is_empty() {
            return Err(CommandError::usage(
                "--publish has no meaning with the network policy `host`: the image's ports are this machine's",
            ));
        }
        render::note(HOST_NETWORK);
    }
    toolbox.clean_up();
    let ground = toolbox.builder.ground;
    if attached.is_terminal() && ground.walls == Walls::Chroot {
        return Err(StartError::NoTerminal.into());
    }
    let volumes = volume::find(volumes, ground)?;
    let (found, layout) = image::local(&arguments.image, &toolbox.store)?;
    let mut process = Process::of(&found.config, wanted(arguments), &arguments.arguments, variables)?;
    if attached.is_terminal() && process.variable("TERM").is_none() {
        process.environment.push(terminal_kind(config)?);
    }
    let layers = Layers::unpack(&found, &layout, &toolbox.store, ground.owners())?;
    tools::block_on(async {
        let signals = Signals::listen().map_err(|source| StartError::NotListening { source })?;
        let ready = {
            // Until there is a process, Ctrl-C is for this command.
            let _listening = interrupt::listen(&toolbox.cancel);
            tokio::task::block_in_place(|| sandbox::start(&found, &layers, volumes, &toolbox))?
        };
        let trial = Trial {
            process: &process,
            ports: &ports,
            attached,
        };
        try_image(ready, trial, signals, &toolbox.cancel).await
    })?
}

/// What is tried, and how.
#[derive(Debug, Clone, Copy)]
struct Trial<'a> {
    process: &'a Process,
    ports: &'a [Port],
    attached: Attached,
}

fn wanted(arguments: &RunArguments) -> Wanted<'_> {
    match (&arguments.process, &arguments.entrypoint) {
        (Some(process_type), _) => Wanted::Type(process_type),
        (None, Some(program)) => Wanted::Program(program),
        (None, None) => Wanted::Own,
    }
}

/// The variables of the files, then those of the command line; the last one of a name counts.
fn variables(arguments: &RunArguments, config: &Config) -> Result<Vec<(String, String)>, CommandError> {
    let mut variables = Vec::new();
    for path in &arguments.env_file {
        variables.extend(env_file::read(path, &config.environment)?);
    }
    for text in &arguments.env {
        variables.push(config.build_variable(text)?);
    }
    Ok(variables)
}

/// `TERM` for a process with a terminal: the user's, whose terminal shows what it writes.
fn terminal_kind(config: &Config) -> Result<(String, String), CommandError> {
    let (name, kind) = config.build_variable("TERM")?;
    let kind = if kind.is_empty() { "xterm".to_owned() } else { kind };
    Ok((name, kind))
}

/// Starts the process and waits for its end; ports and the way out close before the sandbox goes.
async fn try_image(
    ready: Ready,
    trial: Trial<'_>,
    signals: Signals,
    cancel: &Cancel,
) -> Result<u8, CommandError> {
    let Ready { job, gateway, home } = ready;
    let kill = job.kill_handle();
    cancel.on_cancel(move || kill.kill());
    let command = command(&job, trial.process, &home)?;
    let published = port::publish(trial.ports, &job).await?;
    for (port, at) in trial.ports.iter().zip(&published) {
        render::note(&format!(
            "port {} of the image is at http://{}",
            port.inside,
            at.address()
        ));
    }
    let program = command.name.clone();
    let exit = follow(&job, command, trial.attached, signals).await;
    for one in published {
        one.stop().await;
    }
    if let Some(gateway) = gateway {
        gateway.stop().await;
    }
    exit_code(exit?, program)
}

/// The command of a process whose program is looked for as a shell would do it.
fn command(job: &NativeJob, process: &Process, home: &str) -> Result<Command, CommandError> {
    let program = process.arguments.first().cloned().unwrap_or_default();
    let candidates = process.candidates();
    let is_there = |path: &&std::path::PathBuf| {
        let (folder, name) = (path.parent(), path.file_name());
        let listed = folder
            .map(|folder| job.list(folder, sandbox::NAMES_MAX))
            .and_then(Result::ok)
            .unwrap_or_default();
        listed.iter().any(|entry| Some(entry.name.as_os_str()) == name)
    };
    let path = candidates
        .iter()
        .find(is_there)
        .ok_or_else(|| StartError::NoProgram {
            program: program.clone(),
        })?;
    let rest = process.arguments.iter().skip(1).map(Into::into);
    Ok(Command {
        name: program,
        arguments: std::iter::once(path.clone().into_os_string())
            .chain(rest)
            .collect(),
        environment: process.environment_with_home(home),
        working_directory: process.working_directory.clone(),
        run_as: crate::sandbox::command::RunAs::User,
        timeout: None,
    })
}

/// Passes input, output and signals on until the process ends.
async fn follow(
    job: &Arc<NativeJob>,
    command: Command,
    attached: Attached,
    signals: Signals,
) -> Result<Exit, CommandError> {
    let unusable = |source| StartError::Terminal { source };
    let controls = Arc::new(Controls::new().map_err(unusable)?);
    let _forwarding = signals.forward(&controls, job.kill_handle(), attached.is_terminal());
    let raw = match attached {
        Attached::Terminal => Some(Raw::begin().map_err(unusable)?),
        Attached::Outputs | Attached::Pipes | Attached::Screen => None,
    };
    let job = Arc::clone(job);
    let running = tokio::task::spawn_blocking(move || {
        let attachment = Attachment {
            input: attached.input(),
            controls: &controls,
            time: None,
        };
        job.run_attached(&command, &attachment, &render::pass_through)
    });
    let exit = running.await.unwrap_or_else(|error| {
        Err(JobError::Ended {
            during: "running the image".to_owned(),
            why: error.to_string(),
        })
    });
    drop(raw);
    Ok(exit?)
}

fn exit_code(exit: Exit, program: String) -> Result<u8, CommandError> {
    let of_signal = |signal: i32| u8::try_from(SIGNAL_EXIT + signal).unwrap_or(u8::MAX);
    match exit {
        Exit::Code(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        Exit::Signal(signal) => Ok(of_signal(signal)),
        Exit::OverLimit(LimitReached {
            limit: Limit::WallClock(after),
            ..
        }) => Err(StartError::TimedOut { after }.into()),
        Exit::OverLimit(_) => Ok(of_signal(KILL)),
        Exit::Cancelled => Ok(INTERRUPTED_EXIT),
        Exit::NotStarted { why } => Err(StartError::NotStarted { program, why }.into()),
    }
}

/// A failure that has the exit code of a launch (cnb §A.2).
macro_rules! launch_failures {
    ($($failure:ty),* $(,)?) => {
        $(impl From<$failure> for CommandError {
            fn from(error: $failure) -> Self {
                Self::of(&error, 82)
            }
        })*
    };
}

launch_failures! { EnvFileError, PrepareError, ProcessError, StartError, UserError, VolumeError }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_decides_the_exit_code() {
        for (exit, code) in [
            (Exit::Code(0), 0),
            (Exit::Code(7), 7),
            (Exit::Signal(15), 143),
            (Exit::OverLimit(LimitReached::of(Limit::Memory(1))), 137),
            (Exit::Cancelled, 130),
        ] {
            assert_eq!(exit_code(exit, "web".to_owned()).unwrap(), code);
        }
        let error = exit_code(
            Exit::NotStarted {
                why: "Permission denied".to_owned(),
            },
            "/a".to_owned(),
        )
        .unwrap_err();
        assert_eq!((error.exit_code, error.facts.code), (82, "process_not_started"));
        assert_eq!(error.message, "cannot start `/a` in the image: Permission denied");
    }
}
