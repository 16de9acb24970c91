//! The reference lifecycle's recorded builds, and small buildpacks of our own, run for real in bubblewrap.
#![expect(
    clippy::disallowed_methods,
    reason = "the job of these tests is bubblewrap, and they copy their fixtures"
)]

mod job;
mod fixture;
mod image;
mod comparison;

mod detect_plan;
mod builds;
mod cache;
mod failures;
mod behaviour;
