//! What the buildpack reads of `package.json`.

use crate::json::JsonError;
use crate::json::parse_json;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) const PACKAGE_JSON: &str = "package.json";

/// The fields of `package.json` that decide something here; all others are npm's business.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct PackageJson {
    #[serde(default)]
    pub(crate) engines: Engines,
    #[serde(default)]
    pub(crate) scripts: Scripts,
    /// Read loosely: npm takes anything here, and ignores what is not text.
    main: Option<Value>,
    workspaces: Option<Value>,
    #[serde(default, flatten)]
    pub(crate) dependencies: DependencyTables,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Engines {
    pub(crate) node: Option<String>,
    pub(crate) npm: Option<String>,
}

/// Read loosely like `main`: npm ignores a script that is not text.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Scripts(BTreeMap<String, Value>);

/// The tables of wanted packages; a lock file repeats them for its root.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DependencyTables {
    #[serde(default)]
    dependencies: BTreeMap<String, Value>,
    #[serde(default)]
    dev_dependencies: BTreeMap<String, Value>,
    #[serde(default)]
    optional_dependencies: BTreeMap<String, Value>,
}

impl PackageJson {
    pub(crate) fn parse(text: &str) -> Result<Self, JsonError> {
        parse_json(PACKAGE_JSON, text)
    }

    pub(crate) fn main(&self) -> Option<&str> {
        self.main
            .as_ref()
            .and_then(Value::as_str)
            .filter(|main| !main.trim().is_empty())
    }

    /// The command of the script `name`; a blank one is none.
    pub(crate) fn script(&self, name: &str) -> Option<&str> {
        let command = self.scripts.0.get(name)?.as_str()?.trim();
        (!command.is_empty()).then_some(command)
    }

    pub(crate) fn has_workspaces(&self) -> bool {
        self.workspaces.is_some()
    }

    /// Whether there may be anything to prune; a workspace may bring development dependencies of its own.
    pub(crate) fn may_have_dev_dependencies(&self) -> bool {
        !self.dependencies.dev_dependencies.is_empty() || self.workspaces.is_some()
    }
}

impl DependencyTables {
    /// Every wanted package with the version asked for, whichever table it is in.
    pub(crate) fn wanted(&self) -> BTreeMap<&str, &str> {
        [
            &self.dependencies,
            &self.dev_dependencies,
            &self.optional_dependencies,
        ]
        .into_iter()
        .flatten()
        .filter_map(|(name, version)| Some((name.as_str(), version.as_str()?)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_needs_and_ignores_the_rest() {
        let package = PackageJson::parse(
            r#"{"name": "a", "main": "lib/a.js", "engines": {"node": "22.x", "vscode": "*"}, "private": true,
                "scripts": {"start": "node .", "build": " ", "test": "x"}, "dependencies": {"express": "^5"},
                "devDependencies": {"terser": "5"}}"#,
        )
        .unwrap();
        assert_eq!(package.engines.node.as_deref(), Some("22.x"));
        assert_eq!(package.main(), Some("lib/a.js"));
        assert_eq!(package.script("start"), Some("node ."));
        assert_eq!(package.script("build"), None, "a blank script is none");
        assert!(package.may_have_dev_dependencies());
        assert_eq!(
            package.dependencies.wanted(),
            BTreeMap::from([("express", "^5"), ("terser", "5")])
        );
    }

    #[test]
    fn odd_but_accepted_by_npm() {
        for text in [
            "{}",
            r#"{"main": false}"#,
            r#"{"dependencies": {"a": null}}"#,
            r#"{"engines": {}}"#,
            r#"{"scripts": {"build": false}}"#,
        ] {
            let package = PackageJson::parse(text).unwrap();
            assert_eq!(package.main(), None, "{text}");
            assert_eq!(package.script("build"), None, "{text}");
            assert!(!package.may_have_dev_dependencies(), "{text}");
        }
        assert!(
            PackageJson::parse(r#"{"workspaces": ["a"]}"#)
                .unwrap()
                .may_have_dev_dependencies()
        );
    }

    #[test]
    fn broken_files_say_where() {
        for (text, place) in [
            ("", "`package.json`, line 1, column 0: EOF while parsing a value"),
            (
                "{\n\"name\": \"a\",\n}",
                "`package.json`, line 3, column 1: trailing comma",
            ),
            (
                "[]",
                "`package.json`, line 1, column 0: invalid type: sequence, expected struct PackageJson",
            ),
        ] {
            assert_eq!(PackageJson::parse(text).unwrap_err().to_string(), place);
        }
    }
}
