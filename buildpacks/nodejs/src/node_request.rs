//! Which versions of Node.js the app asks for, and where it says so.

use crate::package_json::PackageJson;
use crate::release_lines::lts_line;
use crate::release_lines::lts_line_named;
use nodejs_semver::Range;
use std::fmt;

/// The place that decided, in the order in which they are asked: the first that says something wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    EnginesNode,
    EnginesNpm,
    Nvmrc,
    NodeVersionFile,
    /// Nothing was asked for: the newest long-term support line of our table.
    Default,
}

/// The versions that will do.
#[derive(Debug)]
pub(crate) struct NodeRequest {
    /// As the app wrote it.
    pub(crate) text: String,
    pub(crate) origin: Origin,
    pub(crate) range: Range,
}

/// The versions of npm that will do.
#[derive(Debug)]
pub(crate) struct NpmRequest {
    /// As the app wrote it.
    pub(crate) text: String,
    pub(crate) range: Range,
}

/// A version that cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin} asks for `{}`, {why}", text.escape_debug())]
pub(crate) struct InvalidVersionError {
    pub(crate) text: String,
    pub(crate) origin: Origin,
    pub(crate) why: WhyInvalid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WhyInvalid {
    #[error("which is not a version range of npm's kind")]
    NotARange,
    #[error("which is not a version number, `lts/*` or `lts/NAME`")]
    NotAVersion,
    #[error("which is no long-term support line that is known here")]
    UnknownLts,
    #[error("which means something only on the machine it was written on")]
    LocalAlias,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::EnginesNode => "`engines.node` in package.json",
            Self::EnginesNpm => "`engines.npm` in package.json",
            Self::Nvmrc => ".nvmrc",
            Self::NodeVersionFile => ".node-version",
            Self::Default => "the newest long-term support line",
        })
    }
}

/// Decides from `package.json` and the texts of `.nvmrc` and `.node-version`, where they are.
pub(crate) fn decide_node_request(
    package: &PackageJson,
    nvmrc: Option<&str>,
    node_version_file: Option<&str>,
) -> Result<NodeRequest, InvalidVersionError> {
    if let Some(text) = package
        .engines
        .node
        .as_deref()
        .filter(|text| !text.trim().is_empty())
    {
        let range = parse_engines_range(text, Origin::EnginesNode)?;
        return Ok(NodeRequest {
            text: text.trim().to_string(),
            origin: Origin::EnginesNode,
            range,
        });
    }
    for (file, origin) in [
        (nvmrc, Origin::Nvmrc),
        (node_version_file, Origin::NodeVersionFile),
    ] {
        if let Some(text) = file.and_then(first_line) {
            let range = parse_version_file(text, origin)?;
            return Ok(NodeRequest {
                text: text.to_string(),
                origin,
                range,
            });
        }
    }
    let range = parse_version_file("lts/*", Origin::Default)?;
    Ok(NodeRequest {
        text: "lts/*".to_string(),
        origin: Origin::Default,
        range,
    })
}

/// Decides from `package.json`; without a word in it, the table of release lines chooses.
pub(crate) fn decide_npm_request(package: &PackageJson) -> Result<Option<NpmRequest>, InvalidVersionError> {
    let asked = package.engines.npm.as_deref().map(str::trim);
    let Some(text) = asked.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let range = parse_engines_range(text, Origin::EnginesNpm)?;
    Ok(Some(NpmRequest {
        text: text.to_string(),
        range,
    }))
}

/// Whether `text`, a valid request, names one version only, so that no list of versions can change the answer.
pub(crate) fn is_exact(text: &str) -> bool {
    let number = text.trim().trim_start_matches(['=', 'v', ' ']);
    number.split('.').count() == 3 && number.split('.').all(is_number)
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// A range as npm writes it in `engines`.
pub(crate) fn parse_engines_range(text: &str, origin: Origin) -> Result<Range, InvalidVersionError> {
    let invalid = || InvalidVersionError {
        text: text.to_string(),
        origin,
        why: WhyInvalid::NotARange,
    };
    // The parser passes over words that it does not know, so `latest || 20` would be `20`.
    if !text
        .split("||")
        .flat_map(str::split_whitespace)
        .all(is_range_token)
    {
        return Err(invalid());
    }
    Range::parse(text).map_err(|_| invalid())
}

fn is_range_token(token: &str) -> bool {
    let version = token.trim_start_matches(['<', '>', '=', '~', '^', 'v']);
    let is_operator = version.is_empty() && token != "v" || token == "-";
    is_operator
        || version.starts_with(|first: char| first.is_ascii_digit() || matches!(first, 'x' | 'X' | '*'))
}

/// The first line that is neither blank nor a comment, without a comment at its end.
fn first_line(text: &str) -> Option<&str> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .find(|line| !line.is_empty())
}

