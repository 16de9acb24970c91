//! Copies a folder into a job: names, links and contents as they are, modes as git sees them, owners as told.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// How much of a file is copied before the next look at whether the build is to end.
const PIECE_BYTES: u64 = 16 << 20;

/// How a folder is copied.
#[derive(Debug, Clone, Copy)]
pub struct CopyRules<'a> {
    /// Names at the top that are left out: `.git`.
    pub leave_out: &'a [PathBuf],
    /// Owner and group of the copies.
    pub owner: u32,
    /// Most files, folders and links.
    pub entries_max: u64,
    /// Most bytes of files.
    pub bytes_max: u64,
    /// Set once the build is to end.
    pub stop: &'a AtomicBool,
}

/// Copying failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A file could not be read or written.
    #[error("cannot copy `{path}` into the workspace: {source}")]
    File {
        /// What was to be copied.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A limit was passed.
    #[error("`{path}` is too large: more than {limit}")]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// The limit that was passed.
        limit: String,
    },
    /// The build is to end.
    #[error("interrupted")]
    Stopped,
}

impl Failure for CopyError {
    fn facts(&self) -> Facts {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::File { .. } => Facts::user("source_unreadable"),
            Self::TooLarge { .. } => Facts::user("source_too_large"),
            Self::Stopped => Facts::user("interrupted"),
        }
    }
}

/// Copies the folder `source` to `destination`, which must not exist. File contents are shared with the original where
/// the file system can. Sockets, FIFOs and devices are left out.
pub fn copy_directory(source: &Path, destination: &Path, rules: CopyRules<'_>) -> Result<(), CopyError> {
    let mut copy = Copy {
        top: source,
        rules,
        entries: 0,
        bytes: 0,
    };
    copy.directory(source, destination)
}

/// The mode that git would record: what counts is whether the owner may execute it.
pub fn git_mode(mode: u32) -> u32 {
    if mode & 0o100 == 0 { 0o644 } else { 0o755 }
}

struct Copy<'a> {
    top: &'a Path,
    rules: CopyRules<'a>,
    entries: u64,
    bytes: u64,
}

impl Copy<'_> {
    fn directory(&mut self, from: &Path, to: &Path) -> Result<(), CopyError> {
        let failed = |source| CopyError::File {
            path: from.to_owned(),
            source,
        };
        fs::create_dir(to).map_err(failed)?;
        for entry in fs::read_dir(from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if self.is_left_out(&entry.path()) {
                continue;
            }
            self.entry(&entry, &to.join(entry.file_name()))?;
        }
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        self.own(to).map_err(failed)
    }

    fn entry(&mut self, entry: &fs::DirEntry, to: &Path) -> Result<(), CopyError> {
        let from = entry.path();
        let failed = |source| CopyError::File {
            path: from.clone(),
            source,
        };
        let metadata = entry.metadata().map_err(failed)?;
        self.count(if metadata.is_file() { metadata.len() } else { 0 })?;
        if metadata.is_dir() {
            return self.directory(&from, to);
        }
        if metadata.is_symlink() {
            fs::read_link(&from)
                .and_then(|target| symlink(target, to))
                .map_err(failed)?;
            return self.own(to).map_err(failed);
        }
        let kind = metadata.file_type();
        if kind.is_socket() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
            return Ok(());
        }
        let source = File::open(&from).map_err(failed)?;
        let mut copy = File::create(to).map_err(failed)?;
        // In pieces, since one file may take longer than anybody waits for the end of an interrupted build.
        while copy_piece(&source, &mut copy).map_err(failed)? == PIECE_BYTES {
            self.check()?;
        }
        let mode = git_mode(metadata.permissions().mode());
        fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(failed)?;
        self.own(to).map_err(failed)
    }

    fn is_left_out(&self, path: &Path) -> bool {
        let below = path.strip_prefix(self.top).unwrap_or(path);
        self.rules.leave_out.iter().any(|left_out| left_out == below)
    }

    fn check(&self) -> Result<(), CopyError> {
        if self.rules.stop.load(Ordering::Relaxed) {
            Err(CopyError::Stopped)
        } else {
            Ok(())
        }
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::lchown(path, Some(self.rules.owner), Some(self.rules.owner))
    }

    fn count(&mut self, bytes: u64) -> Result<(), CopyError> {
        self.check()?;
        self.entries += 1;
        self.bytes += bytes;
        let limit = if self.entries > self.rules.entries_max {
            format!("{} files", self.rules.entries_max)
        } else if self.bytes > self.rules.bytes_max {
            format!("{} bytes", self.rules.bytes_max)
        } else {
            return Ok(());
        };
        Err(CopyError::TooLarge {
            path: self.top.to_owned(),
            limit,
        })
    }
}

/// Between two files the kernel copies, and shares the blocks where the file system can.
fn copy_piece(source: &File, copy: &mut File) -> io::Result<u64> {
    io::copy(&mut source.take(PIECE_BYTES), copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    static LEFT_OUT: std::sync::LazyLock<[PathBuf; 1]> = std::sync::LazyLock::new(|| [".git".into()]);

    static GO_ON: AtomicBool = AtomicBool::new(false);

    fn rules<'a>() -> CopyRules<'a> {
        CopyRules {
            leave_out: &LEFT_OUT[..],
            owner: rustix::process::getuid().as_raw(),
            entries_max: 100,
            bytes_max: 1000,
            stop: &GO_ON,
        }
    }

    #[test]
    fn a_copy_has_names_links_contents_and_gits_modes() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir_all(from.join(".git")).unwrap();
        fs::create_dir_all(from.join("sub/.git")).unwrap();
        fs::write(from.join("run"), "x").unwrap();
        fs::set_permissions(from.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(from.join("sub/data"), "y").unwrap();
        fs::set_permissions(from.join("sub/data"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("nowhere", from.join("link")).unwrap();

        let to = folder.path().join("to");
        copy_directory(&from, &to, rules()).unwrap();
        assert!(!to.join(".git").exists() && to.join("sub/.git").is_dir());
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("nowhere"));
        let mode = |path: &str| fs::metadata(to.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode("run"), mode("sub/data"), mode("sub")),
            (0o755, 0o644, 0o755)
        );
    }

    #[test]
    fn too_much_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("big"), vec![0; 1001]).unwrap();
        let error = copy_directory(&from, &folder.path().join("to"), rules()).unwrap_err();
        assert!(
            error.to_string().ends_with("is too large: more than 1000 bytes"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_copied_piece_by_piece() {
        let source = tempfile::tempfile().unwrap();
        source.set_len(PIECE_BYTES + 1).unwrap();
        let mut copy = tempfile::tempfile().unwrap();
        assert_eq!(copy_piece(&source, &mut copy).unwrap(), PIECE_BYTES);
        assert_eq!(copy_piece(&source, &mut copy).unwrap(), 1);
        assert_eq!(copy.metadata().unwrap().len(), PIECE_BYTES + 1);
    }

    #[test]
    fn a_build_that_is_to_end_copies_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("file"), "x").unwrap();
        let stop = AtomicBool::new(true);
        let stopped = CopyRules {
            stop: &stop,
            ..rules()
        };
        let to = folder.path().join("to");
        let error = copy_directory(&from, &to, stopped).unwrap_err();
        assert_eq!(error.facts().code, "interrupted");
        assert!(!to.join("file").exists());
    }
}
