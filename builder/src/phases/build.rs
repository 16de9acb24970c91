//! Phase 4: the buildpacks run, one after another, with the operator's network.

use crate::buildpack::build;
use crate::buildpack::build::run_buildpacks as run_group;
use crate::buildpack::metadata::build_metadata;
use crate::buildpack::metadata::write_build_metadata;
use crate::events::Cancelled;
use crate::events::Event;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::phases::handover::Finished;
use crate::phases::handover::Restored;
use crate::phases::handover::Tools;
use crate::sandbox::job::Job as _;
use crate::sandbox::job::JobError;

/// Why the buildpacks did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A buildpack failed.
    #[error(transparent)]
    Buildpack(#[from] build::BuildError),
    /// The sandbox failed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Failure for RunError {
    fn facts(&self) -> Facts {
        match self {
            Self::Buildpack(error) => error.facts(),
            Self::Job(error) => error.facts(),
            Self::Cancelled(_) => Facts::user("interrupted"),
        }
    }
}

/// Runs each `bin/build` in turn, then closes the network and ends whatever is still running.
pub fn run_buildpacks(restored: Restored, tools: &Tools<'_>) -> Result<Finished, RunError> {
    let Restored { mut plan } = restored;
    tools.cancel.check()?;
    let job = &plan.sandbox.job;
    if let Some(gateway) = &plan.sandbox.gateway {
        gateway.set_policy(tools.builder.network.clone());
    }
    let outcome = run_group(
        job,
        &plan.setting,
        &plan.detected.group,
        plan.detected.plan.clone(),
        tools.watcher.as_ref(),
        tools.cancel,
        &mut |_| {},
    );
    if let Some(gateway) = plan.sandbox.gateway.take() {
        for refusal in gateway.refusals() {
            tools.watcher.tell(Event::Warning { text: format!("the network policy refused {refusal}") });
        }
    }
    let built = outcome?;
    job.sweep()?;
    write_build_metadata(job, &plan.setting.paths, &build_metadata(&built))?;
    Ok(Finished { plan, built })
}
