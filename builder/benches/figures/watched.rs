//! A program and the most memory that it had: `VmHWM` of that one process, none of its children.

use std::fs;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

const INTERVAL: Duration = Duration::from_millis(5);

/// What became of the program.
pub(crate) struct Watched {
    pub(crate) output: Output,
    pub(crate) elapsed: Duration,
    /// The peak of resident memory in bytes, as it stood at most a few milliseconds before the end.
    pub(crate) peak: u64,
}

/// Runs the program. The resource usage that `wait` reports would not do: it counts the parent's own memory before exec.
pub(crate) fn run(command: &mut Command) -> std::io::Result<Watched> {
    let started = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let (peak, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let output = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                peak.fetch_max(peak_of(&status), Ordering::Relaxed);
                thread::sleep(INTERVAL);
            }
        });
        let output = child.wait_with_output();
        ended.store(true, Ordering::Relaxed);
        output
    })?;
    Ok(Watched {
        output,
        elapsed: started.elapsed(),
        peak: peak.into_inner(),
    })
}

fn peak_of(status: &str) -> u64 {
    let text = fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
