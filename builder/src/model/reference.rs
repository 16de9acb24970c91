//! References of images, `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, with Docker's normalisation.

use std::fmt;
use std::str::FromStr;

use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// The registry of a reference that names none.
pub const DOCKER_HUB: &str = "docker.io";
/// Where Docker Hub answers the distribution protocol; its name and its host differ.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
/// The longest registry and repository together, in bytes, that other tools take.
const NAME_BYTES_MAX: usize = 255;
/// The longest tag in bytes (OCI distribution spec).
const TAG_BYTES_MAX: usize = 128;
/// More than any valid reference has.
const REFERENCE_BYTES_MAX: usize = 1024;

/// A complete reference: registry, repository, and a tag or digest (or both: then the digest counts).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is no reference of an image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not the name of an image: {why}")]
pub struct ReferenceError {
    text: String,
    why: String,
}

impl Failure for ReferenceError {
    fn facts(&self) -> Facts {
        Facts::user("reference_invalid")
    }
}

impl ImageReference {
    /// The registry's name, with its port if one was given: `docker.io`, `registry.example:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The host and port that requests go to; only Docker Hub's differs from its name.
    pub fn registry_host(&self) -> &str {
        if self.registry == DOCKER_HUB {
            DOCKER_HUB_HOST
        } else {
            &self.registry
        }
    }

    /// The repository, without the registry: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What stands in a manifest's URL: the digest, else the tag.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Registry and repository without tag and digest: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository at `digest` alone, without the tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|why| ReferenceError {
            text: shortened(text),
            why,
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(formatter, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

fn parse(text: &str) -> Result<ImageReference, String> {
    check_whole(text)?;
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(digest.parse::<Digest>().map_err(|error| error.to_string())?),
        ),
        None => (text, None),
    };
    let (registry, path) = split_registry(rest);
    let (repository, tag) = match path.rsplit_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (path, None),
    };
    if repository.is_empty() {
        return Err("it names no repository".to_owned());
    }
    let (registry, repository) = normalise(registry, repository);
    check_registry(&registry)?;
    check_repository(&repository)?;
    if registry.len() + 1 + repository.len() > NAME_BYTES_MAX {
        return Err(format!(
            "registry and repository are longer than {NAME_BYTES_MAX} bytes"
        ));
    }
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let tag = match (tag, digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_owned()),
    };
    Ok(ImageReference {
        registry,
        repository,
        tag,
        digest,
    })
}

fn check_whole(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > REFERENCE_BYTES_MAX {
        return Err(format!("it is longer than {REFERENCE_BYTES_MAX} bytes"));
    }
    if text.contains("://") {
        return Err("a reference has no scheme; write `registry.example/name:tag`".to_owned());
    }
    if text.chars().any(char::is_whitespace) {
        return Err("it contains a space".to_owned());
    }
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("64 hex digits alone are an image's id; write `NAME@sha256:…`".to_owned());
    }
    Ok(())
}

/// Docker's rule, but for upper-case letters: those are a mistake in a repository more often than a registry.
fn split_registry(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if is_registry(first) => (Some(first), rest),
        _ => (None, text),
    }
}

fn is_registry(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':', '['])
}

fn normalise(registry: Option<&str>, repository: &str) -> (String, String) {
    let registry = match registry {
        None | Some("index.docker.io" | DOCKER_HUB_HOST) => DOCKER_HUB.to_owned(),
        Some(registry) => registry.to_ascii_lowercase(),
    };
    if registry == DOCKER_HUB && !repository.contains('/') {
        return (registry, format!("library/{repository}"));
    }
    (registry, repository.to_owned())
}

fn check_registry(registry: &str) -> Result<(), String> {
    let (host, port) = split_port(registry);
    if let Some(port) = port
        && port.parse::<u16>().map_or(true, |port| port == 0)
    {
        return Err(format!("`{port}` is not a port"));
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match address.parse::<core::net::Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("`{host}` is not an IPv6 address")),
        };
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.split('.').all(is_label) {
        Ok(())
    } else {
        Err(format!("`{registry}` is not a registry's host"))
    }
}

fn split_port(registry: &str) -> (&str, Option<&str>) {
    match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    }
}

fn check_repository(repository: &str) -> Result<(), String> {
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!(
            "a repository has no upper-case letters; did you mean `{}`?",
            repository.to_ascii_lowercase()
        ));
    }
    match repository.split('/').find(|part| !is_component(part)) {
        None => Ok(()),
        Some("") => Err("a part of the repository is empty".to_owned()),
        Some(part) => Err(format!(
            "`{part}` is no part of a repository: letters and digits, joined by `.`, `_`, `__` or `-`"
        )),
    }
}

