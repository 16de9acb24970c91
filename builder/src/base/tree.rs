//! The merged tree: every entry of the packages and every made one, in byte order of their paths.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

use crate::base::disk::Disk;
use crate::base::disk::place;
use crate::base::error::BaseError;
use crate::base::sink::EntryHeader;
use crate::base::sink::EntryKind;
use crate::base::sink::EntrySink;
use crate::base::unpack::Unpacked;
use crate::events::Cancel;

/// The tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    /// The newest time of the packages' entries: what is made gets it.
    newest: i64,
}

#[derive(Debug)]
struct Node {
    header: EntryHeader,
    /// What a made file holds; none for what the packages brought, which is on disk.
    made: Option<Vec<u8>>,
}

/// Owner, group and mode of something made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dress {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Dress {
    /// root's, with this mode.
    pub(super) const fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

impl Tree {
    /// Merges what the packages brought. Of a folder that several have, the first package's owner, mode and time hold;
    /// `base-files` is the first, because it lays out the system.
    pub(super) fn merge(packages: &[Unpacked]) -> Result<Self, BaseError> {
        let mut tree = Self::default();
        let (first, others): (Vec<_>, Vec<_>) = packages
            .iter()
            .partition(|unpacked| unpacked.package.name == "base-files");
        for unpacked in first.into_iter().chain(others) {
            for header in &unpacked.entries {
                tree.newest = tree.newest.max(header.mtime);
                tree.add(header, &unpacked.package.name)?;
            }
        }
        tree.fill_in_folders();
        tree.order_hard_links()?;
        Ok(tree)
    }

    fn add(&mut self, header: &EntryHeader, package: &str) -> Result<(), BaseError> {
        match self.nodes.get(&header.path) {
            Some(known)
                if known.header.kind == EntryKind::Directory && header.kind == EntryKind::Directory => {}
            Some(_) => {
                let reason = format!("/{} is something else in another package", show(&header.path));
                return Err(BaseError::PackageInvalid {
                    package: package.to_owned(),
                    reason,
                });
            }
            None => drop(self.nodes.insert(
                header.path.clone(),
                Node {
                    header: header.clone(),
                    made: None,
                },
            )),
        }
        Ok(())
    }

    /// Packages name the folders of their files, but what was moved by the usr-merge may lack one.
    fn fill_in_folders(&mut self) {
        let paths: Vec<_> = self.nodes.keys().cloned().collect();
        for path in paths {
            self.make_parents(&path);
        }
    }

    /// A file with several names is a file under the first of them and a hard link under the others, so that in byte
    /// order the file comes first.
    fn order_hard_links(&mut self) -> Result<(), BaseError> {
        let mut groups: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
        for node in self.nodes.values() {
            if let EntryKind::Hardlink { target } = &node.header.kind {
                groups
                    .entry(target.clone())
                    .or_default()
                    .push(node.header.path.clone());
            }
        }
        for (target, mut names) in groups {
            let file = self.nodes.get(&target).map(|node| node.header.clone());
            let Some(file) = file.filter(|file| matches!(file.kind, EntryKind::File { .. })) else {
                let reason = format!("/{} is a hard link to no file", show(&names[0]));
                return Err(BaseError::PackageInvalid {
                    package: show(&target),
                    reason,
                });
            };
            names.push(target);
            names.sort();
            for name in &names {
                let kind = if *name == names[0] {
                    file.kind.clone()
                } else {
                    EntryKind::Hardlink {
                        target: names[0].clone(),
                    }
                };
                let header = EntryHeader {
                    path: name.clone(),
                    kind,
                    ..file.clone()
                };
                self.nodes.insert(name.clone(), Node { header, made: None });
            }
        }
        Ok(())
    }

