//! A mirror while a job may write to it: set aside, and back in its place once the worker has looked at all that is there.
//!
//! What a killed worker has left aside is removed by the next: a mirror holds nothing that cannot be fetched again.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::fs::Metadata;
use std::fs::Permissions;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::path::PathBuf;

use crate::events::Cancel;
use crate::git::error::GitError;
use crate::git::mirror;
use crate::git::mirror::Purpose;
use crate::git::mirror::file_error;
use crate::git::mirror::remove;
use crate::model::named_by::NamedBy;
use crate::model::source::location::GitLocation;

/// Files and folders of a mirror: each branch may have one.
const ENTRIES_MAX: u64 = 500_000;
/// Bytes of a file that is neither pack nor object.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 10;
/// Bytes of the list of commits where history ends.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Nobody but its owner needs to write to a folder.
const FOLDER_MODE: u32 = 0o755;

/// A mirror under its lock, aside.
pub(super) struct Quarantine {
    kept: PathBuf,
    aside: PathBuf,
    _lock: File,
}

impl Quarantine {
    /// Sets the mirror of `location` aside for a job whose files are `owner`'s; an empty folder if there is none yet.
    pub(super) fn open(
        directory: &Path,
        location: &GitLocation,
        named_by: NamedBy,
        owner: u32,
        cancel: &Cancel,
    ) -> Result<Self, GitError> {
        let kept = mirror::path_of(directory, location, named_by);
        fs::create_dir_all(directory).map_err(|source| file_error("make", directory, source))?;
        let lock = mirror::locked(&kept.with_extension("lock"), Purpose::Fetch, cancel)?;
        let aside = kept.with_extension("aside");
        remove(&aside)?;
        if mirror::has_too_many_packs(&kept) {
            remove(&kept)?;
        }
        match fs::rename(&kept, &aside) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                fs::create_dir(&aside).map_err(|source| file_error("make", &aside, source))?;
                fs::set_permissions(&aside, Permissions::from_mode(FOLDER_MODE))
                    .map_err(|source| file_error("make", &aside, source))?;
            }
            moved => moved.map_err(|source| file_error("rename", &kept, source))?,
        }
        give(&aside, owner)?;
        Ok(Self {
            kept,
            aside,
            _lock: lock,
        })
    }

    /// Where it is while the job runs.
    pub(super) fn path(&self) -> &Path {
        &self.aside
    }

    /// Once the job has ended: puts it back, if there is nothing in it that no mirror has. Else it is removed, and this
    /// says what there was.
    pub(super) fn end(self) -> Result<Result<(), String>, GitError> {
        match check(&self.aside) {
            Ok(()) => {
                fs::rename(&self.aside, &self.kept)
                    .map_err(|source| file_error("rename", &self.aside, source))?;
                Ok(Ok(()))
            }
            Err(odd) => {
                remove(&self.aside)?;
                Ok(Err(odd))
            }
        }
    }
}

/// Gives a tree without links out of it to `owner`.
pub(super) fn give(path: &Path, owner: u32) -> Result<(), GitError> {
    let failed = |source| file_error("give to the job", path, source);
    let found = fs::symlink_metadata(path).map_err(failed)?;
    if found.uid() != owner || found.gid() != owner {
        lchown(path, Some(owner), Some(owner)).map_err(failed)?;
    }
    if found.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            give(&entry.map_err(failed)?.path(), owner)?;
        }
    }
    Ok(())
}

/// Whether all that is there belongs to a bare repository as libgit2 leaves it; else what does not. Packs without their
/// index, which a fetch that was ended leaves, are removed.
fn check(mirror: &Path) -> Result<(), String> {
    let mut looked = Looked::default();
    looked.folder(mirror, "")?;
    for (stem, path) in &looked.packs {
        let other = if Path::new(path).extension().is_some_and(|ending| ending == "pack") {
            "idx"
        } else {
            "pack"
        };
        if !looked.packs.contains(&(stem.clone(), format!("{stem}.{other}"))) {
            looked.unfinished.push(path.clone());
        }
    }
    for path in &looked.unfinished {
        fs::remove_file(mirror.join(path)).map_err(|error| format!("`{path}`: {error}"))?;
    }
    Ok(())
}

#[derive(Default)]
struct Looked {
    entries: u64,
    /// Each without its ending, and whole.
    packs: BTreeSet<(String, String)>,
    unfinished: Vec<String>,
}

