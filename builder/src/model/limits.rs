//! What a build may use up. Every limit has a default.

use std::time::Duration;

/// The limits of one build's sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock for the whole build.
    pub timeout: Duration,
    /// How much longer the sandbox may stand for a person who looks at a step that failed; zero: nobody does.
    pub visit_timeout: Duration,
    /// How long a step may be silent; none: as long as it likes.
    pub idle_timeout: Option<Duration>,
    /// Memory of all processes together, in bytes; none: no limit.
    pub memory_bytes_max: Option<u64>,
    /// Processes and threads together.
    pub processes_max: u64,
    /// Hundredths of a processor for all processes together; none: all there are.
    pub cpu_hundredths_max: Option<u64>,
    /// Bytes on disk, as allocated, of all that the job writes; none: no limit.
    pub disk_bytes_max: Option<u64>,
    /// Files and folders that the job makes; none: no limit.
    pub disk_files_max: Option<u64>,
    /// Bytes of output of one step; one that writes more is ended.
    pub output_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60 * 60),
            visit_timeout: Duration::ZERO,
            idle_timeout: None,
            memory_bytes_max: None,
            processes_max: 32_768,
            cpu_hundredths_max: None,
            disk_bytes_max: None,
            disk_files_max: None,
            output_bytes_max: 64 << 20,
        }
    }
}
