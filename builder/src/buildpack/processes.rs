//! Merges the processes of a group's buildpacks: one of each type, and at most one default (Buildpack spec, "launch.toml").

use std::collections::BTreeMap;

use packhorse_spec::api::PLATFORM_API;
use packhorse_spec::launch_toml::LaunchProcess;
use packhorse_spec::metadata_toml::Process;

/// The processes of the buildpacks so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Processes {
    by_type: BTreeMap<String, Process>,
    default_type: Option<String>,
    /// The default that a later buildpack took over without saying that it is the default.
    lost_default: Option<String>,
}

impl Processes {
    /// Adds the processes of the next buildpack; of one type the later one stands.
    pub fn add(&mut self, buildpack_id: &str, processes: Vec<LaunchProcess>) {
        for process in processes {
            if process.default {
                self.default_type = Some(process.process_type.clone());
                self.lost_default = None;
            } else if self.default_type.as_ref() == Some(&process.process_type) {
                self.lost_default = self.default_type.take();
            }
            self.by_type.insert(
                process.process_type.clone(),
                Process::new(process, buildpack_id, PLATFORM_API),
            );
        }
    }

    /// The type of the default process.
    pub fn default_type(&self) -> Option<&str> {
        self.default_type.as_deref()
    }

    /// What people should be told: a default that was lost.
    pub fn warning(&self) -> Option<String> {
        let lost = self.lost_default.as_ref()?;
        Some(format!(
            "redefining the following default process type with a process not marked as default: {lost}"
        ))
    }

    /// All processes, sorted by type.
    pub fn into_sorted(self) -> Vec<Process> {
        self.by_type.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(process_type: &str, default: bool) -> LaunchProcess {
        LaunchProcess {
            process_type: process_type.to_owned(),
            command: vec![format!("run-{process_type}")],
            direct: true,
            default,
            ..LaunchProcess::default()
        }
    }

    #[test]
    fn later_ones_stand_and_the_list_is_sorted() {
        let mut all = Processes::default();
        all.add("one", vec![process("web", true), process("a", false)]);
        all.add("two", vec![process("a", false), process("worker", true)]);
        assert_eq!(all.default_type(), Some("worker"));
        let sorted: Vec<_> = all
            .into_sorted()
            .into_iter()
            .map(|p| p.process_type + " " + &p.buildpack_id)
            .collect();
        assert_eq!(sorted, ["a two", "web one", "worker two"]);
    }

    #[test]
    fn a_default_is_lost_to_a_process_that_is_none() {
        let mut all = Processes::default();
        all.add("one", vec![process("web", true)]);
        all.add("two", vec![process("web", false)]);
        assert_eq!(all.default_type(), None);
        assert!(all.warning().unwrap().ends_with("not marked as default: web"));
        all.add("three", vec![process("x", true)]);
        assert_eq!((all.default_type(), all.warning()), (Some("x"), None));
    }
}