impl Looked {
    fn folder(&mut self, folder: &Path, relative: &str) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("`{}`: {error}", relative.escape_debug());
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(format!("more than {ENTRIES_MAX} files"));
            }
            let name = entry.file_name();
            let name = name
                .to_str()
                .ok_or_else(|| format!("a name of bytes in `{relative}`"))?;
            let path = if relative.is_empty() {
                name.to_owned()
            } else {
                format!("{relative}/{name}")
            };
            // Of the entry itself, never of what a link names.
            let found = entry.metadata().map_err(failed)?;
            let is_known = if found.mode() & 0o7000 != 0 {
                false
            } else if found.is_dir() {
                is_folder_of_a_mirror(&path)
            } else {
                found.is_file()
                    && found.nlink() == 1
                    && self.is_file_of_a_mirror(&entry.path(), &path, &found)
            };
            if !is_known {
                return Err(format!("`{}`", path.escape_debug()));
            }
            if found.is_dir() {
                self.folder(&entry.path(), &path)?;
            }
        }
        Ok(())
    }

    fn is_file_of_a_mirror(&mut self, file: &Path, path: &str, found: &Metadata) -> bool {
        if let Some(name) = path.strip_prefix("objects/pack/") {
            match pack_stem(name) {
                Some(stem) => {
                    let stem = format!("objects/pack/{stem}");
                    self.packs.insert((stem, path.to_owned()));
                }
                None => self.unfinished.push(path.to_owned()),
            }
            return true;
        }
        match path {
            "HEAD" => content(file, found, SMALL_FILE_BYTES_MAX)
                .is_some_and(|text| text.starts_with("ref: refs/") && text.lines().count() == 1),
            "FETCH_HEAD" | "config" | "description" | "hooks/README.sample" | "info/exclude" => {
                found.len() <= SMALL_FILE_BYTES_MAX
            }
            "shallow" => content(file, found, LIST_BYTES_MAX)
                .is_some_and(|text| text.lines().all(|line| is_hex(line, 40))),
            _ => {
                let is_object = || {
                    let (folder, name) = path.strip_prefix("objects/")?.split_once('/')?;
                    Some(is_hex(folder, 2) && is_hex(name, 38))
                };
                let is_ref = || {
                    let name = path.strip_prefix("refs/packhorse/")?;
                    let text = content(file, found, SMALL_FILE_BYTES_MAX)?;
                    Some(is_hex(name, 32) && is_hex(text.trim_end_matches('\n'), 40))
                };
                is_object() == Some(true) || is_ref() == Some(true)
            }
        }
    }
}

fn is_folder_of_a_mirror(path: &str) -> bool {
    let fixed = [
        "objects",
        "objects/info",
        "objects/pack",
        "refs",
        "refs/heads",
        "refs/tags",
        "refs/packhorse",
        "hooks",
        "info",
    ];
    fixed.contains(&path) || path.strip_prefix("objects/").is_some_and(|name| is_hex(name, 2))
}

/// `pack-<hash>` of `pack-<hash>.pack` and `pack-<hash>.idx`.
fn pack_stem(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".pack").or_else(|| name.strip_suffix(".idx"))?;
    is_hex(stem.strip_prefix("pack-")?, 40).then_some(stem)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn content(file: &Path, found: &Metadata, bytes_max: u64) -> Option<String> {
    if found.len() > bytes_max {
        return None;
    }
    let mut text = String::new();
    let opened = File::open(file).ok()?;
    opened.take(bytes_max).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn whole() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        mirror::make(folder.path()).unwrap();
        let pack = folder.path().join("objects/pack");
        let name = format!("pack-{}", "a".repeat(40));
        fs::write(pack.join(format!("{name}.pack")), "x").unwrap();
        fs::write(pack.join(format!("{name}.idx")), "x").unwrap();
        fs::create_dir(folder.path().join("refs/packhorse")).unwrap();
        let kept = folder.path().join("refs/packhorse").join("b".repeat(32));
        fs::write(kept, format!("{}\n", "c".repeat(40))).unwrap();
        fs::write(folder.path().join("shallow"), format!("{}\n", "c".repeat(40))).unwrap();
        folder
    }

    #[test]
    fn a_mirror_is_kept_and_what_a_broken_fetch_left_goes() {
        let folder = whole();
        let pack = folder.path().join("objects/pack");
        for unfinished in [
            "pack_git2_1234".to_owned(),
            format!("pack-{}.pack", "d".repeat(40)),
        ] {
            fs::write(pack.join(unfinished), "x").unwrap();
        }
        assert_eq!(check(folder.path()), Ok(()));
        assert_eq!(fs::read_dir(&pack).unwrap().count(), 2);
    }

    #[test]
    fn what_no_mirror_has_is_refused() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 10] = [
            ("hooks/post-checkout", |path| {
                fs::write(path.join("hooks/post-checkout"), "#!/bin/sh\n").unwrap();
            }),
            ("objects/info/alternates", |path| {
                fs::write(path.join("objects/info/alternates"), "/etc").unwrap();
            }),
            ("commondir", |path| {
                fs::write(path.join("commondir"), "/etc").unwrap();
            }),
            ("refs/packhorse/x", |path| {
                fs::write(path.join("refs/packhorse/x"), "c".repeat(40)).unwrap();
            }),
            ("refs/heads/main", |path| {
                fs::write(path.join("refs/heads/main"), "c".repeat(40)).unwrap();
            }),
            ("objects/pack/link", |path| {
                symlink("/etc/passwd", path.join("objects/pack/link")).unwrap();
            }),
            ("config", |path| {
                fs::remove_file(path.join("config")).unwrap();
                symlink("/etc/passwd", path.join("config")).unwrap();
            }),
            ("HEAD", |path| {
                fs::write(path.join("HEAD"), "/etc/passwd").unwrap();
            }),
            ("shallow", |path| fs::write(path.join("shallow"), "x\n").unwrap()),
            ("description", |path| {
                fs::set_permissions(path.join("description"), Permissions::from_mode(0o4755)).unwrap();
            }),
        ];
        for (name, change) in changes {
            let folder = whole();
            change(folder.path());
            assert_eq!(check(folder.path()), Err(format!("`{name}`")));
        }
        let folder = whole();
        fs::hard_link(
            folder.path().join("HEAD"),
            folder.path().join("objects/pack/pack-1"),
        )
        .unwrap();
        assert!(check(folder.path()).is_err());
    }
}
