//! One command from the worker's side: start it, pass its output on, end it when its time is up, say how it ended.

use std::os::fd::AsFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;

use crate::model::limit_reached::Limit;
use crate::model::limit_reached::LimitReached;
use crate::sandbox::attachment::Attachment;
use crate::sandbox::attachment::Control;
use crate::sandbox::attachment::Input;
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
use crate::sandbox::streams::Streams;
use crate::sandbox::watch::Watch;

/// How long output is awaited after the command has ended, from what it left behind (`exec > >(tee log)`).
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);
/// What a killed command may take to end before the whole job is killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a command to its end.
pub(crate) fn run(
    job: &NativeJob,
    command: &Command,
    attachment: Option<&Attachment<'_>>,
    output: Output<'_>,
) -> Result<Exit, JobError> {
    if job.is_cancelled() {
        return Ok(Exit::Cancelled);
    }
    let turn = job.turns.begin();
    let kills_before = job.memory_kills();
    let output_bytes_max = attachment.map_or(job.limits.output_bytes_max, |_| u64::MAX);
    let mut capped = Capped::new(output, output_bytes_max);
    let mut watch = Watch::begin(job, attachment.is_some());
    let mut running = match Running::start(job, command, attachment, turn.number()) {
        Err(JobError::Cancelled) => return Ok(Exit::Cancelled),
        other => other?,
    };
    let ended = running.follow(&mut capped, &mut watch)?;
    running.read_the_rest(&mut capped);
    if capped.is_over() {
        // What was ended for one reason may have had another by the time that it was gone.
        running.reached = Some(LimitReached::of(Limit::Output(job.limits.output_bytes_max)));
    }
    let is_to_blame = turn.was_alone() || ended.as_ref().is_some_and(was_killed);
    let shortage = if is_to_blame && job.memory_kills() > kills_before {
        Some(watch.out_of_memory())
    } else {
        watch.out_of_processes().filter(|_| turn.was_alone())
    };
    exit_of(running, ended, shortage, &watch, &capped)
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
    attachment: Option<&'a Attachment<'a>>,
    number: u64,
    answers: Socket,
    /// An answer that came in place of its terminal.
    early: Option<Answer>,
    streams: Streams<'a>,
    patience: Patience,
    /// When the patience ends.
    deadline: Instant,
    /// The limit that the deadline stands for.
    limit: Duration,
    /// Why it is being ended.
    reached: Option<LimitReached>,
}

impl<'a> Running<'a> {
    fn start(
        job: &'a NativeJob,
        command: &'a Command,
        attachment: Option<&'a Attachment<'a>>,
        number: u64,
    ) -> Result<Self, JobError> {
        let failed = |error: Errno| JobError::Ended {
            during: command.name.clone(),
            why: error.to_string(),
        };
        let input = attachment.map_or(Input::Nothing, |attachment| attachment.input);
        let (mut streams, inside, run_input) = Streams::open(input).map_err(failed)?;
        let request = Request::Run(RunRequest {
            command: number,
            arguments: command.arguments.clone(),
            environment: environment(job, command),
            working_directory: command.working_directory.clone().into(),
            apart: job.is_apart(),
            as_root: command.run_as == RunAs::Root,
            input: run_input,
        });
        let inside_borrowed: Vec<_> = inside.iter().map(AsFd::as_fd).collect();
        let answers = job.send(&command.name, &request, &inside_borrowed)?;
        drop(inside);
        let mut early = None;
        if matches!(input, Input::Terminal { .. }) {
            early = match answers.receive::<Answer>() {
                Ok(Some((Answer::Terminal, descriptors))) => {
                    let terminal = descriptors
                        .into_iter()
                        .next()
                        .ok_or(Errno::BADF)
                        .map_err(failed)?;
                    streams.take_terminal(input, terminal).map_err(failed)?;
                    None
                }
                Ok(Some((other, _))) => Some(other),
                Ok(None) | Err(_) => return Err(job.death(&command.name)),
            };
        }
        let now = Instant::now();
        let own = command.timeout.map(|timeout| (now + timeout, timeout));
        let (deadline, limit) = match (attachment.and_then(|attachment| attachment.time), own) {
            (Some(time), _) => (now + time, time),
            (None, Some((deadline, timeout))) if deadline < job.deadline => (deadline, timeout),
            _ => (job.deadline, job.limits.timeout),
        };
        Ok(Self {
            job,
            command,
            attachment,
            number,
            answers,
            early,
            streams,
            patience: Patience::Running,
            deadline,
            limit,
            reached: None,
        })
    }

