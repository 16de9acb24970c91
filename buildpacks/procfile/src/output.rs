//! What the buildpack says; nothing else prints.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a buildpack talks to its user on these"
)]

use std::fmt;

/// The beginning of a step.
pub(crate) fn header(title: &str) {
    println!("[{title}]");
}

/// Something that happened or was decided in the step.
pub(crate) fn line(text: &str) {
    println!("  {text}");
}

/// Something that works but should be changed.
pub(crate) fn warning(text: &str) {
    println!("  warning: {text}");
}

/// Why the buildpack gives up.
pub(crate) fn error(message: &impl fmt::Display) {
    eprintln!("{message}");
}
