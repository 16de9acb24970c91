//! A case of the golden vectors: its folder, its builds, and what was launched after each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// A case.
pub(crate) struct Case {
    /// Its builds, at least one.
    pub(crate) builds: Vec<Build>,
}

/// One build of a case, with what was recorded of it.
pub(crate) struct Build {
    /// The folder of the case.
    pub(crate) folder: PathBuf,
    /// The folder of what was recorded.
    pub(crate) expected: PathBuf,
    /// The variables of the build.
    pub(crate) environment: BTreeMap<String, String>,
    /// What was launched, in order.
    pub(crate) launches: Vec<Launch>,
}

/// One launch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launch {
    /// The entrypoint, if it is not the image's.
    pub(crate) entrypoint: Option<String>,
    /// The arguments.
    pub(crate) arguments: Vec<String>,
    /// The user's variables.
    pub(crate) environment: BTreeMap<String, String>,
}

impl Case {
    /// Reads the `case.toml` of the case of that name.
    pub(crate) fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../testdata/vectors")
            .join(name);
        let text = fs::read_to_string(folder.join("case.toml")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let builds = match table.get("build") {
            None => vec![build(&folder, folder.join("expected"), &table)],
            Some(builds) => tables(builds)
                .enumerate()
                .map(|(index, build_table)| {
                    build(
                        &folder,
                        folder.join(format!("expected/build-{}", index + 1)),
                        build_table,
                    )
                })
                .collect(),
        };
        Self { builds }
    }
}

fn build(folder: &Path, expected: PathBuf, table: &toml::Table) -> Build {
    let launches = table
        .get("launch")
        .map(|launches| tables(launches).map(launch).collect())
        .unwrap_or_default();
    Build {
        folder: folder.to_owned(),
        expected,
        environment: environment(table),
        launches,
    }
}

fn launch(table: &toml::Table) -> Launch {
    let known = ["entrypoint", "args", "env"];
    assert!(
        table.keys().all(|key| known.contains(&key.as_str())),
        "a launch has a key that is not read: {table}"
    );
    Launch {
        entrypoint: table
            .get("entrypoint")
            .map(|name| name.as_str().unwrap().to_owned()),
        arguments: table
            .get("args")
            .map(|list| {
                list.as_array()
                    .unwrap()
                    .iter()
                    .map(|text| text.as_str().unwrap().to_owned())
                    .collect()
            })
            .unwrap_or_default(),
        environment: environment(table),
    }
}

fn environment(table: &toml::Table) -> BTreeMap<String, String> {
    let variables = table
        .get("env")
        .map(|table| table.as_table().unwrap().clone())
        .unwrap_or_default();
    variables
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

fn tables(value: &toml::Value) -> impl Iterator<Item = &toml::Table> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_table().unwrap())
}
