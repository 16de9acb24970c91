//! What a build may use up. Every limit has a default.

use std::time::Duration;

/// The limits of one build's sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock for the whole build.
    pub timeout: Duration,
    /// How much longer the sandbox may stand for a person who looks at a step that failed; zero: nobody does.
    pub visit_timeout: Duration,
    /// Memory of all processes together, in bytes; none: no limit.
    pub memory_bytes_max: Option<u64>,
    /// Processes and threads together.
    pub processes_max: u64,
    /// Bytes of output of one step; one that writes more is ended.
    pub output_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60 * 60),
            visit_timeout: Duration::ZERO,
            memory_bytes_max: None,
            processes_max: 32_768,
            output_bytes_max: 64 << 20,
        }
    }
}
