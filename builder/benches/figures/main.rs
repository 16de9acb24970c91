//! The figures of `docs/benchmarks.md`, taken in one run beside those of other programs. `scripts/bench` starts it.

#![expect(
    clippy::disallowed_methods,
    reason = "a bench starts programs and reads the clock"
)]
#![expect(clippy::print_stdout, reason = "a bench's result is what it prints")]

#[path = "../node_modules/mod.rs"]
mod node_modules;
#[path = "../one_job/mod.rs"]
mod one_job;

mod builds;
mod layers;
mod options;
mod registry;
mod rounds;
mod sandboxes;
mod table;
mod tree_build;
mod watched;

use std::path::Path;

use anyhow::Context;

use crate::options::Options;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // The bench starts itself again for these, as another user or in another mount namespace.
    match words.first().map(String::as_str) {
        Some("__jobs") => return rounds::jobs(&words[1..]),
        Some("__programs") => return rounds::programs(&words[1..]),
        _ => {}
    }
    let options = Options::parse(&words)?;
    println!("{}", machine(&options));
    // Part e needs what f makes.
    if "abef".chars().any(|part| options.wants(part)) {
        builds::measure(&options).context("measuring builds")?;
    }
    if options.wants('c') {
        sandboxes::measure(&options).context("measuring sandboxes")?;
    }
    if options.wants('d') || options.wants('e') {
        let tree = options.directory.join("tree");
        let made = node_modules::make(&tree.join("layers/bench/tree")).context("making the tree")?;
        if options.wants('d') {
            layers::measure(&tree, made).context("measuring layers")?;
        }
        if options.wants('e') {
            tree_build::measure(&options, &tree, made).context("measuring a build of the tree")?;
        }
    }
    Ok(())
}

/// What the figures depend on, in one line.
fn machine(options: &Options) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "packhorse {} on {cores} cores, Linux {}, load {} at the start; files on {}",
        env!("CARGO_PKG_VERSION"),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default(),
        file_system(&options.directory),
    )
}

/// The kind of file system that a folder is on, and where.
fn file_system(directory: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = |line: &str| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        directory
            .starts_with(point)
            .then(|| (point.len(), format!("{kind} ({device})")))
    };
    let deepest = mounts.lines().filter_map(below).max();
    deepest.map_or_else(|| "an unknown file system".to_owned(), |(_, kind)| kind)
}
