//! The same small thing again and again, in a process of its own; its times go to stdout, one a line in nanoseconds.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::bail;
use anyhow::ensure;
use packhorse::model::rung::RungChoice;
use packhorse::sandbox;
use packhorse::sandbox::identity::Surroundings;
use packhorse::sandbox::spec::Network;

use crate::one_job::World;
use crate::table::Times;

const WARM_UPS: u32 = 3;

/// `__jobs ROUNDS PLACE PROGRAM none|listeners`: our own sandbox, as a library. The process must have one thread.
pub(crate) fn jobs(words: &[String]) -> anyhow::Result<()> {
    let [rounds, place, program, network] = words else {
        bail!("__jobs ROUNDS PLACE PROGRAM NETWORK");
    };
    let (place, program) = (Path::new(place), Path::new(program));
    let (ground, _) = sandbox::enter(&Surroundings::read(None, None), RungChoice::default(), place)?;
    fs::create_dir(place)?;
    let world = World::new(place, program, ground)?;
    let measured = measure(rounds.parse()?, || {
        world.round(match network.as_str() {
            "none" => Network::None,
            _ => Network::Listeners { ports: Vec::new() },
        })
    });
    fs::remove_dir_all(place)?;
    measured
}

/// `__programs ROUNDS PROGRAM ARGUMENTS…`; `@` in an argument becomes the number of the round.
pub(crate) fn programs(words: &[String]) -> anyhow::Result<()> {
    let [rounds, program, arguments @ ..] = words else {
        bail!("__programs ROUNDS PROGRAM ARGUMENTS");
    };
    let mut round = 0;
    measure(rounds.parse()?, || {
        round += 1;
        let number = round.to_string();
        let status = Command::new(program)
            .args(arguments.iter().map(|argument| argument.replace('@', &number)))
            .stdin(Stdio::null())
            .status()?;
        ensure!(status.success(), "{program} ended with {status}");
        Ok(())
    })
}

/// Starts this program again to do one of the above, behind the words of `wrapper`, and reads its times.
pub(crate) fn elsewhere(itself: &Path, wrapper: &[String], words: &[String]) -> anyhow::Result<Times> {
    let itself = itself.display().to_string();
    let mut all = wrapper.iter().chain([&itself]).chain(words);
    let program = all.next().context("there is a program")?;
    let output = Command::new(program)
        .args(all)
        .current_dir("/")
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let times = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| Ok(Duration::from_nanos(line.parse()?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Times::new(times))
}

fn measure(rounds: u32, mut round: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    for _ in 0..WARM_UPS {
        round()?;
    }
    for _ in 0..rounds {
        let started = Instant::now();
        round()?;
        println!("{}", started.elapsed().as_nanos());
    }
    Ok(())
}