/// One line of `.nvmrc` or `.node-version`.
fn parse_version_file(line: &str, origin: Origin) -> Result<Range, InvalidVersionError> {
    let invalid = |why| InvalidVersionError {
        text: line.to_string(),
        origin,
        why,
    };
    let range = |text: &str, why| Range::parse(text).map_err(|_| invalid(why));
    if let Some(name) = line.strip_prefix("lts/") {
        let found = match name {
            "*" => lts_line(0),
            _ => match name.strip_prefix('-').and_then(|back| back.parse().ok()) {
                Some(back) => lts_line(back),
                None => lts_line_named(name),
            },
        };
        let major = found.ok_or(invalid(WhyInvalid::UnknownLts))?.major;
        return range(&format!("{major}.x"), WhyInvalid::UnknownLts);
    }
    match line {
        "node" | "stable" | "current" | "latest" => return Ok(Range::any()),
        "default" | "system" | "iojs" | "unstable" => return Err(invalid(WhyInvalid::LocalAlias)),
        _ => {}
    }
    let number = line.strip_prefix('v').unwrap_or(line);
    let parts = number.split('.');
    let is_version = parts.clone().count() <= 3 && parts.clone().all(is_number);
    if !is_version {
        return Err(invalid(WhyInvalid::NotAVersion));
    }
    range(number, WhyInvalid::NotAVersion)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodejs_semver::Version;

    const VERSIONS: [&str; 9] = [
        "18.20.8",
        "20.0.0",
        "20.20.2",
        "22.1.0",
        "22.1.9",
        "22.23.3",
        "24.21.0",
        "26.10.0",
        "27.0.0-rc.1",
    ];

    fn newest(range: &Range) -> Option<String> {
        let versions: Vec<Version> = VERSIONS.iter().map(|text| text.parse().unwrap()).collect();
        range.max_satisfying(&versions).map(ToString::to_string)
    }

    #[test]
    fn ranges_in_engines() {
        for (text, expected) in [
            ("22.x", Some("22.23.3")),
            ("22", Some("22.23.3")),
            ("v22", Some("22.23.3")),
            ("22.1", Some("22.1.9")),
            ("~22.1.0", Some("22.1.9")),
            ("^20.0.0", Some("20.20.2")),
            ("20.0.0", Some("20.0.0")),
            ("=20.0.0", Some("20.0.0")),
            (">=18 <21", Some("20.20.2")),
            (">= 18.0.0 < 21", Some("20.20.2")),
            ("18 || 20", Some("20.20.2")),
            ("18||20", Some("20.20.2")),
            ("18 - 20", Some("20.20.2")),
            ("18.x.x", Some("18.20.8")),
            ("*", Some("26.10.0")),
            ("x", Some("26.10.0")),
            (">=18", Some("26.10.0")),
            (">20.0.0-rc.1", Some("26.10.0")),
            ("99.x", None),
        ] {
            let range = parse_engines_range(text, Origin::EnginesNode);
            assert_eq!(newest(&range.unwrap()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn broken_ranges_in_engines() {
        for text in [
            "latest",
            "lts/*",
            "node 22",
            "latest || 20",
            "twenty",
            "22.y",
            ">=",
            "v",
            "1.2.3.4.5",
            "\u{7}22",
        ] {
            let error = parse_engines_range(text, Origin::EnginesNode).unwrap_err();
            assert_eq!(error.why, WhyInvalid::NotARange, "{text}");
        }
    }

    #[test]
    fn exact_requests() {
        for text in ["22.1.0", "v22.1.0", "=22.1.0", "= v22.1.0", " 22.1.0\n"] {
            assert!(is_exact(text), "{text:?}");
        }
        for text in [
            "22",
            "22.1",
            "22.x.x",
            "^22.1.0",
            "22.1.0 || 24.0.0",
            "22.1.0-rc.1",
            "lts/*",
            ">=22.1.0",
            "22.1.0 - 23",
        ] {
            assert!(!is_exact(text), "{text:?}");
        }
    }

    #[test]
    fn version_files() {
        for (text, expected) in [
            ("22", "22.23.3"),
            ("v22\n", "22.23.3"),
            ("  22.1  ", "22.1.9"),
            ("# the server's\n\nv20.0.0 # pinned\r\n", "20.0.0"),
            ("lts/*", "24.21.0"),
            ("lts/-1", "22.23.3"),
            ("lts/jod", "22.23.3"),
            ("lts/Iron", "20.20.2"),
            ("node", "26.10.0"),
        ] {
            let package = PackageJson::default();
            let request = decide_node_request(&package, Some(text), None).unwrap();
            assert_eq!(request.origin, Origin::Nvmrc);
            assert_eq!(newest(&request.range).as_deref(), Some(expected), "{text:?}");
        }
        for (text, expected) in [
            ("lts/argon", WhyInvalid::UnknownLts),
            ("lts/-99", WhyInvalid::UnknownLts),
            ("lts/", WhyInvalid::UnknownLts),
            ("system", WhyInvalid::LocalAlias),
            ("twenty", WhyInvalid::NotAVersion),
            ("22.", WhyInvalid::NotAVersion),
            ("22.1.0.0", WhyInvalid::NotAVersion),
            (">=22", WhyInvalid::NotAVersion),
        ] {
            let error = decide_node_request(&PackageJson::default(), None, Some(text)).unwrap_err();
            assert_eq!(
                (error.why, error.origin),
                (expected, Origin::NodeVersionFile),
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_first_place_that_says_something_wins() {
        let with_engines = PackageJson::parse(r#"{"engines": {"node": "20.x"}}"#).unwrap();
        let blank_engines = PackageJson::parse(r#"{"engines": {"node": " "}}"#).unwrap();
        for (package, nvmrc, node_version_file, expected) in [
            (&with_engines, Some("22"), Some("24"), Origin::EnginesNode),
            (&blank_engines, Some("22"), Some("24"), Origin::Nvmrc),
            (
                &blank_engines,
                Some("# nothing\n"),
                Some("24"),
                Origin::NodeVersionFile,
            ),
            (&blank_engines, None, Some(""), Origin::Default),
            (&blank_engines, None, None, Origin::Default),
        ] {
            let request = decide_node_request(package, nvmrc, node_version_file).unwrap();
            assert_eq!(request.origin, expected);
        }
    }
}