/// `[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*` (OCI distribution spec, pulling manifests).
fn is_component(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = part.split(|character: char| u8::try_from(character).is_ok_and(is_word));
    let edges_are_words =
        part.bytes().next().is_some_and(is_word) && part.bytes().last().is_some_and(is_word);
    edges_are_words
        && separators
            .filter(|separator| !separator.is_empty())
            .all(|separator| {
                matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
            })
}

fn check_tag(tag: &str) -> Result<(), String> {
    if tag.is_empty() {
        return Err("its tag is empty".to_owned());
    }
    if tag.len() > TAG_BYTES_MAX {
        return Err(format!("its tag is longer than {TAG_BYTES_MAX} bytes"));
    }
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_tag = tag
        .bytes()
        .all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
        && tag.bytes().next().is_some_and(is_word);
    if is_tag {
        return Ok(());
    }
    Err(format!(
        "`{}` is not a tag: letters, digits, `_`, `.` and `-`, not first `.` or `-`",
        shortened(tag)
    ))
}

fn shortened(text: &str) -> String {
    // What stands before `@` could be a user and a password; only a digest may follow a name.
    let text = match text.rsplit_once('@') {
        Some((before, after)) if before.contains(':') && !after.starts_with("sha256:") => after,
        _ => text,
    };
    let mut short: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    if text.chars().count() > 120 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised_as_docker_does() {
        let pinned = format!("registry.example/app:1@{DIGEST}");
        for (text, normal) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("team/app", "docker.io/team/app:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("127.0.0.1:5000/a/b/c:x_Y.z-1", "127.0.0.1:5000/a/b/c:x_Y.z-1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("Registry.Example/app", "registry.example/app:latest"),
            (
                "registry.example/a__b/c---d.e",
                "registry.example/a__b/c---d.e:latest",
            ),
            (pinned.as_str(), pinned.as_str()),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), normal);
            assert_eq!(normal.parse::<ImageReference>().unwrap(), reference);
        }
    }

    #[test]
    fn docker_hub_answers_at_another_host() {
        let reference: ImageReference = "debian".parse().unwrap();
        assert_eq!(
            (reference.registry(), reference.registry_host()),
            ("docker.io", "registry-1.docker.io")
        );
        let reference: ImageReference = "localhost:5000/app".parse().unwrap();
        assert_eq!(reference.registry_host(), "localhost:5000");
    }

    #[test]
    fn a_digest_counts_before_a_tag() {
        let reference: ImageReference = format!("app:1@{DIGEST}").parse().unwrap();
        assert_eq!(reference.identifier(), DIGEST);
        assert_eq!(reference.tag(), Some("1"));
        let reference: ImageReference = format!("app@{DIGEST}").parse().unwrap();
        assert_eq!(reference.tag(), None);
        let tagged: ImageReference = "app:1".parse().unwrap();
        assert_eq!(tagged.with_digest(reference.digest().unwrap()), reference);
    }

    #[test]
    fn messages_say_what_is_wrong() {
        for (text, says) in [
            ("", "empty"),
            ("Team/App", "did you mean `team/app`"),
            ("team/App", "did you mean `team/app`"),
            ("registry.example/", "names no repository"),
            ("registry.example/:1", "names no repository"),
            ("my app", "space"),
            ("https://registry.example/app", "no scheme"),
            ("app:", "tag is empty"),
            ("app:-x", "not a tag"),
            ("app@sha256:00", "not a digest"),
            ("a//b", "empty"),
            ("-a", "no part of a repository"),
            ("a..b", "no part of a repository"),
            ("registry.example:0/app", "not a port"),
            ("registry.example:x/app", "not a port"),
            ("bad_host.example/app", "not a registry's host"),
            ("[::g]/app", "IPv6"),
        ] {
            let message = text
                .parse::<ImageReference>()
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(message.contains(says), "{text}: {message}");
        }
        assert!("a".repeat(300).parse::<ImageReference>().is_err());
        assert!(
            format!("a:{}", "t".repeat(129))
                .parse::<ImageReference>()
                .is_err()
        );
        assert!(
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
                .parse::<ImageReference>()
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_survives(text in ".{0,80}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(reference.to_string().parse::<ImageReference>().unwrap(), reference);
            }
        }

        #[test]
        fn likely_text_is_refused_or_survives(text in "[a-zA-Z0-9.:/@_-]{1,40}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(reference.to_string().parse::<ImageReference>().unwrap(), reference);
            }
        }
    }
}
