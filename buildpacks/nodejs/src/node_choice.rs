//! Whether the Node.js and npm of the last build may be kept without asking the registry for newer ones.

use crate::node_request::is_exact;
use crate::project::Project;
use crate::release_lines::TABLE_DATE;
use nodejs_semver::Range;
use nodejs_semver::Version;
use serde::Deserialize;
use serde::Serialize;

/// The versions of what is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeVersions {
    pub(crate) node: Version,
    pub(crate) npm: Version,
}

/// What was chosen, and for which request; text throughout, since numbers change their type on the way through a
/// cache, and in alphabetical order, as libcnb writes it when it keeps a layer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeChoice {
    node_request: String,
    pub(crate) node_version: String,
    /// Empty where the table of release lines chooses.
    npm_request: String,
    pub(crate) npm_version: String,
    /// Without credentials.
    registry: String,
    table_date: String,
}

impl NodeChoice {
    /// What is remembered of a choice that was made for `project` today.
    pub(crate) fn new(versions: &NodeVersions, project: &Project) -> Self {
        Self {
            node_version: versions.node.to_string(),
            npm_version: versions.npm.to_string(),
            node_request: project.node.text.clone(),
            npm_request: npm_request(project).to_string(),
            registry: project.registry.to_string(),
            table_date: TABLE_DATE.to_string(),
        }
    }

    /// The versions, if no list of versions needs to be asked: each is exactly what `project` asks for, or fits and
    /// was chosen for the same request, from the same registry, under the same table.
    pub(crate) fn settled(&self, project: &Project) -> Option<NodeVersions> {
        let node: Version = self.node_version.parse().ok()?;
        let npm: Version = self.npm_version.parse().ok()?;
        let fits = |range: &Range, version: &Version| range.satisfies(version);
        let (node_request, npm_request) = (&project.node, npm_request(project));
        let is_same_source = self.registry == project.registry.to_string() && self.table_date == TABLE_DATE;
        let is_node_settled = fits(&node_request.range, &node)
            && (is_exact(&node_request.text) || is_same_source && self.node_request == node_request.text);
        let is_npm_settled = project.npm.as_ref().is_none_or(|asked| fits(&asked.range, &npm))
            && (is_exact(npm_request) || is_same_source && self.npm_request == npm_request);
        (is_node_settled && is_npm_settled).then_some(NodeVersions { node, npm })
    }
}

fn npm_request(project: &Project) -> &str {
    project.npm.as_ref().map_or("", |asked| asked.text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::read_project;
    use libcnb::Env;

    fn project(engines: &str, registry: &str) -> Project {
        let app = tempfile::tempdir().unwrap();
        let package = format!(r#"{{"engines": {engines}}}"#);
        std::fs::write(app.path().join("package.json"), package).unwrap();
        let mut env = Env::new();
        env.insert("NPM_CONFIG_REGISTRY", registry);
        read_project(app.path(), &env).unwrap()
    }

    fn choice(project: &Project) -> NodeChoice {
        let versions = NodeVersions {
            node: "22.23.3".parse().unwrap(),
            npm: "10.9.9".parse().unwrap(),
        };
        NodeChoice::new(&versions, project)
    }

    #[test]
    fn the_same_request_is_settled_and_another_is_not() {
        let (a, b) = ("https://a.example", "https://me:secret@b.example");
        let first = choice(&project(r#"{"node": "22.x"}"#, a));
        for (engines, registry, expected) in [
            (r#"{"node": "22.x"}"#, a, true),
            (r#"{"node": "22.x"}"#, b, false),
            (r#"{"node": ">=22"}"#, a, false),
            (r#"{"node": "20.x"}"#, a, false),
            (r#"{"node": "22.23.3"}"#, a, true),
            (r#"{"node": "22.23.4"}"#, a, false),
            (r#"{"node": "22.23.3", "npm": "10"}"#, a, false),
            (r#"{"node": "22.23.3", "npm": "10.9.9"}"#, b, true),
        ] {
            let settled = first.settled(&project(engines, registry));
            assert_eq!(settled.is_some(), expected, "{engines} {registry}");
        }
        assert!(!format!("{:?}", choice(&project("{}", b))).contains("secret"));
    }

    #[test]
    fn another_table_settles_only_what_is_exact() {
        let old = |engines| NodeChoice {
            table_date: "2020-01-01".to_string(),
            ..choice(&project(engines, "https://a.example"))
        };
        for (engines, expected) in [
            (r#"{"node": "22.x"}"#, false),
            (r#"{"node": "22.23.3"}"#, false),
            (r#"{"node": "22.23.3", "npm": "10.9.9"}"#, true),
        ] {
            let settled = old(engines).settled(&project(engines, "https://a.example"));
            assert_eq!(settled.is_some(), expected, "{engines}");
        }
    }

    #[test]
    fn the_metadata_is_text_only() {
        let json = serde_json::to_value(choice(&project("{}", "https://a.example"))).unwrap();
        let fields = json.as_object().unwrap();
        assert!(fields.values().all(serde_json::Value::is_string), "{json}");
    }
}
