//! One build from source to receipt: the six phases in order, and nothing else; or the first two of them, for a plan.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::error::BuildError;
use crate::events::Event;
use crate::events::Watcher;
use crate::model::phase::Phase;
use crate::model::receipt::Receipt;
use crate::model::request::BuildRequest;
use crate::phases::build;
use crate::phases::detect;
use crate::phases::export;
use crate::phases::handover::Fetched;
use crate::phases::handover::Tools;
use crate::phases::plan_report::PlanReport;
use crate::phases::publish;
use crate::phases::restore;
use crate::phases::source;
use crate::phases::source::SourceError;
use crate::secrets::redaction::Patterns;
use crate::secrets::redactor::Redactor;

/// Builds an image. Each phase needs what only the one before it can make; a source that did not change since a build
/// whose image is still in place ends after the first.
///
/// Must run on a multi-threaded tokio runtime: phases block.
pub async fn build_image(request: &BuildRequest, tools: &Tools<'_>) -> Result<Receipt, BuildError> {
    let watcher = without_secrets(request, tools)?;
    let tools = &Tools {
        watcher: &watcher,
        ..*tools
    };
    let outcome = run_phases(request, tools).await;
    if !request.secrets.is_empty() {
        tokio::task::block_in_place(|| leave_nothing(tools));
    }
    outcome
}

async fn run_phases(request: &BuildRequest, tools: &Tools<'_>) -> Result<Receipt, BuildError> {
    let mut clock = Clock::new(tools);

    clock.start(Phase::Source);
    let source = match source::fetch(request, tools).await? {
        Fetched::Unchanged(receipt) => return Ok(clock.stamp(receipt)),
        Fetched::Changed(source) => *source,
    };

    clock.start(Phase::Detect);
    let plan = detect::choose_buildpacks(source, request, tools).await?;

    clock.start(Phase::Restore);
    let restored = tokio::task::block_in_place(|| restore::restore_layers(plan, tools))?;

    clock.start(Phase::Build);
    let finished = tokio::task::block_in_place(|| build::run_buildpacks(restored, tools))?;

    clock.start(Phase::Export);
    let image = tokio::task::block_in_place(|| export::assemble_image(finished, tools))?;

    clock.start(Phase::Publish);
    let receipt = publish::publish_image(image, request, tools).await?;

    Ok(clock.stamp(receipt))
}

/// Chooses the buildpacks of a source, and builds nothing: the first two phases on a throw-away copy of the source. A
/// request that does not say `force` may be answered from the receipt of an earlier build.
pub async fn plan_source(request: &BuildRequest, tools: &Tools<'_>) -> Result<PlanReport, BuildError> {
    let mut clock = Clock::new(tools);

    clock.start(Phase::Source);
    let source = match source::fetch(request, tools).await? {
        Fetched::Unchanged(receipt) => return Ok(PlanReport::of_receipt(&receipt)),
        Fetched::Changed(source) => *source,
    };

    clock.start(Phase::Detect);
    let plan = detect::choose_buildpacks(source, request, tools).await?;
    clock.end();

    Ok(PlanReport::of(&plan))
}

/// Who watches; with secrets in the build, nothing of them comes through.
fn without_secrets(request: &BuildRequest, tools: &Tools<'_>) -> Result<Watcher, BuildError> {
    let patterns = Patterns::of(&request.secrets).map_err(SourceError::from)?;
    Ok(match patterns {
        Some(patterns) => Arc::new(Redactor::new(Arc::clone(tools.watcher), patterns)),
        None => Arc::clone(tools.watcher),
    })
}

/// Removes at once what the steps have written and nobody keeps, which else waits for the next command: it may have a
/// secret in it.
fn leave_nothing(tools: &Tools<'_>) {
    if let Err(error) = tools.store.empty_trash() {
        tools.watcher.tell(Event::Warning {
            text: format!(
                "what the build has discarded is still on the disk, and may have a secret in it: {error}"
            ),
        });
    }
}

/// Tells the watcher when phases start and end, and remembers how long each took.
struct Clock<'a> {
    tools: &'a Tools<'a>,
    running: Option<(Phase, Instant)>,
    ended: Vec<(Phase, Duration)>,
}

impl<'a> Clock<'a> {
    fn new(tools: &'a Tools<'a>) -> Self {
        Self {
            tools,
            running: None,
            ended: Vec::new(),
        }
    }

    fn start(&mut self, phase: Phase) {
        self.end();
        self.tools.watcher.tell(Event::PhaseStarted { phase });
        self.running = Some((phase, Instant::now()));
    }

    fn end(&mut self) {
        if let Some((phase, started)) = self.running.take() {
            let elapsed = started.elapsed();
            self.tools.watcher.tell(Event::PhaseEnded { phase, elapsed });
            self.ended.push((phase, elapsed));
        }
    }

    fn stamp(mut self, receipt: Receipt) -> Receipt {
        self.end();
        Receipt {
            phases: std::mem::take(&mut self.ended),
            ..receipt
        }
    }
}

impl Drop for Clock<'_> {
    /// A phase that fails has ended too.
    fn drop(&mut self) {
        self.end();
    }
}
