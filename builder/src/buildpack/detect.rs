//! Chooses the buildpacks of a build: runs each `bin/detect` once, group after group, until a group fits.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::thread;
use std::time::Duration;

use packhorse_spec::plan_toml::BuildPlan;

use crate::buildpack::bin_detect;
use crate::buildpack::bin_detect::NoVerdict;
use crate::buildpack::bin_detect::Ran;
use crate::buildpack::library::Buildpack;
use crate::buildpack::library::Library;
use crate::buildpack::order;
use crate::buildpack::order::Member;
use crate::buildpack::order::OrderError;
use crate::buildpack::order::Participant;
use crate::buildpack::order::Rejected;
use crate::buildpack::order::Search;
use crate::buildpack::order::Verified;
use crate::buildpack::resolve::Outcome;
use crate::buildpack::resolve::Verdict;
use crate::buildpack::setting::Setting;
use crate::buildpack::target;
use crate::events::Event;
use crate::events::Events;
use crate::events::Stream;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// How many `bin/detect` run at the same time.
const PARALLEL_MAX: usize = 32;
/// The most names in a buildpack's `bin`.
const PROGRAMS_MAX: usize = 10_000;
/// How many rejected groups stand in a message; the value has them all.
const GROUPS_TOLD_MAX: usize = 20;

/// The buildpacks of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct Detected {
    /// In the order in which they build.
    pub group: Vec<Participant>,
    /// Who provides what.
    pub plan: BuildPlan,
    /// The groups that were tried before, and why they do not fit.
    pub rejected: Vec<Rejected>,
}

/// Why no group was chosen.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The order cannot be followed.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// Every group says that it is not for this source.
    #[error("no buildpack fits the source{}", tried(.rejected))]
    NoneDetected {
        /// All groups, and why.
        rejected: Vec<Rejected>,
    },
    /// No group fits, and a buildpack that was needed could not tell.
    #[error("no buildpack fits the source, and some could not tell{}", tried(.rejected))]
    Errored {
        /// All groups, and why.
        rejected: Vec<Rejected>,
    },
    /// The time was up.
    #[error("buildpack {buildpack} was still detecting after {} seconds", .after.as_secs())]
    TimedOut {
        /// `id@version`.
        buildpack: String,
        /// The limit.
        after: Duration,
    },
    /// The sandbox failed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The build was cancelled.
    #[error("interrupted")]
    Cancelled,
}

impl Failure for DetectError {
    fn facts(&self) -> Facts {
        match self {
            Self::Order(source) => source.facts(),
            Self::NoneDetected { .. } => Facts::user("no_buildpack_detected"),
            Self::Errored { .. } => Facts::user("detect_errored"),
            Self::TimedOut { .. } => Facts::user("buildpack_timed_out"),
            Self::Job(source) => source.facts(),
            Self::Cancelled => Facts::user("interrupted"),
        }
    }
}

/// Chooses the first group of `order` that fits.
pub fn choose_group(
    job: &dyn Job,
    setting: &Setting,
    library: &Library,
    order: &Verified,
    events: &dyn Events,
) -> Result<Detected, DetectError> {
    let mut detector = Detector {
        job,
        setting,
        known: BTreeMap::new(),
        failed: None,
        asked: Vec::new(),
    };
    let takes_part = |buildpack: &Buildpack| setting.takes_part(buildpack);
    let search = order::search(order, library, &takes_part, &mut |members| {
        detector.detect(members)
    })?;
    let has_found = matches!(search, Search::Found { .. });
    detector.tell(events, has_found);
    match search {
        Search::Found {
            group,
            plan,
            rejected,
        } => {
            let names: Vec<String> = group.iter().map(Participant::name).collect();
            events.tell(Event::Decision {
                text: format!("chose {}", names.join(", ")),
            });
            Ok(Detected {
                group,
                plan,
                rejected,
            })
        }
        Search::NotFound {
            errored: true,
            rejected,
        } => {
            detector.let_visit()?;
            Err(DetectError::Errored { rejected })
        }
        Search::NotFound {
            errored: false,
            rejected,
        } => Err(DetectError::NoneDetected { rejected }),
    }
}

/// Remembers what each `bin/detect` came to, by `id@version`.
struct Detector<'a> {
    job: &'a dyn Job,
    setting: &'a Setting,
    known: BTreeMap<String, Ran>,
    /// The first that ran and could not tell.
    failed: Option<Participant>,
    asked: Vec<String>,
}

