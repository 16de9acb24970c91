//! The operator's mirror table: which URL or file stands in for a URL.

use std::path::PathBuf;

use crate::http::settings::Mirror;

/// Where content is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Over the network.
    Url(String),
    /// From this machine.
    File(PathBuf),
}

/// Where `url` is taken from under `mirrors`: the longest prefix wins; without one it is `url` itself.
///
/// A prefix ends where a part of the path ends: `https://host.example` is none of `https://host.example.evil`.
/// A folder never answers for a path with `..` or an encoded separator in it.
pub fn locate(mirrors: &[Mirror], url: &str) -> Location {
    mirrors
        .iter()
        .filter_map(|mirror| Some((mirror, rest_after(&mirror.prefix, url)?)))
        .filter_map(|(mirror, rest)| Some((mirror.prefix.len(), replaced(&mirror.target, rest)?)))
        .max_by_key(|(length, _)| *length)
        .map_or_else(|| Location::Url(url.to_owned()), |(_, location)| location)
}

fn rest_after<'url>(prefix: &str, url: &'url str) -> Option<&'url str> {
    let rest = url.strip_prefix(prefix)?;
    let ends_whole = prefix.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?', '#']);
    ends_whole.then_some(rest)
}

fn replaced(target: &str, rest: &str) -> Option<Location> {
    let folder = target.strip_prefix("file://").unwrap_or(target);
    if !folder.starts_with('/') {
        let slash = if rest.is_empty() || rest.starts_with(['/', '?', '#']) {
            ""
        } else {
            "/"
        };
        let base = if slash.is_empty() && !rest.starts_with('/') {
            target
        } else {
            target.trim_end_matches('/')
        };
        return Some(Location::Url(format!("{base}{slash}{rest}")));
    }
    let path = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    let mut file = PathBuf::from(folder);
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let part = decoded(part)?;
        if part == ".." || part == "." || part.contains(['/', '\0']) {
            return None;
        }
        file.push(part);
    }
    Some(Location::File(file))
}

/// `part` with its `%xx` decoded; none if that is not UTF-8.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = tail
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<Mirror> {
        [
            ("https://npm.example/", "https://mirror.example/npm"),
            ("https://npm.example/@scope", "/srv/scope"),
            ("https://debian.example", "file:///srv/debian"),
            ("https://whole.example/file.tar", "https://other.example/file.tar"),
        ]
        .map(|(prefix, target)| Mirror {
            prefix: prefix.to_owned(),
            target: target.to_owned(),
        })
        .to_vec()
    }

    #[test]
    fn the_longest_prefix_wins_and_ends_with_a_part() {
        for (url, location) in [
            (
                "https://npm.example/left/-/left-1.tgz",
                Location::Url("https://mirror.example/npm/left/-/left-1.tgz".into()),
            ),
            (
                "https://npm.example/@scope/x?y=z",
                Location::File("/srv/scope/x".into()),
            ),
            (
                "https://npm.example/@scoped/x",
                Location::Url("https://mirror.example/npm/@scoped/x".into()),
            ),
            (
                "https://debian.example/pool/a%2bb.deb",
                Location::File("/srv/debian/pool/a+b.deb".into()),
            ),
            (
                "https://debian.example.evil/pool",
                Location::Url("https://debian.example.evil/pool".into()),
            ),
            (
                "https://whole.example/file.tar",
                Location::Url("https://other.example/file.tar".into()),
            ),
            (
                "https://none.example/x",
                Location::Url("https://none.example/x".into()),
            ),
        ] {
            assert_eq!(locate(&table(), url), location, "{url}");
        }
    }

    #[test]
    fn no_file_outside_the_folder_answers() {
        for url in [
            "https://debian.example/../etc/passwd",
            "https://debian.example/%2e%2e/etc/passwd",
            "https://debian.example/a%2f..%2f..%2fetc",
        ] {
            assert_eq!(locate(&table(), url), Location::Url(url.into()));
        }
    }
}
