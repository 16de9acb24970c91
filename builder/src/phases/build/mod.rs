//! Phase 4: the buildpacks run, one after another, with the operator's network; their layers are written meanwhile.

mod early;

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::channel;

use crate::buildpack::build;
use crate::buildpack::build::Built;
use crate::buildpack::build::run_buildpacks as run_group;
use crate::buildpack::metadata::build_metadata;
use crate::buildpack::metadata::write_build_metadata;
use crate::buildpack::output::BuildpackOutput;
use crate::events::Cancelled;
use crate::events::Event;
use crate::events::Events;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::refused::Refused;
use crate::model::refused::places;
use crate::network::gateway::Gateway;
use crate::network::refusals::Refusal;
use crate::phases::handover::EarlyLayer;
use crate::phases::handover::Finished;
use crate::phases::handover::Plan;
use crate::phases::handover::Restored;
use crate::phases::handover::Tools;
use crate::sandbox::job::Job as _;
use crate::sandbox::job::JobError;
use crate::store::error::StoreError;

/// Why the buildpacks did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A buildpack failed.
    #[error(transparent)]
    Buildpack(#[from] build::BuildError),
    /// A buildpack failed that needs the network, and the build is offline.
    #[error("{source}: it asked for {}, and the build is offline", places.join(", "))]
    Offline {
        /// Where it wanted to go.
        places: Vec<String>,
        /// How it failed.
        source: build::BuildError,
    },
    /// The time of the file system could not be read.
    #[error("cannot write `{path}`: {source}")]
    Clock {
        /// A file beside the build's own.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
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
            Self::Offline { .. } => Facts::user("buildpack_offline"),
            Self::Clock { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::Clock { .. } => Facts::platform("store_unusable"),
            Self::Store(error) => error.facts(),
            Self::Job(error) => error.facts(),
            Self::Cancelled(error) => error.facts(),
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
    job.open_network();
    let outcome = run_and_write(&plan, tools);
    let refused = refused(plan.sandbox.gateway.take().as_ref(), tools);
    let (built, early) = outcome.map_err(|error| blame_the_policy(error, &refused, tools))?;
    job.sweep()?;
    write_build_metadata(job, &plan.setting.paths, &build_metadata(&built))?;
    Ok(Finished { plan, built, early })
}

/// Tells what the policy refused to the buildpacks, once all have had their turn.
fn refused(gateway: Option<&Gateway>, tools: &Tools<'_>) -> Vec<Refused> {
    let refused: Vec<Refused> = gateway
        .map(Gateway::refusals)
        .into_iter()
        .flatten()
        .filter_map(|refusal: Refusal| refusal.refused())
        .collect();
    if !refused.is_empty() {
        let refused = refused.clone();
        tools.watcher.tell(Event::Refused { refused });
    }
    refused
}

/// Offline, a buildpack that failed after a refusal failed for want of a network.
fn blame_the_policy(error: RunError, refused: &[Refused], tools: &Tools<'_>) -> RunError {
    let places = match &error {
        RunError::Buildpack(build::BuildError::Failed { buildpack, .. })
            if tools.builder.network.is_offline() =>
        {
            places(refused, buildpack.as_str())
        }
        _ => Vec::new(),
    };
    match error {
        RunError::Buildpack(source) if !places.is_empty() => RunError::Offline { places, source },
        other => other,
    }
}

/// Hands events on, and tells the gateway whose turn it is.
struct Turns<'a> {
    gateway: Option<&'a Gateway>,
    next: &'a dyn Events,
}

impl Events for Turns<'_> {
    fn tell(&self, event: Event) {
        if let (Event::BuildpackStarted { buildpack }, Some(gateway)) = (&event, self.gateway) {
            gateway.set_asker(buildpack);
        }
        self.next.tell(event);
    }
}

/// Runs the group. While a buildpack runs, the layers of those before it are written.
fn run_and_write(plan: &Plan, tools: &Tools<'_>) -> Result<(Built, Vec<EarlyLayer>), RunError> {
    let (job, pending, layers) = (
        &plan.sandbox.job,
        &plan.sandbox.pending,
        &plan.setting.paths.layers,
    );
    let blobs = tools.store.blobs()?;
    let folder = job.open_directory(layers)?;
    let mut left = plan.detected.group.len();
    let mut clock = Ok(());
    let turns = Turns {
        gateway: plan.sandbox.gateway.as_ref(),
        next: tools.watcher.as_ref(),
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let (guard, stop) = (&plan.source.guard, tools.cancel.flag());
        let writing = scope.spawn(|| early::write_all(&{ receiver }, &blobs, &folder, layers, guard, stop));
        let mut after_buildpack = |output: &BuildpackOutput| {
            left -= 1;
            // Nothing comes after the last one: the export writes its layers.
            if left > 0 && clock.is_ok() {
                match early::turn_of_time(pending.folder()) {
                    Ok(exited) => {
                        for ready in early::ready(&output.layers, pending.upper(), exited) {
                            // The writer only ends after this sender.
                            let _sent = sender.send(ready);
                        }
                    }
                    Err(error) => clock = Err(error),
                }
            }
        };
        let built = run_group(
            job,
            &plan.setting,
            &plan.detected.group,
            plan.detected.plan.clone(),
            &turns,
            tools.cancel,
            &mut after_buildpack,
        );
        drop(sender);
        let early = writing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        clock?;
        Ok((built?, early))
    })
}
