//! One command from the worker's side: start it, pass its output on, end it when its time is up, say how it ended.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::events::Stream;
use crate::sandbox::command::Command;
use crate::sandbox::command::Exit;
use crate::sandbox::command::RunAs;
use crate::sandbox::job::JobError;
use crate::sandbox::job::Output;
use crate::sandbox::message::Answer;
use crate::sandbox::message::Request;
use crate::sandbox::message::RunRequest;
use crate::sandbox::native::NativeJob;
use crate::sandbox::output::Capped;
use crate::sandbox::socket::Socket;

/// How long output is awaited after the command has ended, from what it left behind (`exec > >(tee log)`).
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);
/// What a killed command may take to end before the whole job is killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a command to its end.
pub(crate) fn run(job: &NativeJob, command: &Command, output: Output<'_>) -> Result<Exit, JobError> {
    if job.is_cancelled() {
        return Ok(Exit::Cancelled);
    }
    let turn = job.turns.begin();
    let kills_before = job.memory_kills();
    let mut capped = Capped::new(output, job.limits.output_bytes_max);
    let mut running = match Running::start(job, command, turn.number()) {
        Err(JobError::Cancelled) => return Ok(Exit::Cancelled),
        other => other?,
    };
    let ended = running.follow(&mut capped)?;
    running.read_the_rest(&mut capped);
    let is_to_blame = turn.was_alone() || ended.as_ref().is_some_and(was_killed);
    let over_memory = is_to_blame && job.memory_kills() > kills_before;
    exit_of(&running, ended, over_memory, &capped)
}

/// How far the wall clock is with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Running,
    Terminated,
    Killed,
    /// Not even KILL ended it in time, so the job was killed.
    JobKilled,
}

struct Running<'a> {
    job: &'a NativeJob,
    command: &'a Command,
    number: u64,
    answers: Socket,
    pipes: [(Stream, Option<OwnedFd>); 2],
    patience: Patience,
    /// When the patience ends.
    deadline: Instant,
    /// The limit that the deadline stands for.
    limit: Duration,
}

impl<'a> Running<'a> {
    fn start(job: &'a NativeJob, command: &'a Command, number: u64) -> Result<Self, JobError> {
        let failed = |error: Errno| JobError::Ended {
            during: command.name.clone(),
            why: error.to_string(),
        };
        let (stdout, stdout_inside) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let (stderr, stderr_inside) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        for pipe in [&stdout, &stderr] {
            // Only this end: the command's must block.
            rustix::io::ioctl_fionbio(pipe, true).map_err(failed)?;
        }
        let request = Request::Run(RunRequest {
            command: number,
            arguments: command.arguments.clone(),
            environment: environment(job, command),
            working_directory: command.working_directory.clone().into(),
            apart: job.is_apart(),
            as_root: command.run_as == RunAs::Root,
        });
        let answers = job.send(
            &command.name,
            &request,
            &[stdout_inside.as_fd(), stderr_inside.as_fd()],
        )?;
        let now = Instant::now();
        let own = command.timeout.map(|timeout| (now + timeout, timeout));
        let (deadline, limit) = match own {
            Some((deadline, timeout)) if deadline < job.deadline => (deadline, timeout),
            _ => (job.deadline, job.limits.timeout),
        };
        let pipes = [(Stream::Stdout, Some(stdout)), (Stream::Stderr, Some(stderr))];
        Ok(Self {
            job,
            command,
            number,
            answers,
            pipes,
            patience: Patience::Running,
            deadline,
            limit,
        })
    }

    /// Passes output on until the command has ended; none when the job died under it.
    fn follow(&mut self, output: &mut Capped<'_>) -> Result<Option<Answer>, JobError> {
        loop {
            let (answered, ready) = self.wait(self.deadline)?;
            self.read(ready, output);
            if output.is_over() && self.patience == Patience::Running {
                self.lose_patience();
            }
            if answered {
                return Ok(self
                    .answers
                    .receive::<Answer>()
                    .ok()
                    .flatten()
                    .map(|(answer, _)| answer));
            }
            if Instant::now() >= self.deadline {
                self.lose_patience();
            }
        }
    }

