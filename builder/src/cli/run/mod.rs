//! `packhorse run`: tries an image in the sandbox, with its ports published on this machine's loopback.

mod layers;
mod port;
mod process;
mod sandbox;
mod user;

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
use crate::cli::run::layers::Layers;
use crate::cli::run::layers::PrepareError;
use crate::cli::run::port::Port;
use crate::cli::run::process::Process;
use crate::cli::run::process::ProcessError;
use crate::cli::run::sandbox::Ready;
use crate::cli::run::user::UserError;
use crate::cli::tools;
use crate::cli::tools::Toolbox;
use crate::events::Cancel;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::policy::NetworkPolicy;
use crate::sandbox::command::Command;
use crate::sandbox::command::Exit;
use crate::sandbox::job::Job as _;
use crate::sandbox::job::JobError;
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
    let variables = arguments
        .env
        .iter()
        .map(|text| config.build_variable(text))
        .collect::<Result<Vec<_>, _>>()?;
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
    let (found, layout) = image::local(&arguments.image, &toolbox.store)?;
    let process = Process::of(
        &found.config,
        arguments.process.as_deref(),
        &arguments.arguments,
        variables,
    )?;
    let layers = Layers::unpack(&found, &layout, &toolbox.store, toolbox.builder.ground.owners())?;
    // From here on Ctrl-C is for the process.
    tools::block_on(async {
        let _listening = interrupt::listen(&toolbox.cancel);
        let ready = tokio::task::block_in_place(|| sandbox::start(&found, &layers, &toolbox))?;
        try_image(ready, &process, &ports, &toolbox.cancel).await
    })?
}

/// Starts the process and waits for its end; ports and the way out close before the sandbox goes.
async fn try_image(
    ready: Ready,
    process: &Process,
    ports: &[Port],
    cancel: &Cancel,
) -> Result<u8, CommandError> {
    let Ready { job, gateway, home } = ready;
    let command = command(&job, process, &home)?;
    let published = port::publish(ports, &job).await?;
    for (port, at) in ports.iter().zip(&published) {
        render::note(&format!(
            "port {} of the image is at http://{}",
            port.inside,
            at.address()
        ));
    }
    let program = process.arguments.first().cloned().unwrap_or_default();
    let exit = follow(&job, command, cancel).await;
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

/// Passes the process's output on until it ends, or until somebody asks this program to end.
async fn follow(job: &Arc<NativeJob>, command: Command, cancel: &Cancel) -> Result<Exit, JobError> {
    let kill = job.kill_handle();
    cancel.on_cancel(move || kill.kill());
    let job = Arc::clone(job);
    let running = tokio::task::spawn_blocking(move || job.run(&command, &render::pass_through));
    running.await.unwrap_or_else(|error| {
        Err(JobError::Ended {
            during: "running the image".to_owned(),
            why: error.to_string(),
        })
    })
}

fn exit_code(exit: Exit, program: String) -> Result<u8, CommandError> {
    let of_signal = |signal: i32| u8::try_from(SIGNAL_EXIT + signal).unwrap_or(u8::MAX);
    match exit {
        Exit::Code(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        Exit::Signal(signal) => Ok(of_signal(signal)),
        Exit::OutOfMemory { .. } | Exit::TooMuchOutput { .. } => Ok(of_signal(KILL)),
        Exit::Cancelled => Ok(INTERRUPTED_EXIT),
        Exit::TimedOut { after } => Err(StartError::TimedOut { after }.into()),
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

launch_failures! { PrepareError, ProcessError, StartError, UserError }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_decides_the_exit_code() {
        for (exit, code) in [
            (Exit::Code(0), 0),
            (Exit::Code(7), 7),
            (Exit::Signal(15), 143),
            (Exit::OutOfMemory { limit_bytes: 1 }, 137),
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
