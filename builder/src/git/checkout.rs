//! Writes a commit's files straight from the mirror: no hooks, no filters, no attributes; nothing is executed.

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

use git2::ObjectType;
use git2::Oid;
use git2::Repository;
use git2::Tree;

use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::git::error::GitError;
use crate::git::mirror::Mirror;
use crate::git::mirror::Purpose;
use crate::git::repository::Git;
use crate::git::repository::Resolved;
use crate::git::submodule;

/// The beginning of every pointer that Git LFS leaves in place of a file.
const LARGE_FILE_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// Pointers are shorter than this.
const LARGE_FILE_POINTER_BYTES_MAX: usize = 1024;
/// The longest target of a link.
const LINK_BYTES_MAX: usize = 4095;
/// Large files and submodules that a warning names.
const NAMED_MAX: usize = 5;

/// Whether submodules are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submodules {
    /// They stay empty folders, with a warning.
    Skip,
    /// They are fetched without credentials.
    Fetch,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedOut {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files that are pointers of Git LFS and not the files themselves; relative paths.
    pub large_files: Vec<String>,
    /// Submodules that stayed empty; relative paths.
    pub skipped_submodules: Vec<String>,
}

impl Git {
    /// Writes the tree of `resolved` into `destination`, which must not exist or be empty. Modes are 0644 and 0755,
    /// links are links, times are now, owners are ours. On failure nothing stays.
    pub fn checkout(
        &self,
        resolved: &Resolved,
        destination: &Path,
        submodules: Submodules,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<CheckedOut, GitError> {
        let mut checkout = Checkout {
            git: self,
            submodules,
            events,
            cancel,
            written: CheckedOut::default(),
            count: 0,
        };
        let outcome = prepare(destination).and_then(|()| checkout.write(resolved, destination, "", 0));
        if let Err(error) = outcome {
            // The first failure is the one to tell.
            let _removed = fs::remove_dir_all(destination);
            return Err(error);
        }
        checkout.warn();
        Ok(checkout.written)
    }
}

/// A checkout in progress, with what its submodules add to it.
pub(super) struct Checkout<'a> {
    pub(super) git: &'a Git,
    submodules: Submodules,
    pub(super) events: &'a dyn Events,
    pub(super) cancel: &'a Cancel,
    written: CheckedOut,
    /// Submodules so far.
    pub(super) count: usize,
}

/// Where in the tree we are.
struct Place<'a> {
    repository: &'a Repository,
    resolved: &'a Resolved,
    /// Before the path of an entry in messages: the submodule's path.
    prefix: &'a str,
    found: Vec<(String, Oid)>,
}

