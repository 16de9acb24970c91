//! Phase 3: brings back what the chosen buildpacks kept of the last build.

use packhorse_spec::identifier::BuildpackId;

use crate::buildpack::restore::LastBuild;
use crate::buildpack::restore::decide;
use crate::buildpack::restored_files;
use crate::events::Cancelled;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::phases::handover::Plan;
use crate::phases::handover::Restored;
use crate::phases::handover::Tools;
use crate::sandbox::job::Job as _;
use crate::sandbox::job::JobError;

/// Why the last build's layers could not be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The sandbox failed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The build was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Failure for RestoreError {
    fn facts(&self) -> Facts {
        match self {
            Self::Job(error) => error.facts(),
            Self::Cancelled(_) => Facts::user("interrupted"),
        }
    }
}

/// Mounts the last build's layers and removes from them what must not come back.
pub fn restore_layers(plan: Plan, tools: &Tools<'_>) -> Result<Restored, RestoreError> {
    tools.cancel.check()?;
    let job = &plan.sandbox.job;
    job.attach_layers()?;
    let group: Vec<BuildpackId> = plan.detected.group.iter().map(|one| one.member.id.clone()).collect();
    let last = LastBuild {
        image: plan.source.previous.as_ref().map(|image| &image.label),
        cache: plan.sandbox.cached.as_ref().map(|cached| &cached.metadata),
        skip_layers: false,
    };
    restored_files::apply(job, &plan.setting.paths, &decide(&group, last), tools.watcher.as_ref())?;
    Ok(Restored { plan })
}
