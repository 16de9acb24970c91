//! The start of a sandbox, `true` in it, and its end; as whoever runs this: root, or a plain user with subordinate ids.

#![expect(
    clippy::disallowed_methods,
    reason = "a bench is a program of its own, with an environment"
)]
#![expect(clippy::print_stdout, reason = "a bench's result is what it prints")]

mod one_job;

use std::env;
use std::path::Path;
use std::sync::LazyLock;

use divan::Bencher;
use packhorse::model::rung::RungChoice;
use packhorse::sandbox;
use packhorse::sandbox::identity::Surroundings;
use packhorse::sandbox::ladder::Ground;
use packhorse::sandbox::spec::Network;
use tempfile::TempDir;

use crate::one_job::World;

/// What jobs stand on. Asked for before any thread starts, as a plain user becomes root of a namespace here.
static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let surroundings = Surroundings::read(env::var_os("PATH").as_deref(), env::var("USER").ok().as_deref());
    let kept_nowhere = Path::new("/nonexistent");
    let entered = sandbox::enter(&surroundings, RungChoice::default(), kept_nowhere);
    entered.expect("this machine allows sandboxes").0
});

fn main() {
    println!("sandboxes as {}", GROUND.words());
    divan::main();
}

fn world() -> (TempDir, World) {
    let place = tempfile::tempdir().expect("a temporary folder can be made");
    let program = Path::new(env!("CARGO_BIN_EXE_packhorse"));
    let world = World::new(place.path(), program, *GROUND).expect("busybox-static is installed");
    (place, world)
}

/// Without a way out, as `detect` of a plan.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn offline(bencher: Bencher<'_, '_>) {
    let (_place, world) = world();
    bencher.bench_local(|| world.round(Network::None).expect("the job runs"));
}

/// With the listeners and the name server's socket that every build has.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn with_listeners(bencher: Bencher<'_, '_>) {
    let (_place, world) = world();
    bencher.bench_local(|| {
        world
            .round(Network::Listeners { ports: Vec::new() })
            .expect("the job runs");
    });
}
