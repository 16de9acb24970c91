//! One run of a buildpack's `bin/detect`.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use packhorse_spec::plan_toml::DetectPlan;

use crate::buildpack::environment::Step;
use crate::buildpack::failed_step::FailedStep;
use crate::buildpack::failed_step::Visitor;
use crate::buildpack::order::Participant;
use crate::buildpack::resolve::Outcome;
use crate::buildpack::resolve::Verdict;
use crate::buildpack::setting::Setting;
use crate::model::limit_reached::Limit;
use crate::model::limit_reached::LimitReached;
use crate::sandbox::command::Command;
use crate::sandbox::command::Exit;
use crate::sandbox::command::RunAs;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// The exit code that says "not for me".
const DOES_NOT_FIT: i32 = 100;
/// The largest plan that is read.
const PLAN_BYTES_MAX: u64 = 1 << 20;
/// The most output of one `bin/detect` that is kept.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// How much of the last line stands in a reason.
const REASON_CHARACTERS_MAX: usize = 200;

/// What a run of `bin/detect` came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// The verdict.
    pub outcome: Outcome,
    /// Both of its outputs, as they came.
    pub output: Vec<u8>,
}

/// Why a run says nothing about the source.
#[derive(Debug)]
pub enum NoVerdict {
    /// The sandbox failed.
    Job(JobError),
    /// The time was up.
    TimedOut(std::time::Duration),
    /// The build was cancelled.
    Cancelled,
}

impl From<JobError> for NoVerdict {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

/// Runs `bin/detect` with an empty plan file in a folder of its own, `plan.<number>`; the folder is gone afterwards.
pub fn run(
    job: &dyn Job,
    setting: &Setting,
    participant: &Participant,
    number: usize,
) -> Result<Ran, NoVerdict> {
    let folder = setting.paths.temporary.join(format!("plan.{number}"));
    let plan = make_plan(job, &folder)?;
    let result = run_with_plan(job, setting, participant, &plan);
    job.remove(&folder)?;
    result
}

/// Lets somebody look at a run that could not tell, and why: the app, and an empty plan as at its beginning.
pub fn visit(
    job: &dyn Job,
    setting: &Setting,
    participant: &Participant,
    why: &str,
    visitor: &dyn Visitor,
) -> Result<(), JobError> {
    let folder = setting.paths.temporary.join("plan.0");
    let plan = make_plan(job, &folder)?;
    visitor.visit(&FailedStep {
        job,
        command: &command(setting, participant, &plan),
        how: format!(
            "buildpack {} failed in its detect step: {why}",
            participant.name()
        ),
    });
    job.sweep()?;
    job.remove(&folder)
}

fn make_plan(job: &dyn Job, folder: &Path) -> Result<PathBuf, JobError> {
    let plan = folder.join("plan.toml");
    job.remove(folder)?;
    job.make_directory(folder)?;
    job.write_file(&plan, b"", 0o600)?;
    Ok(plan)
}

fn command(setting: &Setting, participant: &Participant, plan: &Path) -> Command {
    let buildpack = &participant.buildpack;
    let program = buildpack.directory.join("bin/detect");
    Command {
        name: format!("{} bin/detect", participant.name()),
        arguments: vec![program.into(), setting.paths.platform.clone().into(), plan.into()],
        environment: setting.variables(&setting.outside, buildpack, Step::Detect { plan }),
        working_directory: setting.paths.app.clone(),
        run_as: RunAs::User,
        timeout: None,
    }
}

fn run_with_plan(
    job: &dyn Job,
    setting: &Setting,
    participant: &Participant,
    plan: &Path,
) -> Result<Ran, NoVerdict> {
    let command = command(setting, participant, plan);
    let output = Mutex::new(Vec::new());
    let exit = job.run(&command, &|_, bytes| {
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
        output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    })?;
    let output = output.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outcome = match exit {
        Exit::Code(0) => read_plan(job, plan)?,
        Exit::Code(DOES_NOT_FIT) => {
            let reason = last_line(&output).unwrap_or_else(|| "does not fit".to_owned());
            Outcome {
                verdict: Verdict::Fail,
                reason,
            }
        }
        Exit::OverLimit(LimitReached {
            limit: Limit::WallClock(after),
            ..
        }) => return Err(NoVerdict::TimedOut(after)),
        Exit::OverLimit(reached) => error(format!("bin/detect {}", reached.limit), &output),
        Exit::Cancelled => return Err(NoVerdict::Cancelled),
        Exit::Code(code) => error(format!("bin/detect exited with code {code}"), &output),
        Exit::Signal(signal) => error(format!("bin/detect was ended by signal {signal}"), &output),
        Exit::NotStarted { why } => error(format!("bin/detect could not be started: {why}"), &output),
    };
    Ok(Ran { outcome, output })
}

fn read_plan(job: &dyn Job, path: &Path) -> Result<Outcome, JobError> {
    let read = match job.read_file(path, PLAN_BYTES_MAX) {
        Ok(read) => read,
        // Something else in its place, or too large: the buildpack's fault, not the sandbox's.
        Err(JobError::File { why, .. }) => return Ok(error(format!("its plan cannot be read: {why}"), b"")),
        Err(other) => return Err(other),
    };
    let parsed = match read.as_deref().map(std::str::from_utf8) {
        None => Err("it removed its plan".to_owned()),
        Some(Err(why)) => Err(format!("its plan is not UTF-8: {why}")),
        Some(Ok(text)) => {
            DetectPlan::parse(text).map_err(|why| format!("its plan cannot be understood: {}", why.message()))
        }
    };
    Ok(match parsed {
        Ok(plan) if plan.has_top_level_version() => error(
            "its plan has a `version` beside a name, where only `metadata` may have one".to_owned(),
            b"",
        ),
        Ok(plan) => Outcome {
            verdict: Verdict::Pass(plan),
            reason: String::new(),
        },
        Err(why) => error(why, b""),
    })
}

fn error(what: String, output: &[u8]) -> Outcome {
    let reason = match last_line(output) {
        Some(line) => format!("{what}: {line}"),
        None => what,
    };
    Outcome {
        verdict: Verdict::Error,
        reason,
    }
}

fn last_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    let printable = line.chars().filter(|character| !character.is_control());
    Some(printable.take(REASON_CHARACTERS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_line_that_says_something() {
        assert_eq!(
            last_line(b"looking\nno package.json\n\n").as_deref(),
            Some("no package.json")
        );
        assert_eq!(last_line(b"\x1b[31mred\x07\n").as_deref(), Some("[31mred"));
        assert_eq!(last_line(b" \n"), None);
        assert_eq!(
            last_line("é".repeat(500).as_bytes()).unwrap().chars().count(),
            REASON_CHARACTERS_MAX
        );
    }
}
