//! Submodules: named by the source, so fetched without credentials, from the server of their parent alone.

use std::path::Path;

use git2::Oid;
use git2::Repository;
use serde::Deserialize;
use serde::Serialize;

use crate::git::checkout::Checkout;
use crate::git::error::GitError;
use crate::git::repository::Resolved;
use crate::model::named_by::NamedBy;
use crate::model::source::GitUrl;
use crate::model::source::location::GitLocation;
use crate::model::source::location::Scheme;

/// Bytes of `.gitmodules` that are read.
const MODULES_BYTES_MAX: usize = 1 << 20;

/// One section of `.gitmodules`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Module {
    path: String,
    url: String,
}

/// The submodules that the commit's `.gitmodules` names. It stands at the root, whatever part was asked for.
pub(super) fn list(repository: &Repository, commit: &str, url: &str) -> Result<Vec<Module>, GitError> {
    let failed = |source| GitError::Library {
        doing: "read".into(),
        url: url.to_owned(),
        source,
    };
    let commit = Oid::from_str(commit)
        .and_then(|commit| repository.find_commit(commit))
        .map_err(failed)?;
    let tree = commit.tree().map_err(failed)?;
    let Some(entry) = tree.get_name(".gitmodules") else {
        return Ok(Vec::new());
    };
    // A link of this name would be followed by nobody here: its text is read as the file.
    let blob = repository.find_blob(entry.id()).map_err(failed)?;
    if blob.size() > MODULES_BYTES_MAX {
        let (url, limit) = (url.to_owned(), MODULES_BYTES_MAX as u64);
        return Err(GitError::TooLarge {
            url,
            limit,
            unit: "bytes of .gitmodules".into(),
        });
    }
    Ok(parse(&String::from_utf8_lossy(blob.content())))
}

/// Fetches the submodule at `path` and writes it into its folder, which is there and empty.
#[expect(
    clippy::too_many_arguments,
    reason = "the place of one submodule in a checkout; a struct would have one use"
)]
pub(super) fn write(
    checkout: &mut Checkout<'_>,
    parent: &Resolved,
    modules: &[Module],
    path: &str,
    commit: &str,
    destination: &Path,
    prefix: &str,
    depth: usize,
) -> Result<(), GitError> {
    let shown = format!("{prefix}{path}");
    let limits = &checkout.git.settings.limits;
    let refused = |url: &str, why: String| GitError::Submodule {
        path: shown.clone(),
        url: url.to_owned(),
        why,
    };
    checkout.count += 1;
    if depth >= limits.submodule_depth_max {
        return Err(refused(
            "",
            format!("it is deeper than {} submodules", limits.submodule_depth_max),
        ));
    }
    if checkout.count > limits.submodules_max {
        return Err(refused(
            "",
            format!("there are more than {} submodules", limits.submodules_max),
        ));
    }
    let whole = match &parent.url.subdirectory {
        Some(subdirectory) => format!("{subdirectory}/{path}"),
        None => path.to_owned(),
    };
    let Some(module) = modules.iter().rev().find(|module| module.path == whole) else {
        return Err(refused("", "`.gitmodules` does not name it".to_owned()));
    };
    let location = locate(&parent.url.location, &module.url).map_err(|source| GitError::SubmoduleUrl {
        path: shown.clone(),
        source,
    })?;
    check(&parent.url.location, &location).map_err(|why| refused(&location.to_string(), why.to_owned()))?;
    let url = GitUrl {
        location,
        revision: Some(commit.to_string()),
        subdirectory: None,
    };
    let resolved = checkout
        .git
        .resolve(&url, NamedBy::Source, checkout.events, checkout.cancel)?;
    checkout.write(&resolved, destination, &format!("{shown}/"), depth + 1)
}

fn locate(parent: &GitLocation, url: &str) -> Result<GitLocation, crate::model::source::SourceError> {
    if url.starts_with("./") || url.starts_with("../") {
        parent.relative(url)
    } else {
        GitLocation::parse(url)
    }
}

