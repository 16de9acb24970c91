//! Which Node.js and npm are installed: the newest ones in the registry that fit.

use crate::http::HttpClient;
use crate::http::HttpError;
use crate::integrity::Integrity;
use crate::node_choice::NodeVersions;
use crate::node_request::NodeRequest;
use crate::registry_url::RegistryUrl;
use crate::release_lines::npm_major_for;
use crate::release_lines::release_line;
use nodejs_semver::Range;
use nodejs_semver::Version;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// npm's short form of a package's metadata; the long form carries every README.
const ABBREVIATED: &str = "application/vnd.npm.install-v1+json";
/// That of npm itself had 3 MB in 2026.
const METADATA_BYTES_MAX: u64 = 32 * 1024 * 1024;
const NEAREST_MAX: usize = 5;

/// A published package, by version and hash.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) version: Version,
    pub(crate) tarball_url: String,
    pub(crate) integrity: Integrity,
}

/// What goes into the Node.js layer.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) node: Package,
    pub(crate) npm: Package,
}

impl Release {
    pub(crate) fn versions(&self) -> NodeVersions {
        NodeVersions {
            node: self.node.version.clone(),
            npm: self.npm.version.clone(),
        }
    }
}

/// What the app and its target ask for.
pub(crate) struct Wanted<'a> {
    /// The npm package that holds Node.js for the target.
    pub(crate) node_package: &'static str,
    pub(crate) node: &'a NodeRequest,
    /// `engines.npm`; without it the table chooses.
    pub(crate) npm: Option<&'a Range>,
}

