//! Where a package's path belongs in the base, and what is left out of it.

/// The folders that are links into `/usr`.
pub(super) const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Folders of which nothing but the folders themselves is kept.
const LEFT_OUT: [&[u8]; 6] = [
    b"usr/share/man/",
    b"usr/share/info/",
    b"usr/share/locale/",
    b"usr/share/lintian/",
    b"usr/share/doc-base/",
    b"usr/share/bug/",
];
const DOCUMENTS: &[u8] = b"usr/share/doc/";

/// A path under `/bin`, `/sbin`, `/lib` or `/lib64` belongs under `/usr`.
pub(super) fn merged(path: Vec<u8>) -> Vec<u8> {
    let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    if first.len() < path.len() && MERGED.iter().any(|folder| folder.as_bytes() == first) {
        return [b"usr/", path.as_slice()].concat();
    }
    path
}

/// Whether the base does without this entry: documents, man pages and translations. Licences are kept, and so is each
/// package's own folder (or link) under `/usr/share/doc`, because licences are reached through it.
pub(super) fn is_left_out(path: &[u8]) -> bool {
    if let Some(rest) = path.strip_prefix(DOCUMENTS) {
        let mut parts = rest.split(|byte| *byte == b'/').skip(1);
        let first = parts.next();
        return first.is_some_and(|name| name != b"copyright" || parts.next().is_some());
    }
    LEFT_OUT.iter().any(|folder| path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_folders_lead_into_usr() {
        for (path, place) in [
            ("bin/sh", "usr/bin/sh"),
            ("lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
            ("lib", "lib"),
            ("library/x", "library/x"),
            ("usr/bin/x", "usr/bin/x"),
        ] {
            assert_eq!(String::from_utf8(merged(path.into())).unwrap(), place);
        }
    }

    #[test]
    fn licences_stay_and_manuals_go() {
        for (path, left_out) in [
            ("usr/share/doc", false),
            ("usr/share/doc/gcc", false),
            ("usr/share/doc/gcc/copyright", false),
            ("usr/share/doc/gcc/changelog.gz", true),
            ("usr/share/doc/gcc/copyright/x", true),
            ("usr/share/man", false),
            ("usr/share/man/man1", true),
            ("usr/share/locale/de/LC_MESSAGES/x.mo", true),
            ("usr/share/mandb", false),
            ("usr/lib/locale/C.utf8/LC_CTYPE", false),
        ] {
            assert_eq!(is_left_out(path.as_bytes()), left_out, "{path}");
        }
    }
}
