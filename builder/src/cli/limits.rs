//! What a build may use up: the command line's word, else the operator's `[limits]`, else the default.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error as _;

use crate::cli::arguments::limits::LimitArguments;
use crate::cli::arguments::value::memory;
use crate::cli::arguments::value::positive_duration;
use crate::cli::arguments::value::processors;
use crate::cli::arguments::value::size;
use crate::cli::config::Config;
use crate::cli::setting::Origin;
use crate::cli::setting::Setting;
use crate::cli::variable::Variable;
use crate::model::limits::Limits;
use crate::model::size::Size;
use crate::sandbox::scope;

/// `[limits]`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LimitsFile {
    /// Wall clock for a build.
    #[serde(deserialize_with = "time")]
    pub timeout: Option<Duration>,
    /// Time without output.
    #[serde(deserialize_with = "time")]
    pub idle_timeout: Option<Duration>,
    /// Bytes of memory.
    #[serde(deserialize_with = "bytes_of_memory")]
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Hundredths of a processor.
    #[serde(deserialize_with = "hundredths")]
    pub cpus: Option<u64>,
    /// Bytes on disk.
    #[serde(deserialize_with = "bytes")]
    pub disk: Option<u64>,
    /// Files and folders.
    pub disk_files: Option<u64>,
    /// Bytes of output of one step.
    #[serde(deserialize_with = "bytes")]
    pub output: Option<u64>,
}

/// The limits of a build.
pub fn limits(arguments: &LimitArguments, file: &LimitsFile) -> Limits {
    let otherwise = Limits::default();
    Limits {
        timeout: arguments.timeout.or(file.timeout).unwrap_or(otherwise.timeout),
        visit_timeout: otherwise.visit_timeout,
        idle_timeout: arguments.idle_timeout.or(file.idle_timeout),
        memory_bytes_max: arguments.memory.or(file.memory),
        processes_max: arguments
            .processes
            .or(file.processes)
            .unwrap_or(otherwise.processes_max),
        cpu_hundredths_max: arguments.cpus.or(file.cpus),
        disk_bytes_max: arguments.disk.or(file.disk),
        disk_files_max: arguments.disk_files.or(file.disk_files),
        output_bytes_max: arguments
            .output_limit
            .or(file.output)
            .unwrap_or(otherwise.output_bytes_max),
    }
}

/// Starts the program again with these `words` in a scope of systemd's where only there a build can have its limits. Where
/// there is no scope to be had the build goes on without, and its log says which limits are not in force.
pub fn enter_scope(arguments: &LimitArguments, config: &Config, words: &[OsString]) {
    if !config.may_use_scope().value {
        return;
    }
    let runtime_directory = config.variable(Variable::XdgRuntimeDirectory).map(Path::new);
    let limits = limits(arguments, &config.file.limits);
    let obstacles = scope::obstacles(&limits, runtime_directory);
    tracing::debug!(?obstacles, "a scope of systemd's");
    if obstacles.is_empty() {
        let error = scope::enter(words, Variable::PackhorseScope.name());
        tracing::warn!(%error, "no scope");
    }
}

/// Each limit that a build has without a word on the command line, by its name in the operator's file.
pub(super) fn settings(config: &Config) -> Vec<(&'static str, Option<Setting<String>>)> {
    let LimitsFile {
        timeout,
        idle_timeout,
        memory,
        processes,
        cpus,
        disk,
        disk_files,
        output,
    } = &config.file.limits;
    let otherwise = Limits::default();
    let by_default = |value: String| {
        Some(Setting {
            value,
            origin: Origin::Default,
        })
    };
    let seconds = |time: &Option<Duration>| config.of_file(time.as_ref().map(words_of_time).as_ref());
    let bytes = |size: &Option<u64>| config.of_file(size.map(|size| Size(size).to_string()).as_ref());
    let number = |number: &Option<u64>| config.of_file(number.map(|number| number.to_string()).as_ref());
    vec![
        (
            "limits.timeout",
            seconds(timeout).or_else(|| by_default(words_of_time(&otherwise.timeout))),
        ),
        ("limits.idle-timeout", seconds(idle_timeout)),
        ("limits.memory", bytes(memory)),
        (
            "limits.processes",
            number(processes).or_else(|| by_default(otherwise.processes_max.to_string())),
        ),
        (
            "limits.cpus",
            config.of_file(cpus.map(words_of_processors).as_ref()),
        ),
        ("limits.disk", bytes(disk)),
        ("limits.disk-files", number(disk_files)),
        (
            "limits.output",
            bytes(output).or_else(|| by_default(Size(otherwise.output_bytes_max).to_string())),
        ),
    ]
}

fn words_of_time(time: &Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

fn words_of_processors(hundredths: u64) -> String {
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => whole.to_string(),
        (whole, part) => format!("{whole}.{part:02}"),
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    written(deserializer, positive_duration)
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    written(deserializer, size)
}

fn bytes_of_memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    written(deserializer, memory)
}

fn hundredths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    processors(&text).map(Some).map_err(D::Error::custom)
}

/// A value as it would be on the command line.
fn written<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "timeout = \"20m\"\nmemory = \"2G\"\nprocesses = 500\ncpus = 1.5\ndisk = \"10G\"\n";

    #[test]
    fn the_command_line_wins_then_the_file() {
        let file: LimitsFile = toml::from_str(FILE).unwrap();
        let arguments = LimitArguments {
            memory: Some(1 << 30),
            idle_timeout: Some(Duration::from_secs(60)),
            ..LimitArguments::default()
        };
        let found = limits(&arguments, &file);
        assert_eq!(
            found,
            Limits {
                timeout: Duration::from_secs(1200),
                idle_timeout: Some(Duration::from_secs(60)),
                memory_bytes_max: Some(1 << 30),
                processes_max: 500,
                cpu_hundredths_max: Some(150),
                disk_bytes_max: Some(10 << 30),
                ..Limits::default()
            }
        );
        let nothing = limits(&LimitArguments::default(), &LimitsFile::default());
        assert_eq!(nothing, Limits::default());
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in [
            "timeout = 20",
            "memory = \"1M\"",
            "cpus = 0",
            "disk = \"1X\"",
            "memory-max = \"1G\"",
        ] {
            assert!(toml::from_str::<LimitsFile>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_read_as_they_are_written() {
        assert_eq!(words_of_time(&Duration::from_secs(90)), "90s");
        assert_eq!(words_of_time(&Duration::from_secs(7200)), "2h");
        assert_eq!(
            (words_of_processors(150), words_of_processors(200)),
            ("1.50".into(), "2".into())
        );
    }
}