    /// Waits for an answer, for output, or for the time. Says whether there is an answer, and which pipes have
    /// something.
    fn wait(&self, until: Instant) -> Result<(bool, [bool; 2]), JobError> {
        let mut polled = vec![PollFd::new(&self.answers, PollFlags::IN)];
        let mut position = [None; 2];
        for (index, (_, pipe)) in self.pipes.iter().enumerate() {
            if let Some(pipe) = pipe {
                position[index] = Some(polled.len());
                polled.push(PollFd::new(pipe, PollFlags::IN));
            }
        }
        let timeout = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                return Err(JobError::Ended {
                    during: self.command.name.clone(),
                    why: error.to_string(),
                });
            }
        }
        let is_ready = |index: usize| !polled[index].revents().is_empty();
        Ok((is_ready(0), position.map(|index| index.is_some_and(is_ready))))
    }

    fn read(&mut self, ready: [bool; 2], output: &mut Capped<'_>) {
        for ((stream, pipe), ready) in self.pipes.iter_mut().zip(ready) {
            let Some(descriptor) = pipe.as_ref().filter(|_| ready) else {
                continue;
            };
            match output.read_from(descriptor, *stream) {
                Ok(true) | Err(Errno::AGAIN) => {}
                Ok(false) | Err(_) => *pipe = None,
            }
        }
    }

    /// After the end: what is in the pipes, and for a moment what still comes.
    fn read_the_rest(&mut self, output: &mut Capped<'_>) {
        let until = Instant::now() + LAST_OUTPUT_TIMEOUT;
        while self.pipes.iter().any(|(_, pipe)| pipe.is_some()) && Instant::now() < until {
            let mut polled: Vec<PollFd<'_>> = self
                .pipes
                .iter()
                .filter_map(|(_, pipe)| pipe.as_ref())
                .map(|pipe| PollFd::new(pipe, PollFlags::IN))
                .collect();
            let timeout = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
            if !matches!(
                rustix::event::poll(&mut polled, timeout.as_ref()),
                Ok(1..) | Err(Errno::INTR)
            ) {
                return;
            }
            self.read([true, true], output);
        }
    }

    fn lose_patience(&mut self) {
        (self.patience, self.deadline) = match self.patience {
            Patience::Running => {
                self.signal(libc::SIGTERM);
                (Patience::Terminated, Instant::now() + self.job.grace)
            }
            Patience::Terminated => {
                self.signal(libc::SIGKILL);
                (Patience::Killed, Instant::now() + KILL_TIMEOUT)
            }
            Patience::Killed | Patience::JobKilled => {
                self.job.end();
                (Patience::JobKilled, Instant::now() + KILL_TIMEOUT)
            }
        };
    }

    fn signal(&self, signal: i32) {
        let request = Request::Signal {
            command: self.number,
            signal,
        };
        // What comes of it is seen at the command's socket, and a job that does not answer must not hold us up.
        drop(self.job.send(&self.command.name, &request, &[]));
    }
}

/// The command's own variables, and those of the job that it has not set itself.
fn environment(job: &NativeJob, command: &Command) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let mut all = command.environment.clone();
    for (name, value) in &job.variables {
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name.clone(), value.clone()));
        }
    }
    all
}

/// Whether a command died by KILL, as the kernel kills for memory: itself, or what the shell ran that says so with its
/// exit code.
fn was_killed(answer: &Answer) -> bool {
    match answer {
        Answer::Killed { signal } => *signal == libc::SIGKILL,
        Answer::Exited { code } => *code == 128 + libc::SIGKILL,
        _ => false,
    }
}

fn exit_of(
    running: &Running<'_>,
    answer: Option<Answer>,
    over_memory: bool,
    output: &Capped<'_>,
) -> Result<Exit, JobError> {
    let job = running.job;
    let out_of_memory = Exit::OutOfMemory {
        limit_bytes: job.limits.memory_bytes_max.unwrap_or(0),
    };
    // What was ended for one reason may have had another by the time that it was gone.
    let ended_by_us = if output.is_over() {
        Exit::TooMuchOutput {
            limit_bytes: job.limits.output_bytes_max,
        }
    } else {
        Exit::TimedOut { after: running.limit }
    };
    let Some(answer) = answer else {
        return match () {
            () if job.is_cancelled() => Ok(Exit::Cancelled),
            () if running.patience != Patience::Running => Ok(ended_by_us),
            () if job.reason().0 => Ok(out_of_memory),
            () => Err(job.death(&running.command.name)),
        };
    };
    match answer {
        _ if running.patience != Patience::Running || output.is_over() => Ok(ended_by_us),
        Answer::NotStarted { why } => Ok(Exit::NotStarted { why }),
        Answer::Exited { code: 0 } => {
            if over_memory {
                output.note("a process of this step was killed because memory ran out");
            }
            Ok(Exit::Code(0))
        }
        Answer::Exited { .. } | Answer::Killed { .. } if over_memory => Ok(out_of_memory),
        Answer::Exited { code } => Ok(Exit::Code(code)),
        Answer::Killed { signal } => Ok(Exit::Signal(signal)),
        other @ (Answer::Done | Answer::Missing | Answer::Failed { .. }) => {
            let why = format!("an odd answer: {other:?}");
            Err(JobError::Ended {
                during: running.command.name.clone(),
                why,
            })
        }
    }
}
