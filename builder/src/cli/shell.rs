//! `build --shell-on-failure`: a shell for a person, in the exact surroundings of the step that failed.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::buildpack::failed_step::FailedStep;
use crate::buildpack::failed_step::Visitor;
use crate::cli::recorder::Recorder;
use crate::cli::render;
use crate::cli::render::Manner;
use crate::cli::render::Renderer;
use crate::cli::terminal;
use crate::cli::terminal::Raw;
use crate::sandbox::attachment::Attachment;
use crate::sandbox::attachment::Controls;
use crate::sandbox::attachment::Input;
use crate::sandbox::command::Command;
use crate::sandbox::command::Exit;
use crate::sandbox::job::JobError;

/// How long a shell may stay open. The build's own wall clock does not count it.
pub const SHELL_TIMEOUT: Duration = Duration::from_secs(8 * 60 * 60);
/// The most programs in `/bin` that are looked at.
const PROGRAMS_MAX: usize = 100_000;

/// Opens a shell where a step has failed.
#[derive(Debug)]
pub struct Shell {
    renderer: Arc<Recorder<Renderer>>,
    /// What kind of terminal it is: `TERM`.
    terminal: String,
}

/// Why there is no shell.
#[derive(Debug, thiserror::Error)]
enum NoShell {
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] io::Error),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error("the build image has no `{program}` that can be started: {why}")]
    NotStarted { program: &'static str, why: String },
}

impl Shell {
    /// A shell on a terminal of the kind `terminal`, which `renderer` leaves alone meanwhile.
    pub fn new(renderer: Arc<Recorder<Renderer>>, terminal: String) -> Self {
        Self { renderer, terminal }
    }

    fn open(&self, step: &FailedStep<'_>) -> Result<(), NoShell> {
        let program = program(step)?;
        let command = self.command(step, program);
        let controls = Arc::new(Controls::new()?);
        let _followed = terminal::follow_size(&controls);
        let attachment = Attachment {
            input: Input::Terminal {
                keyboard: Some(rustix::stdio::stdin()),
                size: terminal::size(),
            },
            controls: &controls,
            time: Some(SHELL_TIMEOUT),
        };
        let raw = Raw::begin()?;
        let exit = step
            .job
            .run_attached(&command, &attachment, &render::pass_through);
        drop(raw);
        match exit? {
            Exit::NotStarted { why } => Err(NoShell::NotStarted { program, why }),
            // How a person leaves a shell says nothing of the build.
            _ => Ok(()),
        }
    }

    /// The failed step's command with a shell for its program. Of the environment `TERM` alone is added.
    fn command(&self, step: &FailedStep<'_>, program: &'static str) -> Command {
        let mut environment = step.command.environment.clone();
        if !self.terminal.is_empty() && !environment.iter().any(|(name, _)| name == "TERM") {
            environment.push(("TERM".into(), self.terminal.clone().into()));
        }
        // Start-up files would change what the step had.
        let plain = (program == BASH).then(|| OsString::from("--norc"));
        Command {
            name: "the shell in the failed step".to_owned(),
            arguments: std::iter::once(program.into())
                .chain(plain)
                .chain(["-i".into()])
                .collect(),
            environment,
            timeout: None,
            ..step.command.clone()
        }
    }
}

impl Visitor for Shell {
    fn visit(&self, step: &FailedStep<'_>) {
        let _held = self.renderer.next().hold();
        render::note(&introduction(step));
        match self.open(step) {
            Ok(()) => render::note("the shell has ended, and the build ends as it would have without it"),
            Err(error) => render::note(&format!("there is no shell: {error}")),
        }
    }
}

const BASH: &str = "/bin/bash";
const SH: &str = "/bin/sh";

/// What the build image has.
fn program(step: &FailedStep<'_>) -> Result<&'static str, JobError> {
    let programs = step.job.list(Path::new("/bin"), PROGRAMS_MAX)?;
    let has_bash = programs.iter().any(|program| program.name == "bash");
    Ok(if has_bash { BASH } else { SH })
}

fn introduction(step: &FailedStep<'_>) -> String {
    let words: Vec<String> = step
        .command
        .arguments
        .iter()
        .map(|word| word.display().to_string())
        .collect();
    format!(
        "\n{how}\nThis is a shell in its sandbox, at `{directory}`: same files, environment, user and network.\n\
         The step was: {words}\nLeave it with `exit` or Ctrl-D; the build then ends with this failure, whatever you do here.",
        how = step.how,
        directory = step.command.working_directory.display(),
        words = words.join(" "),
    )
}

/// Why a build in this surrounding cannot have a shell, if it cannot.
pub fn obstacle(manner: Manner) -> Option<&'static str> {
    if manner == Manner::Json {
        return Some(
            "--shell-on-failure needs the terminal, which --progress json writes to: leave out one of them",
        );
    }
    if !terminal::is_input() || !terminal::is_output() {
        return Some(
            "--shell-on-failure needs a terminal as standard input and standard output: leave it out where there is none",
        );
    }
    None
}