    /// Passes output on until the command has ended; none when the job died under it.
    fn follow(&mut self, output: &mut Capped<'_>, watch: &mut Watch<'_>) -> Result<Option<Answer>, JobError> {
        if let Some(answer) = self.early.take() {
            return Ok(Some(answer));
        }
        loop {
            let [answered, told, stdout, stderr, way_in] = self.wait(watch)?;
            self.streams.read([stdout, stderr], output);
            if stdout || stderr {
                watch.heard();
            }
            if way_in {
                self.streams.feed();
            }
            if told {
                self.obey();
            }
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
            if self.patience == Patience::Running
                && let Some(reached) = watch.look()
            {
                self.reached = Some(reached);
                self.lose_patience();
            }
            if Instant::now() >= self.deadline {
                if self.patience == Patience::Running {
                    self.reached = Some(watch.timed_out(self.limit));
                }
                self.lose_patience();
            }
        }
    }

    /// Waits for an answer, for something told, for output, for the way in, or for the time to look or to end; says
    /// which of them is ready, in this order.
    fn wait(&self, watch: &Watch<'_>) -> Result<[bool; 5], JobError> {
        let is_running = self.patience == Patience::Running;
        let look = watch.next().filter(|_| is_running);
        let until = look.map_or(self.deadline, |look| look.min(self.deadline));
        let refusals = watch.refusals().filter(|_| is_running);
        let controls = self.attachment.map(|attachment| attachment.controls);
        let [stdout, stderr, way_in] = self.streams.watched();
        let watched = [
            Some(PollFd::new(&self.answers, PollFlags::IN)),
            controls.map(|controls| PollFd::new(controls, PollFlags::IN)),
            stdout,
            stderr,
            way_in,
            refusals.map(|refusals| PollFd::new(refusals, PollFlags::PRI)),
        ];
        let (positions, mut polled): (Vec<usize>, Vec<PollFd<'_>>) = watched
            .into_iter()
            .enumerate()
            .filter_map(|(position, watched)| Some((position, watched?)))
            .unzip();
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
        let mut ready = [false; 5];
        for (position, polled) in positions.into_iter().zip(&polled) {
            // The watch looks by itself whether processes were refused.
            if let Some(ready) = ready.get_mut(position) {
                *ready = !polled.revents().is_empty();
            }
        }
        Ok(ready)
    }

    /// Passes on what the command is told.
    fn obey(&self) {
        let told = self.attachment.map(|attachment| attachment.controls.take());
        for control in told.unwrap_or_default() {
            match control {
                Control::Signal(signal) => self.signal(signal),
                Control::Size(size) => self.streams.resize(size),
            }
        }
    }

    /// After the end: what is in the pipes, and for a moment what still comes.
    fn read_the_rest(&mut self, output: &mut Capped<'_>) {
        let until = Instant::now() + LAST_OUTPUT_TIMEOUT;
        while self.streams.has_output() && Instant::now() < until {
            let [stdout, stderr, _] = self.streams.watched();
            let mut polled: Vec<PollFd<'_>> = [stdout, stderr].into_iter().flatten().collect();
            let timeout = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
            if !matches!(
                rustix::event::poll(&mut polled, timeout.as_ref()),
                Ok(1..) | Err(Errno::INTR)
            ) {
                return;
            }
            self.streams.read([true, true], output);
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

/// `shortage` is what the command had too little of, if it failed for it.
fn exit_of(
    running: Running<'_>,
    answer: Option<Answer>,
    shortage: Option<LimitReached>,
    watch: &Watch<'_>,
    output: &Capped<'_>,
) -> Result<Exit, JobError> {
    let job = running.job;
    let Some(answer) = answer else {
        if job.is_cancelled() {
            return Ok(Exit::Cancelled);
        }
        if let Some(reached) = running.reached {
            return Ok(Exit::OverLimit(reached));
        }
        let reason = job.reason();
        if !reason.out_of_memory {
            return Err(job.death(&running.command.name));
        }
        let mut reached = watch.out_of_memory();
        if !reason.used_by.is_empty() {
            reached.used_by = reason.used_by;
        }
        return Ok(Exit::OverLimit(reached));
    };
    if let Some(reached) = running.reached {
        return Ok(Exit::OverLimit(reached));
    }
    match (answer, shortage) {
        (Answer::NotStarted { why }, _) => Ok(Exit::NotStarted { why }),
        (Answer::Exited { code: 0 }, shortage) => {
            match shortage.map(|reached| reached.limit) {
                Some(Limit::Memory(_)) => {
                    output.note("a process of this step was killed because memory ran out");
                }
                Some(Limit::Processes(count)) => {
                    output.note(&format!(
                        "this step could not start more than {count} processes at once"
                    ));
                }
                _ => {}
            }
            Ok(Exit::Code(0))
        }
        (Answer::Exited { .. } | Answer::Killed { .. }, Some(reached)) => Ok(Exit::OverLimit(reached)),
        (Answer::Exited { code }, None) => Ok(Exit::Code(code)),
        (Answer::Killed { signal }, None) => Ok(Exit::Signal(signal)),
        (other @ (Answer::Done | Answer::Terminal | Answer::Missing | Answer::Failed { .. }), _) => {
            let why = format!("an odd answer: {other:?}");
            Err(JobError::Ended {
                during: running.command.name.clone(),
                why,
            })
        }
    }
}
