//! What tests leave out on this machine, kept where `scripts/test` prints it: a test that only returns counts as passed.

use std::fs::File;
use std::io::Write;

use crate::support::home::target;

/// Notes that the calling test, or a part of it, is left out.
pub(crate) fn left_out(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    // `sandbox::as_a_plain_user` hands on what that user's tests say, who cannot write here.
    eprintln!("left out: {name}: {why}");
    if let Ok(mut notes) = File::options()
        .create(true)
        .append(true)
        .open(target().join("left-out"))
    {
        writeln!(notes, "{name}: {why}").unwrap();
    }
}