impl Detector<'_> {
    fn detect(&mut self, members: &[Member]) -> Result<Vec<Outcome>, DetectError> {
        let mut to_run: Vec<&Participant> = Vec::new();
        for Member { participant, .. } in members {
            let name = participant.name();
            if self.known.contains_key(&name) {
                continue;
            }
            self.asked.push(name.clone());
            match self.wrong_target(&participant.buildpack)? {
                Some(outcome) => {
                    self.known.insert(
                        name,
                        Ran {
                            outcome,
                            output: Vec::new(),
                        },
                    );
                }
                None => to_run.push(participant),
            }
        }
        for batch in to_run.chunks(PARALLEL_MAX) {
            self.run(batch)?;
        }
        Ok(members
            .iter()
            .filter_map(|member| self.known.get(&member.participant.name()))
            .map(|ran| ran.outcome.clone())
            .collect())
    }

    fn run(&mut self, batch: &[&Participant]) -> Result<(), DetectError> {
        let (job, setting) = (self.job, self.setting);
        let ran: Vec<Result<Ran, NoVerdict>> = thread::scope(|scope| {
            let running: Vec<_> = batch
                .iter()
                .enumerate()
                .map(|(number, participant)| {
                    scope.spawn(move || bin_detect::run(job, setting, participant, number))
                })
                .collect();
            let joined = running.into_iter().map(|thread| match thread.join() {
                Ok(ran) => ran,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        });
        // What a bin/detect left running must not see the next one.
        job.sweep()?;
        for (participant, ran) in batch.iter().zip(ran) {
            let buildpack = participant.name();
            let ran = ran.map_err(|why| match why {
                NoVerdict::Job(JobError::Cancelled) | NoVerdict::Cancelled => DetectError::Cancelled,
                NoVerdict::Job(source) => DetectError::Job(source),
                NoVerdict::TimedOut(after) => DetectError::TimedOut {
                    buildpack: buildpack.clone(),
                    after,
                },
            })?;
            if self.failed.is_none() && ran.outcome.verdict == Verdict::Error {
                self.failed = Some((*participant).clone());
            }
            self.known.insert(buildpack, ran);
        }
        Ok(())
    }

    /// The outcome of a buildpack that does not run on the run image's system. (The reference asks an optional one all
    /// the same, which its authors take for a fault.)
    fn wrong_target(&self, buildpack: &Buildpack) -> Result<Option<Outcome>, JobError> {
        let descriptor = &buildpack.descriptor;
        let has_build_program = || {
            let programs = self.job.list(&buildpack.directory.join("bin"), PROGRAMS_MAX)?;
            Ok::<_, JobError>(programs.iter().any(|program| program.name == OsStr::new("build")))
        };
        let targets = target::targets_of(descriptor, descriptor.targets.is_empty() && has_build_program()?);
        if target::fits(&self.setting.target, &targets) {
            return Ok(None);
        }
        let reason = format!(
            "is for {}, the run image is {}",
            target::describe(&targets),
            self.setting.target
        );
        Ok(Some(Outcome {
            verdict: Verdict::WrongTarget,
            reason,
        }))
    }

    /// Lets somebody look at the first that could not tell.
    fn let_visit(&self) -> Result<(), JobError> {
        let (Some(visitor), Some(participant)) = (&self.setting.visitor, &self.failed) else {
            return Ok(());
        };
        let ran = self.known.get(&participant.name());
        let why = ran.map_or("", |ran| ran.outcome.reason.as_str());
        bin_detect::visit(self.job, self.setting, participant, why, visitor.as_ref())
    }

    /// Shows the output of those that could not tell; all output, if nothing was found.
    fn tell(&self, events: &dyn Events, has_found: bool) {
        for name in &self.asked {
            let Some(ran) = self.known.get(name) else { continue };
            let could_not_tell = ran.outcome.verdict == Verdict::Error;
            if !ran.output.is_empty() && (could_not_tell || !has_found) {
                let text = String::from_utf8_lossy(&ran.output).into_owned();
                events.tell(Event::Output {
                    buildpack: name.clone(),
                    stream: Stream::Stdout,
                    text,
                });
            }
            if could_not_tell && has_found {
                let text = format!("{name} could not tell whether it fits: {}", ran.outcome.reason);
                events.tell(Event::Warning { text });
            }
        }
    }
}

/// `: tried …`, a line for all groups of a message; nothing if there are none.
fn tried(rejected: &[Rejected]) -> String {
    if rejected.is_empty() {
        return ": the order has no group".to_owned();
    }
    let one = |rejected: &Rejected| {
        let label = if rejected.group.is_empty() {
            "an empty group".to_owned()
        } else {
            rejected.group.join(" + ")
        };
        let own_name = format!("{label}: ");
        let reasons: Vec<&str> = rejected
            .reasons
            .iter()
            .map(|reason| reason.strip_prefix(&own_name).unwrap_or(reason))
            .collect();
        format!("{label} ({})", reasons.join("; "))
    };
    let mut told: Vec<String> = rejected.iter().take(GROUPS_TOLD_MAX).map(one).collect();
    if rejected.len() > GROUPS_TOLD_MAX {
        told.push(format!("and {} more groups", rejected.len() - GROUPS_TOLD_MAX));
    }
    format!("\n  tried: {}", told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_was_tried_and_why_it_does_not_fit() {
        let rejected = |group: &[&str], reasons: &[&str]| Rejected {
            group: group.iter().map(ToString::to_string).collect(),
            reasons: reasons.iter().map(ToString::to_string).collect(),
        };
        let error = DetectError::NoneDetected {
            rejected: vec![
                rejected(&["node@1"], &["node@1: no package.json"]),
                rejected(&["python@2", "pip@1"], &["pip@1 requires python"]),
            ],
        };
        assert_eq!(
            error.to_string(),
            "no buildpack fits the source\n  tried: node@1 (no package.json), python@2 + pip@1 (pip@1 requires python)"
        );
        assert_eq!(error.facts().code, "no_buildpack_detected");
        let many = DetectError::Errored {
            rejected: vec![rejected(&["a@1"], &["a@1: x"]); 25],
        };
        assert!(many.to_string().ends_with("a@1 (x), and 5 more groups"));
        let none = DetectError::NoneDetected { rejected: Vec::new() };
        assert_eq!(
            none.to_string(),
            "no buildpack fits the source: the order has no group"
        );
    }
}