impl Checkout<'_> {
    /// Writes the tree of `resolved` into the empty folder `destination`, then its submodules.
    pub(super) fn write(
        &mut self,
        resolved: &Resolved,
        destination: &Path,
        prefix: &str,
        depth: usize,
    ) -> Result<(), GitError> {
        let location = &resolved.url.location;
        let directory = &self.git.settings.mirrors_directory;
        let cancel = self.cancel;
        let open = || Mirror::open(directory, location, resolved.named_by, Purpose::Read, cancel);
        let mut mirror = open()?;
        if mirror.commit(&resolved.commit).is_none() {
            // Another build had the mirror made anew meanwhile.
            drop(mirror);
            self.git
                .resolve(&resolved.url, resolved.named_by, self.events, self.cancel)?;
            mirror = open()?;
        }
        let failed = |source| GitError::Library {
            doing: "read",
            url: location.to_string(),
            source,
        };
        let tree = Oid::from_str(&resolved.tree)
            .and_then(|tree| mirror.repository.find_tree(tree))
            .map_err(failed)?;
        let mut place = Place {
            repository: &mirror.repository,
            resolved,
            prefix,
            found: Vec::new(),
        };
        self.write_tree(&mut place, &tree, destination, "", 0)?;
        let found = std::mem::take(&mut place.found);
        if self.submodules == Submodules::Skip {
            self.written
                .skipped_submodules
                .extend(found.into_iter().map(|(path, _)| format!("{prefix}{path}")));
            return Ok(());
        }
        if found.is_empty() {
            return Ok(());
        }
        let modules = submodule::list(&mirror.repository, resolved)?;
        drop(tree);
        drop(mirror);
        for (path, commit) in found {
            submodule::write(
                self,
                resolved,
                &modules,
                &path,
                commit,
                &destination.join(&path),
                prefix,
                depth,
            )?;
        }
        Ok(())
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
                    place.found.push((path, entry.id()));
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
        place: &Place<'_>,
        id: Oid,
        target: &Path,
        path: &str,
        mode: u32,
    ) -> Result<(), GitError> {
        self.count_bytes(place, id)?;
        let blob = place
            .repository
            .find_blob(id)
            .map_err(|error| place.unreadable(error))?;
        let content = blob.content();
        if content.len() < LARGE_FILE_POINTER_BYTES_MAX && content.starts_with(LARGE_FILE_POINTER) {
            self.written.large_files.push(format!("{}{path}", place.prefix));
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
            doing: "write",
            path: target.to_owned(),
            source,
        })
    }

    fn write_link(&mut self, place: &Place<'_>, id: Oid, target: &Path, path: &str) -> Result<(), GitError> {
        self.count_bytes(place, id)?;
        let blob = place
            .repository
            .find_blob(id)
            .map_err(|error| place.unreadable(error))?;
        let content = blob.content();
        if content.is_empty() || content.len() > LINK_BYTES_MAX || content.contains(&0) {
            return Err(place.wrong_entry(path, "it is a link to nowhere"));
        }
        symlink(OsStr::from_bytes(content), target).map_err(|source| GitError::File {
            doing: "link",
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

    fn warn(&self) {
        let tell = |text| self.events.tell(Event::Warning { text });
        if !self.written.large_files.is_empty() {
            let named = named(&self.written.large_files);
            tell(format!(
                "{named} are pointers of Git LFS, not the files themselves; Git LFS is not fetched"
            ));
        }
        if !self.written.skipped_submodules.is_empty() {
            let named = named(&self.written.skipped_submodules);
            tell(format!(
                "the submodules {named} are left empty; ask for them with `--submodules`"
            ));
        }
    }
}

impl Place<'_> {
    fn url(&self) -> String {
        self.resolved.url.location.to_string()
    }

    fn too_large(&self, limit: u64, unit: &'static str) -> GitError {
        GitError::TooLarge {
            url: self.url(),
            limit,
            unit,
        }
    }

    fn wrong_entry(&self, path: &str, why: &'static str) -> GitError {
        GitError::Entry {
            url: self.url(),
            path: path.escape_debug().to_string(),
            why,
        }
    }

    fn unreadable(&self, source: git2::Error) -> GitError {
        GitError::Library {
            doing: "read",
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

fn prepare(destination: &Path) -> Result<(), GitError> {
    let failed = |doing, source| GitError::File {
        doing,
        path: destination.to_owned(),
        source,
    };
    match fs::create_dir(destination) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(destination).map_err(|source| failed("read", source))?;
            match entries.next() {
                None => Ok(()),
                Some(_) => Err(failed(
                    "check out into",
                    std::io::ErrorKind::DirectoryNotEmpty.into(),
                )),
            }
        }
        other => other.map_err(|source| failed("make", source)),
    }
}

fn make_directory(path: &Path) -> Result<(), GitError> {
    let made = fs::create_dir(path).and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)));
    made.map_err(|source| GitError::File {
        doing: "make",
        path: path.to_owned(),
        source,
    })
}

fn named(paths: &[String]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .take(NAMED_MAX)
        .map(|path| format!("`{path}`"))
        .collect();
    match paths.len().saturating_sub(NAMED_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
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
