//! Where source code comes from: a folder, or a git URL with `#REVISION[:SUBDIRECTORY]`.

use std::fmt;
use std::path::PathBuf;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::source::location::GitLocation;
use crate::model::source::location::is_scp_like;
use crate::model::source::location::without_credentials;
use crate::model::source::location::wrong_url;

pub mod location;

/// More than any sensible source has.
const SOURCE_BYTES_MAX: usize = 4096;
/// The longest name of a branch or tag that file systems carry, in bytes.
const REVISION_BYTES_MAX: usize = 255;

/// What a build is asked to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// A folder on this machine.
    Directory {
        /// The folder.
        path: PathBuf,
        /// The part of it that is the app, relative, without `..`.
        subdirectory: Option<String>,
    },
    /// A git repository.
    Git(GitUrl),
}

/// A git repository, a revision of it and a part of that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GitUrl {
    /// The repository.
    pub location: GitLocation,
    /// A commit in 7 to 64 hex digits, or the name of a branch or tag; none: the remote's HEAD.
    pub revision: Option<String>,
    /// The part of the tree that is the app, relative, without `..`.
    pub subdirectory: Option<String>,
}

/// A text that is no source.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SourceError {
    /// Neither a folder nor a URL.
    #[error("`{text}` is neither a folder nor a git URL")]
    Unknown {
        /// What was given.
        text: String,
    },
    /// A URL that git does not have, or not here.
    #[error("`{url}` is not a git URL that packhorse fetches: {why}")]
    Url {
        /// The URL without credentials.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A revision that git would not take, or that looks like an option.
    #[error("`{revision}` is not a revision: {why}")]
    Revision {
        /// What was given.
        revision: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A part outside the source.
    #[error("`{subdirectory}` is not a part of the source: {why}")]
    Subdirectory {
        /// What was given.
        subdirectory: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Failure for SourceError {
    fn facts(&self) -> Facts {
        Facts::user(match self {
            Self::Unknown { .. } => "source_not_found",
            Self::Url { .. } => "source_url_invalid",
            Self::Revision { .. } => "revision_invalid",
            Self::Subdirectory { .. } => "subdirectory_invalid",
        })
    }
}

impl SourceSpec {
    /// Reads a source as a person writes it. `exists` says whether a path is a folder on this machine; a folder
    /// goes before a URL of the same spelling.
    pub fn parse(text: &str, exists: impl Fn(&str) -> bool) -> Result<Self, SourceError> {
        if text.is_empty() || text.len() > SOURCE_BYTES_MAX || text.contains('\0') {
            return Err(SourceError::Unknown {
                text: shortened(&without_credentials(text)),
            });
        }
        if text.contains("://") {
            return GitUrl::parse(text).map(Self::Git);
        }
        if exists(text) {
            return Ok(Self::Directory {
                path: PathBuf::from(text),
                subdirectory: None,
            });
        }
        if let Some((folder, part)) = text.split_once('#')
            && exists(folder)
        {
            return directory_part(folder, part);
        }
        if is_scp_like(text) {
            return GitUrl::parse(text).map(Self::Git);
        }
        Err(SourceError::Unknown {
            text: shortened(&without_credentials(text)),
        })
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory {
                path,
                subdirectory: None,
            } => write!(formatter, "{}", path.display()),
            Self::Directory {
                path,
                subdirectory: Some(part),
            } => write!(formatter, "{}#:{part}", path.display()),
            Self::Git(url) => url.fmt(formatter),
        }
    }
}

impl GitUrl {
    /// Reads `URL[#REVISION[:SUBDIRECTORY]]` or `[user@]host:path[#…]`.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let (address, fragment) = match text.split_once('#') {
            Some((address, fragment)) => (address, fragment),
            None => (text, ""),
        };
        let authority = address.split_once("://").map_or("", |(_, rest)| rest);
        if authority.contains(':') && !authority.contains(['/', '@']) && fragment.contains('@') {
            return Err(wrong_url(text, "a `#` in a password is written as `%23`"));
        }
        let location = GitLocation::parse(address)?;
        let (revision, subdirectory) = match fragment.split_once(':') {
            Some((revision, subdirectory)) => (revision, Some(check_subdirectory(subdirectory)?)),
            None => (fragment, None),
        };
        let revision = match revision {
            "" => None,
            revision => Some(check_revision(revision)?),
        };
        Ok(Self {
            location,
            revision,
            subdirectory: subdirectory.flatten(),
        })
    }

    /// The repository as labels and caches name it; see [`GitLocation::canonical_url`].
    pub fn canonical_url(&self) -> Option<String> {
        self.location.canonical_url()
    }

    /// The whole without user, password and query, for messages.
    pub fn redacted(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for GitUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(formatter)?;
        match (&self.revision, &self.subdirectory) {
            (None, None) => Ok(()),
            (Some(revision), None) => write!(formatter, "#{revision}"),
            (revision, Some(part)) => write!(formatter, "#{}:{part}", revision.as_deref().unwrap_or("")),
        }
    }
}

