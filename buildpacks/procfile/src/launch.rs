//! The launch processes of a Procfile.

use crate::procfile::Procfile;
use libcnb::data::launch::Launch;
use libcnb::data::launch::LaunchBuilder;
use libcnb::data::launch::ProcessBuilder;
use libcnb::data::launch::ProcessTypeError;

/// The process that is started when none is named.
const DEFAULT_PROCESS: &str = "web";

/// Every process through `bash`, since a Procfile's commands are written for a shell and a launcher of this
/// Buildpack API starts programs directly. `web` is the default, or else the only one there is.
pub(crate) fn launch(procfile: &Procfile) -> Result<Launch, ProcessTypeError> {
    let is_only_one = procfile.processes().len() == 1;
    let mut launch = LaunchBuilder::new();
    for process in procfile.processes() {
        let command = ["bash", "-c", &process.command];
        launch.process(
            ProcessBuilder::new(process.name.parse()?, command)
                .default(process.name == DEFAULT_PROCESS || is_only_one)
                .build(),
        );
    }
    Ok(launch.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfile::parse_procfile;

    #[test]
    fn web_or_the_only_one_is_the_default() {
        for (text, expected) in [
            ("worker: b\nweb: a", vec![("worker", false), ("web", true)]),
            ("worker: b", vec![("worker", true)]),
            ("worker: b\nclock: c", vec![("worker", false), ("clock", false)]),
            ("", vec![]),
        ] {
            let launch = launch(&parse_procfile(text).unwrap()).unwrap();
            let found: Vec<_> = launch
                .processes
                .iter()
                .map(|process| (process.r#type.as_str(), process.default))
                .collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn commands_go_to_a_shell_whole() {
        let launch = launch(&parse_procfile("web: exec ./run --port \"$PORT\"").unwrap()).unwrap();
        assert_eq!(
            launch.processes[0].command,
            ["bash", "-c", "exec ./run --port \"$PORT\""]
        );
        assert!(launch.processes[0].args.is_empty());
    }
}
