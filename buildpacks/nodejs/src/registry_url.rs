//! The address of the npm registry: where it is set, and the URLs below it.

use std::fmt;

/// npm's own default.
const DEFAULT_REGISTRY: &str = "https://registry.npmjs.org";

/// The base URL of an npm registry, without a slash at its end. Its `Display` hides a user name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegistryUrl(String);

/// A registry address that is no http or https URL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry `{}`, set in {place}, is not an http or https URL", hide_credentials(text).escape_debug())]
pub(crate) struct InvalidRegistryError {
    text: String,
    pub(crate) place: &'static str,
}

impl RegistryUrl {
    /// Decides in npm's order: the environment's value, the app's `.npmrc`, npm's default.
    ///
    /// `variable` answers for `${NAME}` in `.npmrc`.
    pub(crate) fn decide(
        from_environment: Option<&str>,
        npmrc: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidRegistryError> {
        if let Some(text) = from_environment.filter(|text| !text.trim().is_empty()) {
            return Self::parse(text, "NPM_CONFIG_REGISTRY");
        }
        match npmrc.and_then(registry_in_npmrc) {
            Some(text) => Self::parse(&expand_variables(text, variable), ".npmrc"),
            None => Ok(Self(DEFAULT_REGISTRY.to_string())),
        }
    }

    fn parse(text: &str, place: &'static str) -> Result<Self, InvalidRegistryError> {
        let url = text.trim().trim_end_matches('/');
        let rest = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"))
            .unwrap_or_default();
        let is_plain = rest
            .chars()
            .all(|letter| letter.is_ascii_graphic() && !matches!(letter, '?' | '#'));
        if rest.is_empty() || rest.starts_with('/') || !is_plain {
            return Err(InvalidRegistryError {
                text: text.to_string(),
                place,
            });
        }
        Ok(Self(url.to_string()))
    }

    /// Where the registry answers with the list of versions of `package`.
    pub(crate) fn metadata_url(&self, package: &str) -> String {
        format!("{}/{package}", self.0)
    }

    /// Where to fetch a tarball: a mirror's list may still name the default registry, which npm replaces too
    /// (its setting `replace-registry-host`).
    pub(crate) fn tarball_url(&self, listed: &str) -> String {
        match listed.strip_prefix(DEFAULT_REGISTRY) {
            Some(path) if path.starts_with('/') => format!("{}{path}", self.0),
            _ => listed.to_string(),
        }
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hide_credentials(&self.0))
    }
}

/// `url` without what stands between `//` and `@`.
pub(crate) fn hide_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("//") else {
        return url.to_string();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}//{host}{path}"),
        None => url.to_string(),
    }
}

/// The last `registry` of an `.npmrc`; not that of a scope (`@scope:registry`).
fn registry_in_npmrc(text: &str) -> Option<&str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| key.trim() == "registry")
        .map(|(_, value)| value.trim().trim_matches(['"', '\'']))
        .rfind(|value| !value.is_empty())
}

/// Replaces each `${NAME}`; one that is not set stays as it is, as npm leaves it.
fn expand_variables(text: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else {
            break;
        };
        expanded.push_str(before);
        expanded.push_str(&variable(name).unwrap_or_else(|| format!("${{{name}}}")));
        rest = tail;
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(environment: Option<&str>, npmrc: Option<&str>) -> Result<RegistryUrl, InvalidRegistryError> {
        RegistryUrl::decide(environment, npmrc, |name| {
            (name == "MIRROR").then(|| "mirror.example".to_string())
        })
    }

    #[test]
    fn the_environment_goes_before_npmrc() {
        for (environment, npmrc, expected) in [
            (None, None, "https://registry.npmjs.org"),
            (Some(" "), None, "https://registry.npmjs.org"),
            (
                Some("http://127.0.0.1:4873/"),
                Some("registry=https://a.example"),
                "http://127.0.0.1:4873",
            ),
            (
                None,
                Some("; c\n registry = \"https://a.example/npm/\" \n"),
                "https://a.example/npm",
            ),
            (
                None,
                Some("registry=https://a.example\nregistry=https://b.example"),
                "https://b.example",
            ),
            (
                None,
                Some("@own:registry=https://a.example"),
                "https://registry.npmjs.org",
            ),
            (
                None,
                Some("registry=https://${MIRROR}/npm"),
                "https://mirror.example/npm",
            ),
        ] {
            assert_eq!(
                decide(environment, npmrc).unwrap().0,
                expected,
                "{environment:?} {npmrc:?}"
            );
        }
    }

    #[test]
    fn other_schemes_and_hosts_that_are_none_are_refused() {
        for text in [
            "ftp://a.example",
            "a.example",
            "https://",
            "https:///x",
            "https://a b",
            "https://a/?x",
            "file:///etc",
        ] {
            assert!(decide(Some(text), None).is_err(), "{text}");
        }
        let error = decide(None, Some("registry=https://me:secret@${UNSET ?")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the registry `https://${UNSET ?`, set in .npmrc, is not an http or https URL"
        );
    }

    #[test]
    fn urls_below_the_registry() {
        let mirror = decide(Some("https://me:secret@mirror.example/npm/"), None).unwrap();
        assert_eq!(mirror.to_string(), "https://mirror.example/npm");
        assert_eq!(
            mirror.metadata_url("npm"),
            "https://me:secret@mirror.example/npm/npm"
        );
        for (listed, expected) in [
            (
                "https://registry.npmjs.org/npm/-/npm-1.tgz",
                "https://me:secret@mirror.example/npm/npm/-/npm-1.tgz",
            ),
            (
                "https://files.example/npm-1.tgz",
                "https://files.example/npm-1.tgz",
            ),
            (
                "https://registry.npmjs.org.evil.example/a",
                "https://registry.npmjs.org.evil.example/a",
            ),
        ] {
            assert_eq!(mirror.tarball_url(listed), expected);
        }
    }
}
