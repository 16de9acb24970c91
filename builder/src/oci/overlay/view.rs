//! What a list of overlay trees shows at a path, as in a mount of them that is the root: what upper trees hide is not
//! there, and a link leads to nothing but another place in the trees.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use crate::oci::overlay::marks;

/// Links that are followed for one path, as the kernel has it.
const LINKS_MAX: usize = 40;

/// What is seen at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing, or nothing that a link reaches.
    Nothing,
    /// A file: where it is.
    File(PathBuf),
    /// A folder: what it is made of, the newest first.
    Folder(Vec<PathBuf>),
}

/// One name in a folder.
enum Entry {
    Nothing,
    Other(PathBuf),
    Link(PathBuf),
    Folder(Vec<PathBuf>),
}

/// Looks for `path` in the trees, the newest first. The trees must not change meanwhile.
pub fn look_up(trees: &[PathBuf], path: &Path) -> io::Result<Seen> {
    let mut waiting = Vec::new();
    push_parts(&mut waiting, path);
    let mut links = 0;
    // The folders on the way, each with the trees' folders that it is made of.
    let mut way = vec![trees.to_vec()];
    while let Some(name) = waiting.pop() {
        if name == ".." {
            // The root's parent is the root.
            way.truncate((way.len() - 1).max(1));
            continue;
        }
        let folder = way.last().map(Vec::as_slice).unwrap_or_default();
        match entry(folder, &name)? {
            Entry::Folder(below) => way.push(below),
            Entry::Link(target) if links < LINKS_MAX => {
                links += 1;
                if target.is_absolute() {
                    way.truncate(1);
                }
                push_parts(&mut waiting, &target);
            }
            Entry::Other(path) if waiting.is_empty() => return Ok(Seen::File(path)),
            Entry::Nothing | Entry::Link(_) | Entry::Other(_) => return Ok(Seen::Nothing),
        }
    }
    Ok(way.pop().map_or(Seen::Nothing, Seen::Folder))
}

/// Puts the parts of a path on top, the first one last.
fn push_parts(waiting: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    waiting.extend(parts);
}

/// What `name` is in a folder that is made of `folders`, the newest first.
fn entry(folders: &[PathBuf], name: &OsString) -> io::Result<Entry> {
    let mut found = Vec::new();
    for folder in folders {
        let path = folder.join(name);
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if metadata.is_dir() {
            let is_opaque = marks::is_opaque(&path)?;
            found.push(path);
            if is_opaque {
                break;
            }
            continue;
        }
        // Anything else ends the folder above it, and is seen only where there is none.
        if found.is_empty() && metadata.is_symlink() {
            return Ok(Entry::Link(fs::read_link(&path)?));
        }
        if found.is_empty() && !marks::is_whiteout(&path, &metadata)? {
            return Ok(Entry::Other(path));
        }
        break;
    }
    Ok(if found.is_empty() {
        Entry::Nothing
    } else {
        Entry::Folder(found)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::CWD;
    use rustix::fs::FileType;
    use rustix::fs::Mode;
    use rustix::fs::XattrFlags;

    use super::*;

    /// Two trees, the upper one first.
    struct Trees {
        folder: tempfile::TempDir,
        trees: [PathBuf; 2],
    }

    impl Trees {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let trees = ["upper", "lower"].map(|name| folder.path().join(name));
            for tree in &trees {
                fs::create_dir(tree).unwrap();
            }
            Self { folder, trees }
        }

        /// Makes `upper/…` or `lower/…`, with what it is in.
        fn file(&self, path: &str) -> PathBuf {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            path
        }

        fn link(&self, path: &str, target: impl AsRef<Path>) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }

        fn whiteout(&self, path: &str) {
            let path = self.folder.path().join(path);
            rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        }

        fn look_up(&self, path: &str) -> Seen {
            look_up(&self.trees, Path::new(path)).unwrap()
        }
    }

    #[test]
    fn links_lead_nowhere_outside() {
        let trees = Trees::new();
        let outside = trees.folder.path().join("outside");
        let secret = trees.file("outside/secret");
        trees.link("upper/workspace", &outside);
        trees.link("upper/etc", &outside);
        trees.link("lower/one", &secret);
        trees.link("lower/two", "../../../../outside/secret");
        trees.link("lower/three", "/proc/self/root");
        trees.link("lower/loop", "loop");
        for path in [
            "workspace",
            "workspace/secret",
            "etc/secret",
            "one",
            "two",
            "three",
            "three/etc",
            "loop",
            "../outside/secret",
        ] {
            assert_eq!(trees.look_up(path), Seen::Nothing, "{path}");
        }
    }

    #[test]
    fn links_are_followed_within_the_trees() {
        let trees = Trees::new();
        let bundle = trees.file("lower/pki/bundle");
        trees.link("upper/etc/certs", "/pki");
        trees.link("lower/pki/up", "../../../pki/./bundle");
        for path in ["etc/certs/bundle", "/etc/certs/up", "pki/../etc/certs/bundle"] {
            assert_eq!(trees.look_up(path), Seen::File(bundle.clone()), "{path}");
        }
        assert_eq!(trees.look_up("etc/certs/bundle/more"), Seen::Nothing);
    }

    #[test]
    fn what_upper_trees_hide_is_not_there() {
        let trees = Trees::new();
        let [upper, lower] = &trees.trees;
        trees.file("lower/both/a");
        let above = trees.file("upper/both/a");
        let below = trees.file("lower/both/b");
        trees.file("lower/gone/a");
        trees.whiteout("upper/gone");
        trees.file("lower/file/a");
        let file = trees.file("upper/file");
        trees.file("lower/new/a");
        trees.file("upper/new/b");
        rustix::fs::setxattr(
            upper.join("new"),
            "user.overlay.opaque",
            b"y",
            XattrFlags::empty(),
        )
        .unwrap();
        assert_eq!(
            trees.look_up("both"),
            Seen::Folder(vec![upper.join("both"), lower.join("both")])
        );
        assert_eq!(trees.look_up("both/a"), Seen::File(above));
        assert_eq!(trees.look_up("both/b"), Seen::File(below));
        assert_eq!(trees.look_up("file"), Seen::File(file));
        for path in ["gone", "gone/a", "file/a", "new/a", "both/c"] {
            assert_eq!(trees.look_up(path), Seen::Nothing, "{path}");
        }
    }
}