/// Why a submodule is not fetched, if it is not. Only whom the user named is asked: no network policy stands between the
/// client and other hosts, or other ports of the same host.
fn check(parent: &GitLocation, child: &GitLocation) -> Result<(), &'static str> {
    match child.scheme() {
        // Not below its parent either: a repository that is a folder of the source may take its objects from anywhere
        // (`objects/info/alternates`, `commondir`, links). Git has refused it since CVE-2022-39253.
        Scheme::File => Err("a source may not name files of this machine"),
        Scheme::Ssh => Err("what a source names is fetched without credentials, and ssh would use yours"),
        Scheme::Https | Scheme::Http if child.origin() == parent.origin() => Ok(()),
        Scheme::Https | Scheme::Http => Err("it is on another server than its parent"),
    }
}

/// Reads the sections `[submodule "…"]` with `path` and `url`; all else of git's configuration language is passed over.
fn parse(text: &str) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.to_ascii_lowercase().starts_with("[submodule ");
            if inside {
                modules.push(Module::default());
            }
            continue;
        }
        let (Some((key, value)), Some(module)) =
            (line.split_once('='), modules.last_mut().filter(|_| inside))
        else {
            continue;
        };
        let value = unquoted(value.trim());
        match key.trim().to_ascii_lowercase().as_str() {
            "path" => value.trim_end_matches('/').clone_into(&mut module.path),
            "url" => module.url = value,
            _ => {}
        }
    }
    modules.retain(|module| !module.path.is_empty() && !module.url.is_empty());
    modules
}

fn unquoted(value: &str) -> String {
    match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(value) => value.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value
            .split([';', '#'])
            .next()
            .unwrap_or(value)
            .trim_end()
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gitmodules_are_read() {
        let text = "[core]\n\tpath = no\n[submodule \"a b\"]\n\tpath = libs/a\n\turl = ../a.git\n\tbranch = x\n\
                    [submodule \"half\"]\n\tpath = half\n[SubModule \"c\"]\n  url = \"https://h/c\" \n  path=c/\n";
        let module = |path: &str, url: &str| Module {
            path: path.into(),
            url: url.into(),
        };
        assert_eq!(
            parse(text),
            [module("libs/a", "../a.git"), module("c", "https://h/c")]
        );
    }

    #[test]
    fn relative_urls_are_the_parents_neighbours() {
        for (parent, url, expected) in [
            (
                "https://u:p@h:8/team/app.git",
                "../lib.git",
                "https://h:8/team/lib.git",
            ),
            ("https://h/team/app", "./lib", "https://h/team/app/lib"),
            ("git@h:team/app.git", "../../other/lib", "ssh://h/other/lib"),
            ("file:///srv/app.git", "../lib.git", "file:///srv/lib.git"),
        ] {
            let parent = GitLocation::parse(parent).unwrap();
            assert_eq!(locate(&parent, url).unwrap().to_string(), expected);
        }
        let parent = GitLocation::parse("https://h/app").unwrap();
        for url in ["../../x", "ext::sh", "../", "--upload-pack=x", "/etc"] {
            assert!(locate(&parent, url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_a_source_names_gets_no_credentials_and_no_files() {
        let at = |url: &str| GitLocation::parse(url).unwrap();
        for (parent, child, allowed) in [
            ("https://h/a", "file:///etc", false),
            ("file:///a", "file:///b", false),
            ("file:///a", "file:///a/b", false),
            ("file:///a", "https://h/b", false),
            ("https://h/a", "ssh://h/b", false),
            ("ssh://h/a", "ssh://h/b", false),
            ("ssh://h/a", "https://h/b", false),
            ("https://h/a", "https://h/b", true),
            ("https://h/a", "https://h:443/b", true),
            ("https://h:8443/a", "https://h:8443/b", true),
            ("https://h/a", "https://h:8443/b", false),
            ("https://h:8443/a", "https://h/b", false),
            ("https://h/a", "http://h/b", false),
            ("https://h/a", "http://h:443/b", false),
            ("https://h/a", "https://other/b", false),
        ] {
            assert_eq!(
                check(&at(parent), &at(child)).is_ok(),
                allowed,
                "{parent} {child}"
            );
        }
    }
}