    /// The time of what is made.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// Whether there is something at `path`.
    pub(super) fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(path.as_bytes())
    }

    /// The paths of the files directly in a folder whose names end with `suffix`, in byte order.
    pub(super) fn files_in(&self, folder: &str, suffix: &str) -> Vec<String> {
        let prefix = format!("{folder}/");
        let below = self
            .nodes
            .range(prefix.clone().into_bytes()..)
            .map(|(path, _)| path);
        let below = below.take_while(|path| path.starts_with(prefix.as_bytes()));
        let names = below.filter_map(|path| std::str::from_utf8(path).ok());
        let direct = names.filter(|path| path.ends_with(suffix) && !path[prefix.len()..].contains('/'));
        direct.map(str::to_owned).collect()
    }

    /// Makes a folder, unless there is something.
    pub(super) fn make_folder(&mut self, path: &str, dress: Dress) {
        self.make(path, EntryKind::Directory, dress, None);
    }

    /// Makes a file, unless there is something.
    pub(super) fn make_file(&mut self, path: &str, dress: Dress, contents: impl Into<Vec<u8>>) {
        let contents = contents.into();
        self.make(
            path,
            EntryKind::File {
                size: contents.len() as u64,
            },
            dress,
            Some(contents),
        );
    }

    /// Makes a symbolic link, unless there is something.
    pub(super) fn make_link(&mut self, path: &str, target: &str) {
        self.make(
            path,
            EntryKind::Symlink {
                target: target.into(),
            },
            Dress::root(0o777),
            None,
        );
    }

    /// Makes a symbolic link in place of an empty folder.
    pub(super) fn turn_into_link(&mut self, path: &str, target: &str) {
        let below = format!("{path}/").into_bytes();
        let is_empty = !self
            .nodes
            .range(below.clone()..)
            .next()
            .is_some_and(|(next, _)| next.starts_with(&below));
        if is_empty {
            self.nodes.remove(path.as_bytes());
        }
        self.make_link(path, target);
    }

    fn make(&mut self, path: &str, kind: EntryKind, dress: Dress, made: Option<Vec<u8>>) {
        if self.has(path) {
            return;
        }
        self.make_parents(path.as_bytes());
        let Dress { mode, uid, gid } = dress;
        let header = EntryHeader {
            path: path.into(),
            kind,
            mode,
            uid,
            gid,
            mtime: self.newest,
        };
        self.nodes.insert(path.into(), Node { header, made });
    }

    fn make_parents(&mut self, path: &[u8]) {
        for (slash, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = path[..slash].to_vec();
            let mtime = self.newest;
            let header = EntryHeader {
                path: parent.clone(),
                kind: EntryKind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime,
            };
            self.nodes.entry(parent).or_insert(Node { header, made: None });
        }
    }

    /// Puts on disk what the packages' regular files lack: folders, links, made files; then dresses the folders.
    pub(super) fn complete(&self, disk: &mut Disk) -> Result<(), BaseError> {
        for node in self.nodes.values() {
            let is_there = node.made.is_none()
                && matches!(
                    node.header.kind,
                    EntryKind::File { .. } | EntryKind::Hardlink { .. }
                );
            if !is_there {
                let mut contents = node.made.as_deref().unwrap_or_default();
                let path = place(&disk.root, &node.header.path);
                disk.entry(&node.header, &mut contents)
                    .map_err(BaseError::file("make", path))?;
            }
        }
        let headers = self.nodes.values().map(|node| &node.header);
        disk.dress_folders(headers)
            .map_err(BaseError::file("set the modes of folders in", &disk.root))
    }

    /// Gives all entries but the root to `sink`; contents are read from `root`, where the tree is complete.
    pub(super) fn feed(
        &self,
        root: &Path,
        sink: &mut dyn EntrySink,
        cancel: &Cancel,
    ) -> Result<(), BaseError> {
        for node in self.nodes.values().filter(|node| !node.header.path.is_empty()) {
            cancel.check()?;
            let path = place(root, &node.header.path);
            let mut contents: Box<dyn Read> = match (&node.header.kind, &node.made) {
                (EntryKind::File { .. }, Some(made)) => Box::new(made.as_slice()),
                (EntryKind::File { .. }, None) => {
                    Box::new(File::open(&path).map_err(BaseError::file("read", &path))?)
                }
                _ => Box::new(io::empty()),
            };
            sink.entry(&node.header, &mut contents)
                .map_err(BaseError::file("lay down", path))?;
        }
        Ok(())
    }
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Cancelling<'test>(&'test Cancel, usize);

    impl EntrySink for Cancelling<'_> {
        fn entry(&mut self, _: &EntryHeader, _: &mut dyn Read) -> io::Result<()> {
            self.0.cancel();
            self.1 += 1;
            Ok(())
        }
    }

    #[test]
    fn a_build_that_is_to_end_feeds_no_further_entry() {
        let mut tree = Tree::default();
        for name in ["a", "b"] {
            let header = EntryHeader {
                path: name.into(),
                kind: EntryKind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: 0,
            };
            tree.add(&header, "package").unwrap();
        }
        let cancel = Cancel::default();
        let mut sink = Cancelling(&cancel, 0);
        let error = tree.feed(Path::new("/"), &mut sink, &cancel).unwrap_err();
        assert!(matches!(error, BaseError::Cancelled(_)), "{error}");
        assert_eq!(sink.1, 1);
    }
}