/// No release could be chosen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveReleaseError {
    #[error("cannot read the list of versions: {0}")]
    Fetch(#[from] HttpError),
    #[error("the list of versions of `{package}` is not what a registry sends: {source}")]
    Metadata {
        package: &'static str,
        source: serde_json::Error,
    },
    #[error("no published version of Node.js fits; the nearest are {}", nearest.join(", "))]
    NoNode { nearest: Vec<String> },
    #[error("no published version of npm fits and runs on Node.js {node}")]
    NoNpm { node: Version },
    #[error("`{package}` {version} is published without a sha512 hash")]
    NoIntegrity { package: &'static str, version: Version },
}

/// The parts that count of the registry's answer.
#[derive(Debug, Deserialize)]
struct Metadata {
    versions: BTreeMap<String, Published>,
}

#[derive(Debug, Deserialize)]
struct Published {
    dist: Dist,
    /// A table in all newer packages, a list in some old ones.
    engines: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Dist {
    tarball: String,
    integrity: Option<String>,
}

/// Asks the registry, twice, and chooses.
pub(crate) fn resolve_release(
    client: &HttpClient,
    registry: &RegistryUrl,
    wanted: &Wanted,
) -> Result<Release, ResolveReleaseError> {
    let node_metadata = fetch_metadata(client, registry, wanted.node_package)?;
    let node = choose_node(&node_metadata, &wanted.node.range)?;
    let npm_metadata = fetch_metadata(client, registry, "npm")?;
    let npm = choose_npm(&npm_metadata, &node, wanted.npm)?;
    Ok(Release {
        node: package(registry, wanted.node_package, node, &node_metadata)?,
        npm: package(registry, "npm", npm, &npm_metadata)?,
    })
}

fn fetch_metadata(
    client: &HttpClient,
    registry: &RegistryUrl,
    package: &'static str,
) -> Result<Metadata, ResolveReleaseError> {
    let json = client.get(&registry.metadata_url(package), ABBREVIATED, METADATA_BYTES_MAX)?;
    serde_json::from_slice(&json).map_err(|source| ResolveReleaseError::Metadata { package, source })
}

fn choose_node(metadata: &Metadata, range: &Range) -> Result<Version, ResolveReleaseError> {
    let versions = metadata.versions();
    versions
        .iter()
        .filter(|version| range.satisfies(version))
        .max()
        .cloned()
        .ok_or_else(|| ResolveReleaseError::NoNode {
            nearest: nearest_lines(&versions, range),
        })
}

/// The newest npm that is asked for, or that the table allows, among those that say they run on `node`.
fn choose_npm(
    metadata: &Metadata,
    node: &Version,
    asked: Option<&Range>,
) -> Result<Version, ResolveReleaseError> {
    let major_max = npm_major_for(node.major());
    metadata
        .versions()
        .into_iter()
        .filter(|npm| match asked {
            Some(range) => range.satisfies(npm),
            None => npm.major() <= major_max && !npm.is_prerelease(),
        })
        .filter(|npm| metadata.runs_on(npm, node))
        .max()
        .ok_or_else(|| ResolveReleaseError::NoNpm { node: node.clone() })
}

fn package(
    registry: &RegistryUrl,
    name: &'static str,
    version: Version,
    metadata: &Metadata,
) -> Result<Package, ResolveReleaseError> {
    let dist = metadata
        .versions
        .get(&version.to_string())
        .map(|published| &published.dist);
    let hash = dist.and_then(|dist| Integrity::parse(dist.integrity.as_deref()?));
    match (dist, hash) {
        (Some(dist), Some(integrity)) => Ok(Package {
            name,
            version,
            tarball_url: registry.tarball_url(&dist.tarball),
            integrity,
        }),
        _ => Err(ResolveReleaseError::NoIntegrity {
            package: name,
            version,
        }),
    }
}

impl Metadata {
    fn versions(&self) -> Vec<Version> {
        self.versions
            .keys()
            .filter_map(|text| text.parse().ok())
            .collect()
    }

    fn runs_on(&self, npm: &Version, node: &Version) -> bool {
        let engines = self
            .versions
            .get(&npm.to_string())
            .and_then(|published| published.engines.as_ref());
        let range = engines
            .and_then(|engines| engines.get("node"))
            .and_then(Value::as_str);
        range
            .and_then(|range| Range::parse(range).ok())
            .is_none_or(|range| range.satisfies(node))
    }
}

/// The newest version of each of the lines that are nearest to what was asked for, oldest first.
fn nearest_lines(versions: &[Version], range: &Range) -> Vec<String> {
    let mut newest_of_line: BTreeMap<u64, &Version> = BTreeMap::new();
    for version in versions.iter().filter(|version| !version.is_prerelease()) {
        let newest = newest_of_line.entry(version.major()).or_insert(version);
        *newest = (*newest).max(version);
    }
    let asked = range.min_version().map_or(u64::MAX, |version| version.major());
    let mut nearest: Vec<(u64, &Version)> = newest_of_line.into_iter().collect();
    nearest.sort_by_key(|(major, _)| (major.abs_diff(asked), *major));
    nearest.truncate(NEAREST_MAX);
    nearest.sort_by_key(|(major, _)| *major);
    nearest
        .into_iter()
        .map(|(major, version)| with_lts_name(major, version))
        .collect()
}

fn with_lts_name(major: u64, version: &Version) -> String {
    match release_line(major).and_then(|line| line.lts) {
        Some(name) => format!("{version} (lts/{name})"),
        None => version.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_request::Origin;
    use crate::node_request::parse_engines_range;

    fn metadata(versions: &[(&str, &str)]) -> Metadata {
        let published = |node: &&str| Published {
            dist: Dist {
                tarball: "https://registry.npmjs.org/a.tgz".to_string(),
                integrity: None,
            },
            engines: (!node.is_empty()).then(|| serde_json::json!({"node": node})),
        };
        Metadata {
            versions: versions
                .iter()
                .map(|(version, node)| ((*version).to_string(), published(node)))
                .collect(),
        }
    }

    fn range(text: &str) -> Range {
        parse_engines_range(text, Origin::EnginesNode).unwrap()
    }

    fn nodes() -> Metadata {
        metadata(&[
            ("20.20.2", ""),
            ("22.9.0", ""),
            ("22.23.3", ""),
            ("23.0.0-rc.1", ""),
            ("24.21.0", ""),
            ("odd", ""),
        ])
    }

    #[test]
    fn the_newest_that_fits_by_number_and_not_by_letters() {
        assert_eq!(
            choose_node(&nodes(), &range("22")).unwrap().to_string(),
            "22.23.3"
        );
        assert_eq!(
            choose_node(&nodes(), &range(">=20")).unwrap().to_string(),
            "24.21.0"
        );
    }

    #[test]
    fn an_unknown_version_names_the_nearest_lines() {
        for (asked, expected) in [
            (
                "99",
                "20.20.2 (lts/iron), 22.23.3 (lts/jod), 24.21.0 (lts/krypton)",
            ),
            (
                "23",
                "20.20.2 (lts/iron), 22.23.3 (lts/jod), 24.21.0 (lts/krypton)",
            ),
        ] {
            let error = choose_node(&nodes(), &range(asked)).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("no published version of Node.js fits; the nearest are {expected}"),
                "{asked}"
            );
        }
        let many: Vec<(String, &str)> = (1..30).map(|major| (format!("{major}.0.0"), "")).collect();
        let many: Vec<(&str, &str)> = many
            .iter()
            .map(|(version, node)| (version.as_str(), *node))
            .collect();
        let nearest = nearest_lines(&metadata(&many).versions(), &range("10.1"));
        assert_eq!(
            nearest,
            ["8.0.0", "9.0.0", "10.0.0", "11.0.0", "12.0.0 (lts/erbium)"]
        );
    }

    #[test]
    fn npm_by_table_by_engines_and_by_what_the_app_asks_for() {
        let npms = metadata(&[
            ("9.9.4", "^14.17.0 || ^16.13.0 || >=18.0.0"),
            ("10.9.9", "^18.17.0 || >=20.5.0"),
            ("11.21.2", "^20.17.0 || >=22.9.0"),
            ("12.2.0", "^22.22.2 || ^24.15.0 || >=26.0.0"),
            ("11.99.0-pre", ""),
        ]);
        for (node, asked, expected) in [
            ("24.21.0", None, Some("11.21.2")),
            ("22.23.3", None, Some("10.9.9")),
            ("20.0.0", None, Some("9.9.4")),
            ("18.0.0", None, Some("9.9.4")),
            ("10.0.0", None, None),
            ("22.23.3", Some("^11"), Some("11.21.2")),
            ("18.20.8", Some("^11"), None),
        ] {
            let asked = asked.map(range);
            let chosen = choose_npm(&npms, &node.parse().unwrap(), asked.as_ref()).ok();
            assert_eq!(chosen.map(|npm| npm.to_string()).as_deref(), expected, "{node}");
        }
    }

    #[test]
    fn a_package_without_a_hash_is_refused() {
        let registry = RegistryUrl::decide(None, None, |_| None).unwrap();
        let error = package(&registry, "npm", "22.9.0".parse().unwrap(), &nodes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`npm` 22.9.0 is published without a sha512 hash"
        );
    }
}
