//! The recorded launches of a golden vector, and how an output is compared with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::image::texts;

/// One `docker run` of a case.
pub(crate) struct Launch {
    name: String,
    pub(crate) entrypoint: Option<String>,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    stdout: String,
    exit: i32,
}

/// The launches that `case.toml` names, with what they printed.
pub(crate) fn launches(case: &Path, vectors: &Path) -> Vec<Launch> {
    let Ok(text) = fs::read_to_string(case.join("case.toml")) else {
        return Vec::new();
    };
    let all: toml::Value = toml::from_str(&text).unwrap();
    let all = serde_json::to_value(all).unwrap();
    let launches = all["launch"].as_array().unwrap().iter().enumerate();
    let launch = |(position, launch): (usize, &serde_json::Value)| {
        let file = vectors.join(format!("expected/run-{}.txt", position + 1));
        let recorded = fs::read_to_string(&file).unwrap();
        let (_, rest) = recorded.split_once("--- stdout\n").unwrap();
        let (stdout, rest) = rest.split_once("--- stderr\n").unwrap();
        let (_, exit) = rest.rsplit_once("--- exit ").unwrap();
        let variables = launch["env"].as_object().into_iter().flatten();
        Launch {
            name: file.display().to_string(),
            entrypoint: launch["entrypoint"].as_str().map(str::to_owned),
            arguments: texts(&launch["args"]),
            environment: variables
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect(),
            stdout: stdout.to_owned(),
            exit: exit.trim().parse().unwrap(),
        }
    };
    launches.map(launch).collect()
}

impl Launch {
    /// Whether the container's runtime could not start it, which is no matter of the image.
    pub(crate) fn is_refused_by_the_runtime(&self) -> bool {
        self.exit == 127 && self.stdout.is_empty()
    }

    /// The same words and the same exit code as recorded.
    #[track_caller]
    pub(crate) fn compare(&self, by: &str, stdout: &str, exit: Option<i32>) {
        assert_eq!(
            comparable(stdout),
            comparable(&self.stdout),
            "{} by {by}",
            self.name
        );
        assert_eq!(exit, Some(self.exit), "{} by {by}", self.name);
    }
}

/// Where every job finds the operator's authorities; a container's runtime does not name it.
const AUTHORITIES: &str = "=/etc/ssl/certs/ca-certificates.crt";

/// Without what differs between container runtimes and shells.
fn comparable(stdout: &str) -> Vec<&str> {
    let of_the_runtime = |line: &&str| {
        let names = ["HOSTNAME=", "SHLVL=", "PWD=", "OLDPWD=", "_="];
        names.iter().any(|name| line.starts_with(name)) || line.ends_with(AUTHORITIES)
    };
    let lines = stdout.lines().map(|line| {
        if line.starts_with("ERROR: ") {
            // The text of an error message is no contract, its exit code is.
            "ERROR"
        } else if line.contains(" fds: ") {
            // A shell lists its own files; the far end of the pipe to `ls` is open until the shell comes to close it.
            line.trim_end().trim_end_matches(" 5")
        } else {
            line
        }
    });
    lines.filter(|line| !of_the_runtime(line)).collect()
}
