//! Writes the files of one tree: no hooks, no filters, no attributes; nothing is executed.

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use git2::Blob;
use git2::ObjectType;
use git2::Oid;
use git2::Repository;
use git2::Tree;

use crate::git::checkout::Checkout;
use crate::git::checkout::Submodules;
use crate::git::error::GitError;
use crate::git::submodule;
use crate::git::task::Found;

/// The beginning of every pointer that Git LFS leaves in place of a file.
const LARGE_FILE_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// Pointers are shorter than this.
const LARGE_FILE_POINTER_BYTES_MAX: usize = 1024;
/// The longest target of a link.
const LINK_BYTES_MAX: usize = 4095;

/// A tree to be written, and where it is.
pub(super) struct TreePlace<'a> {
    pub(super) repository: &'a Repository,
    /// The repository's URL, for messages.
    pub(super) url: &'a str,
    /// The commit whose `.gitmodules` counts.
    pub(super) commit: &'a str,
    /// The tree.
    pub(super) tree: &'a str,
}

/// Where in the tree we are.
struct Place<'a> {
    repository: &'a Repository,
    url: &'a str,
    found: Found,
}

impl Checkout<'_> {
    /// Writes a tree of an open mirror.
    pub(super) fn write_here(&mut self, tree: &TreePlace<'_>, destination: &Path) -> Result<Found, GitError> {
        let mut place = Place {
            repository: tree.repository,
            url: tree.url,
            found: Found::default(),
        };
        let top = Oid::from_str(tree.tree)
            .and_then(|id| tree.repository.find_tree(id))
            .map_err(|error| place.unreadable(error))?;
        self.write_tree(&mut place, &top, destination, "", 0)?;
        let mut found = place.found;
        if self.submodules == Submodules::Fetch && !found.submodules.is_empty() {
            found.modules = submodule::list(tree.repository, tree.commit, tree.url)?;
        }
        Ok(found)
    }

    fn write_tree(
        &mut self,
        place: &mut Place<'_>,
        tree: &Tree<'_>,
        directory: &Path,
        path: &str,
        depth: usize,
    ) -> Result<(), GitError> {
        let depth_max = self.git.settings.limits.checkout_depth_max;
        if depth > depth_max {
            return Err(place.too_large(depth_max as u64, "folders inside folders"));
        }
        for entry in tree {
            self.cancel.check()?;
            let name = entry.name_bytes();
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            check_name(name).map_err(|why| place.wrong_entry(&path, why))?;
            self.count_entry(place)?;
            let target = directory.join(OsStr::from_bytes(name));
            // The raw mode: libgit2 makes a file of whatever it does not know.
            match entry.filemode_raw() {
                0o040_000 => {
                    make_directory(&target)?;
                    let tree = place
                        .repository
                        .find_tree(entry.id())
                        .map_err(|error| place.unreadable(error))?;
                    self.write_tree(place, &tree, &target, &format!("{path}/"), depth + 1)?;
                }
                0o120_000 => self.write_link(place, entry.id(), &target, &path)?,
                0o160_000 => {
                    make_directory(&target)?;
                    place.found.submodules.push((path, entry.id().to_string()));
                }
                mode if mode & 0o170_000 == 0o100_000 => {
                    let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
                    self.write_file(place, entry.id(), &target, &path, mode)?;
                }
                _ => return Err(place.wrong_entry(&path, "it is no file, folder, link or submodule")),
            }
        }
        Ok(())
    }

    fn write_file(
        &mut self,
        place: &mut Place<'_>,
        id: Oid,
        target: &Path,
        path: &str,
        mode: u32,
    ) -> Result<(), GitError> {
        let blob = self.blob(place, id)?;
        let content = blob.content();
        if content.len() < LARGE_FILE_POINTER_BYTES_MAX && content.starts_with(LARGE_FILE_POINTER) {
            place.found.large_files.push(path.to_owned());
        }
        // What exists already is an entry of the same name: never written through, for it may be a link.
        let written = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(target)
            .and_then(|mut file| {
                file.write_all(content)?;
                file.set_permissions(Permissions::from_mode(mode))
            });
        written.map_err(|source| GitError::File {
            doing: "write".into(),
            path: target.to_owned(),
            source,
        })
    }

    /// A file's or link's content, once it is known to be within the limit.
    fn blob<'a>(&mut self, place: &Place<'a>, id: Oid) -> Result<Blob<'a>, GitError> {
        self.count_bytes(place, id)?;
        place
            .repository
            .find_blob(id)
            .map_err(|error| place.unreadable(error))
    }

    fn write_link(&mut self, place: &Place<'_>, id: Oid, target: &Path, path: &str) -> Result<(), GitError> {
        let blob = self.blob(place, id)?;
        let content = blob.content();
        if content.is_empty() || content.len() > LINK_BYTES_MAX || content.contains(&0) {
            return Err(place.wrong_entry(path, "it is a link to nowhere"));
        }
        symlink(OsStr::from_bytes(content), target).map_err(|source| GitError::File {
            doing: "link".into(),
            path: target.to_owned(),
            source,
        })
    }

    fn count_entry(&mut self, place: &Place<'_>) -> Result<(), GitError> {
        let limit = self.git.settings.limits.checkout_entries_max;
        self.written.entries += 1;
        if self.written.entries > limit {
            Err(place.too_large(limit, "files"))
        } else {
            Ok(())
        }
    }

    /// Counts a file's bytes by its header, before it is read into memory.
    fn count_bytes(&mut self, place: &Place<'_>, id: Oid) -> Result<(), GitError> {
        let limit = self.git.settings.limits.checkout_bytes_max;
        let header = place.repository.odb().and_then(|objects| objects.read_header(id));
        let (size, kind) = header.map_err(|error| place.unreadable(error))?;
        if kind != ObjectType::Blob {
            return Err(place.wrong_entry(&id.to_string(), "it is no file"));
        }
        self.written.bytes = self.written.bytes.saturating_add(size as u64);
        if self.written.bytes > limit {
            Err(place.too_large(limit, "bytes of files"))
        } else {
            Ok(())
        }
    }
}

impl Place<'_> {
    fn url(&self) -> String {
        self.url.to_owned()
    }

    fn too_large(&self, limit: u64, unit: &'static str) -> GitError {
        GitError::TooLarge {
            url: self.url(),
            limit,
            unit: unit.into(),
        }
    }

    fn wrong_entry(&self, path: &str, why: &'static str) -> GitError {
        GitError::Entry {
            url: self.url(),
            path: path.escape_debug().to_string(),
            why: why.into(),
        }
    }

    fn unreadable(&self, source: git2::Error) -> GitError {
        GitError::Library {
            doing: "read".into(),
            url: self.url(),
            source,
        }
    }
}

/// A tree comes from outside: its names are no paths.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err("its name is no file's name");
    }
    if name.eq_ignore_ascii_case(b".git") {
        return Err("`.git` is not part of a tree");
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), GitError> {
    let made = fs::create_dir(path).and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)));
    made.map_err(|source| GitError::File {
        doing: "make".into(),
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0", b".git", b".GIT"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in [&b"a"[..], b"...", b".gitignore", b"\xff\xfe", b"-rf *", b"a\nb"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
