//! The program inside every image that starts its processes: it sets up the environment that buildpacks prepared,
//! then becomes the process that was asked for (Platform spec, "Launch").
//!
//! It is linked statically and must run in an image without a shell, a C library, `/proc`, a writable folder or a
//! user's entry in `/etc/passwd`; so nothing here asks the system for users, hosts or home folders.

mod start;
mod choose;

mod launch;
mod layers;
mod environment;
mod exec_d;
mod lookup;
mod profiles;
mod bash;

mod failure;

use std::io;
use std::io::Write;
use std::process::ExitCode;

/// This file alone reads the process's environment and arguments, and prints. Errors go to the standard output,
/// where the reference launcher writes them, too. If that is closed there is nobody to tell.
fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let invocation = start::Invocation {
        name: arguments.next().unwrap_or_default(),
        arguments: arguments.collect(),
        environment: std::env::vars_os().collect(),
    };
    let mut output = io::stdout().lock();
    let failure = match start::start(invocation, &mut output) {
        Err(failure) => failure,
        Ok(never) => match never {},
    };
    let _nobody_to_tell = writeln!(output, "ERROR: {failure}");
    ExitCode::from(failure.exit_code())
}
