//! Looks at the tree that a job wrote before anything else of the worker touches it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Component;
use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;

use crate::git::settings::Limits;

/// What is in a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Files, folders and links.
    pub(super) entries: u64,
    /// Bytes of the files.
    pub(super) bytes: u64,
}

impl Counted {
    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_add(other.entries),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// Counts a tree that holds nothing but files, folders and links as git's checkout makes them; else says what it holds.
pub(super) fn count(tree: &Path, limits: &Limits) -> Result<Counted, String> {
    let mut counted = Counted::default();
    look(tree, limits, 0, &mut counted)?;
    Ok(counted)
}

fn look(folder: &Path, limits: &Limits, depth: usize, counted: &mut Counted) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("a folder that cannot be read: {error}");
    if depth > limits.checkout_depth_max + 1 {
        return Err("folders too deep".to_owned());
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let found = entry.metadata().map_err(failed)?;
        let name = entry.file_name();
        let is_plain = found.mode() & 0o7000 == 0;
        let is_known = found.is_symlink()
            || is_plain && found.is_dir()
            || is_plain && found.is_file() && found.nlink() == 1;
        if !is_known || name.eq_ignore_ascii_case(".git") {
            return Err(format!("`{}`", name.to_string_lossy().escape_debug()));
        }
        counted.entries += 1;
        if found.is_file() {
            counted.bytes = counted.bytes.saturating_add(found.len());
        }
        if counted.entries > limits.checkout_entries_max || counted.bytes > limits.checkout_bytes_max {
            return Err("more than was asked for".to_owned());
        }
        if found.is_dir() {
            look(&entry.path(), limits, depth + 1, counted)?;
        }
    }
    Ok(())
}

/// Whether `path`, which a job named, is an empty folder of `tree` with no link on the way to it.
pub(super) fn is_empty_folder(tree: &Path, path: &str) -> bool {
    let is_plain = Path::new(path)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    is_plain
        && open_below(tree, path).is_ok()
        && fs::read_dir(tree.join(path)).is_ok_and(|mut entries| entries.next().is_none())
}

fn open_below(tree: &Path, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tree = rustix::fs::open(tree, flags, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(tree, path, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("a/b")).unwrap();
        fs::write(tree.path().join("a/file"), "12345").unwrap();
        symlink("/etc/passwd", tree.path().join("project.toml")).unwrap();
        tree
    }

    #[test]
    fn a_plain_tree_is_counted() {
        let counted = Counted { entries: 4, bytes: 5 };
        assert_eq!(count(tree().path(), &Limits::default()), Ok(counted));
    }

    #[test]
    fn what_no_checkout_makes_is_refused() {
        type Change = fn(&Path);
        let changes: [Change; 5] = [
            |tree| fs::create_dir(tree.join("a/.GIT")).unwrap(),
            |tree| fs::hard_link(tree.join("a/file"), tree.join("a/other")).unwrap(),
            |tree| fs::set_permissions(tree.join("a/file"), Permissions::from_mode(0o4755)).unwrap(),
            |tree| {
                let fifo = rustix::fs::FileType::Fifo;
                let at = rustix::fs::CWD;
                rustix::fs::mknodat(at, tree.join("a/fifo"), fifo, Mode::RUSR, 0).unwrap();
            },
            |tree| fs::write(tree.join("large"), "x".repeat(100)).unwrap(),
        ];
        let limits = Limits {
            checkout_bytes_max: 99,
            ..Limits::default()
        };
        for change in changes {
            let tree = tree();
            change(tree.path());
            assert!(count(tree.path(), &limits).is_err());
        }
    }

    #[test]
    fn a_submodule_is_never_outside() {
        let tree = tree();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), tree.path().join("out")).unwrap();
        fs::create_dir(outside.path().join("b")).unwrap();
        assert!(is_empty_folder(tree.path(), "a/b"));
        for path in [
            "out", "out/b", "a", "../", "/", "a/../a/b", "missing", "a/file", "",
        ] {
            assert!(!is_empty_folder(tree.path(), path), "{path}");
        }
    }
}