fn directory_part(folder: &str, part: &str) -> Result<SourceSpec, SourceError> {
    let Some(subdirectory) = part.strip_prefix(':') else {
        let why = "for a revision of a repository on this machine write `file:///PATH#REVISION`, for a part `FOLDER#:PART`";
        return Err(SourceError::Revision {
            revision: shortened(part),
            why,
        });
    };
    let subdirectory = check_subdirectory(subdirectory)?;
    Ok(SourceSpec::Directory {
        path: PathBuf::from(folder),
        subdirectory,
    })
}

/// Git's rules for the name of a ref (`git help check-ref-format`); a commit's hex digits obey them too.
fn check_revision(revision: &str) -> Result<String, SourceError> {
    let wrong = |why| {
        Err(SourceError::Revision {
            revision: shortened(revision),
            why,
        })
    };
    let forbidden = |character: char| {
        character.is_control() || matches!(character, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\')
    };
    let odd_part = |part: &str| {
        let is_lock = part.len() >= 5 && part.as_bytes()[part.len() - 5..] == *b".lock";
        part.is_empty() || part.starts_with('.') || is_lock
    };
    if revision.len() > REVISION_BYTES_MAX {
        return wrong("it is too long");
    }
    if revision.starts_with('-') {
        return wrong("it begins with `-`");
    }
    if revision.contains("..") || revision.contains("@{") || revision == "@" || revision.ends_with('.') {
        return wrong("git allows no `..`, `@{` or final `.` in the name of a branch or tag");
    }
    if revision.contains(forbidden) || revision.split('/').any(odd_part) {
        return wrong("git allows no such name for a branch or tag, and a commit is 7 to 64 hex digits");
    }
    Ok(revision.to_owned())
}

fn check_subdirectory(subdirectory: &str) -> Result<Option<String>, SourceError> {
    let wrong = |why| {
        Err(SourceError::Subdirectory {
            subdirectory: shortened(subdirectory),
            why,
        })
    };
    if subdirectory.starts_with('/') {
        return wrong("it must be relative");
    }
    if subdirectory.contains('\0') {
        return wrong("it contains a NUL");
    }
    let parts: Vec<&str> = subdirectory
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return wrong("`..` would leave the source");
    }
    if parts.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
        return wrong("`.git` is not part of the source");
    }
    Ok(Some(parts.join("/")).filter(|part| !part.is_empty()))
}

