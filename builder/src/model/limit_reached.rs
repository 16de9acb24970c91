//! A limit that a step of a build has reached, and what had used it up when the step was ended.

use std::fmt;
use std::time::Duration;

use crate::model::failure::Facts;
use crate::model::size::Size;

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Wall clock.
    WallClock(Duration),
    /// Time without output.
    IdleOutput(Duration),
    /// Bytes of memory.
    Memory(u64),
    /// Processes and threads.
    Processes(u64),
    /// Bytes on disk.
    DiskBytes(u64),
    /// Files and folders.
    DiskFiles(u64),
    /// Bytes of output.
    Output(u64),
}

/// A limit that was reached. Its text is what a step did: `used more memory than the limit of 64 MiB`, and below it a line
/// for each of those that used the most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReached {
    /// Which.
    pub limit: Limit,
    /// What used the most of it when the step was ended, the most first; empty where that is not known.
    pub used_by: Vec<String>,
}

impl LimitReached {
    /// Without who used it up.
    pub fn of(limit: Limit) -> Self {
        Self {
            limit,
            used_by: Vec::new(),
        }
    }

    /// Whose fault, and the stable code.
    pub fn facts(&self) -> Facts {
        match self.limit {
            Limit::WallClock(_) => Facts::user("buildpack_timed_out"),
            Limit::IdleOutput(_) => Facts::user("buildpack_idle"),
            Limit::Memory(_) => Facts::user("buildpack_out_of_memory"),
            Limit::Processes(_) => Facts::user("buildpack_processes_limit"),
            Limit::DiskBytes(_) | Limit::DiskFiles(_) => Facts::user("buildpack_disk_limit"),
            Limit::Output(_) => Facts::user("buildpack_output_limit"),
        }
    }
}

impl Limit {
    /// What stands above those that used the most.
    fn heading(self) -> &'static str {
        match self {
            Self::WallClock(_) | Self::IdleOutput(_) => "the busiest processes at that time",
            Self::Memory(_) => "the processes with the most memory at that time",
            Self::Processes(_) => "the programs with the most processes at that time",
            Self::DiskBytes(_) | Self::DiskFiles(_) => "the largest directories at that time",
            Self::Output(_) => "who wrote the most",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WallClock(after) => {
                write!(formatter, "was still building after {} seconds", after.as_secs())
            }
            Self::IdleOutput(after) => write!(formatter, "wrote no output for {} seconds", after.as_secs()),
            Self::Memory(bytes) => write!(formatter, "used more memory than the limit of {}", Size(*bytes)),
            Self::Processes(count) => write!(formatter, "started more processes than the limit of {count}"),
            Self::DiskBytes(bytes) => {
                write!(formatter, "wrote more to disk than the limit of {}", Size(*bytes))
            }
            Self::DiskFiles(count) => write!(formatter, "made more files than the limit of {count}"),
            Self::Output(bytes) => write!(formatter, "wrote more output than the limit of {}", Size(*bytes)),
        }
    }
}

impl fmt::Display for LimitReached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.limit)?;
        if !self.used_by.is_empty() {
            write!(formatter, "; {}:", self.limit.heading())?;
        }
        self.used_by
            .iter()
            .try_for_each(|line| write!(formatter, "\n  {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_used_it_up_stands_below() {
        let reached = LimitReached {
            limit: Limit::Memory(64 << 20),
            used_by: vec!["60.1 MiB  awk (process 7): awk …".to_owned()],
        };
        assert_eq!(
            reached.to_string(),
            "used more memory than the limit of 64 MiB; the processes with the most memory at that time:\n  \
             60.1 MiB  awk (process 7): awk …"
        );
        assert_eq!(
            LimitReached::of(Limit::IdleOutput(Duration::from_secs(90))).to_string(),
            "wrote no output for 90 seconds"
        );
    }
}
