//! Keeps a build's secrets out of what leaves it: out of what is told, and out of what is made.

pub mod forms;
pub mod redaction;
pub mod redactor;
pub mod search;