fn shortened(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn git(text: &str) -> GitUrl {
        match SourceSpec::parse(text, |_| false) {
            Ok(SourceSpec::Git(url)) => url,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn no_error_shows_a_password() {
        for text in [
            "https://user:se/krit@forge.example/x.git",
            "https://user:sek#rit@forge.example/x.git",
            "https//user:sekrit@forge.example/x.git",
            "https://user:sekrit@forge.example:port/x.git",
            "https://user:sek rit@forge.example/x.git",
        ] {
            let error = SourceSpec::parse(text, |_| false).unwrap_err().to_string();
            assert!(!error.contains("sek") && !error.contains("krit"), "{error}");
            assert!(error.contains("forge.example"), "{error}");
        }
        let error = SourceSpec::parse("https://forge.example/@scope/x y", |_| false).unwrap_err();
        assert!(error.to_string().contains("forge.example/@scope"), "{error}");
    }

    #[test]
    fn urls_are_canonical_without_credentials() {
        for (text, canonical) in [
            (
                "https://forge.example/team/app.git",
                Some("https://forge.example/team/app"),
            ),
            (
                "https://user:secret@Forge.Example:443/team/app/?token=secret",
                Some("https://forge.example/team/app"),
            ),
            (
                "https://forge.example:8443/app#main:web",
                Some("https://forge.example:8443/app"),
            ),
            (
                "ssh://git@forge.example:22/team/app.git",
                Some("ssh://forge.example/team/app"),
            ),
            (
                "git@forge.example:team/app.git",
                Some("ssh://forge.example/team/app"),
            ),
            ("forge.example:app", Some("ssh://forge.example/app")),
            ("http://127.0.0.1:8080/app", Some("http://127.0.0.1:8080/app")),
            ("file:///srv/app.git", None),
        ] {
            let url = git(text);
            assert_eq!(url.canonical_url().as_deref(), canonical, "{text}");
            for shown in [url.to_string(), url.redacted(), format!("{url:?}")] {
                assert!(!shown.contains("secret"), "{shown}");
            }
        }
    }

    #[test]
    fn a_fragment_is_revision_and_part() {
        for (text, revision, part) in [
            ("https://h/a", None, None),
            ("https://h/a#", None, None),
            ("https://h/a#main", Some("main"), None),
            (
                "https://h/a#feature/x:web/api/",
                Some("feature/x"),
                Some("web/api"),
            ),
            ("https://h/a#:./web", None, Some("web")),
            ("git@h:a#v1.0", Some("v1.0"), None),
        ] {
            let url = git(text);
            assert_eq!(
                (url.revision.as_deref(), url.subdirectory.as_deref()),
                (revision, part),
                "{text}"
            );
        }
    }

    #[test]
    fn folders_go_before_urls() {
        let exists = |path: &str| matches!(path, "." | "a:b" | "app");
        let folder = |path: &str, part: Option<&str>| SourceSpec::Directory {
            path: PathBuf::from(path),
            subdirectory: part.map(str::to_owned),
        };
        assert_eq!(SourceSpec::parse(".", exists), Ok(folder(".", None)));
        assert_eq!(SourceSpec::parse("a:b", exists), Ok(folder("a:b", None)));
        assert_eq!(SourceSpec::parse(".#:web", exists), Ok(folder(".", Some("web"))));
        assert!(matches!(
            SourceSpec::parse("app#main", exists),
            Err(SourceError::Revision { .. })
        ));
        assert!(matches!(
            SourceSpec::parse("missing", exists),
            Err(SourceError::Unknown { .. })
        ));
        assert!(matches!(
            SourceSpec::parse("./x:y", exists),
            Err(SourceError::Unknown { .. })
        ));
    }

    #[test]
    fn what_could_be_an_option_or_leave_the_source_is_refused() {
        for text in [
            "https://h/a#--upload-pack=x",
            "https://h/a#a..b",
            "https://h/a#a b",
            "https://h/a#x.lock",
            "https://h/a#/x",
            "https://h/a#main:../x",
            "https://h/a#main:/etc",
            "https://h/a#main:.git/hooks",
            "ssh://-oProxyCommand=x/a",
            "ssh://-u@h/a",
            "-oProxyCommand=x:a",
            "h:-a",
            "ssh://u:p@h/a",
            "ext::sh",
            "ext::sh -c x",
            "ext://h/a",
            "git://h/a",
            "file://other/a",
            "https:///a",
            "https://h",
            "https://h:port/a",
            "https://h/a\nb",
        ] {
            assert!(SourceSpec::parse(text, |_| false).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_hide_credentials() {
        for text in [
            "ftp://user:secret@h/a?secret",
            "https://user:secret@h:port/a",
            "ssh://user:secret@h/a",
        ] {
            let message = SourceSpec::parse(text, |_| false).unwrap_err().to_string();
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn ssh_paths_are_decoded_and_kept_relative() {
        assert_eq!(git("ssh://h/~u/a%20b").location.path(), "/~u/a b");
        assert_eq!(git("u@h:a/b.git").location.path(), "a/b.git");
        assert_eq!(git("https://h/a%20b").location.path(), "/a%20b");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_hides_its_password(text in ".{0,60}", url in "(https|ssh|file)://[a-z:@./?#-]{0,40}") {
            for text in [text, url] {
                if let Ok(spec) = SourceSpec::parse(&text, |_| false) {
                    let shown = spec.to_string();
                    let again = SourceSpec::parse(&shown, |_| false);
                    prop_assert!(again.is_ok(), "{} -> {}: {:?}", text, shown, again);
                }
            }
        }
    }
}
