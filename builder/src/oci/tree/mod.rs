//! Walks a tree below a folder's descriptor and writes it as a layer, in the two orders of cnb §5.3.

pub(crate) mod walker;

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use rustix::fs::FileType;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::timestamp::Timestamp;
use crate::oci::layer::LayerTar;
use crate::oci::tar::header::Header;
use crate::oci::tar::header::Kind;
use crate::oci::tar::writer::TarError;
use crate::oci::tree::walker::Place;
use crate::oci::tree::walker::Walker;
use crate::oci::tree::walker::walk;

/// The owner that entries get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

/// What one layer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// Entries of every kind.
    pub entries_max: u64,
    /// Bytes of all files together.
    pub bytes_max: u64,
    /// Folders within folders.
    pub depth_max: usize,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self {
            entries_max: 4_000_000,
            bytes_max: 128 << 30,
            depth_max: 256,
        }
    }
}

/// A tree on disk and what it is in the image.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'tree> {
    /// The folder; it may be on a mount of another namespace.
    pub root: BorrowedFd<'tree>,
    /// The folder's absolute path in the image: `/layers`, `/workspace`.
    pub image_path: &'tree Path,
    /// The owner of the folders above what is written.
    pub parent_owner: Owner,
    /// The owner of everything that is written.
    pub owner: Owner,
    /// What may be in it.
    pub limits: TreeLimits,
    /// Reading ends with an error once this is set.
    pub stop: Option<&'tree AtomicBool>,
}

/// A path in a tree, relative to its root; the root itself is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePath {
    /// The path.
    pub path: PathBuf,
    /// Whether it is a folder (and no link to one).
    pub is_directory: bool,
}

/// Why a tree could not become a layer.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// An entry could not be looked at or opened.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The path in the image.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// An entry turned into another kind while it was read.
    #[error("`{}` was replaced while it was read", path.display())]
    Replaced {
        /// The path in the image.
        path: PathBuf,
    },
    /// A limit is passed.
    #[error("`{}` passes the limit of {max} {unit} for one layer", path.display())]
    TooMuch {
        /// The path in the image where the limit was met.
        path: PathBuf,
        /// The limit.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// The tar could not be written.
    #[error(transparent)]
    Tar(#[from] TarError),
}

impl Failure for TreeError {
    fn facts(&self) -> Facts {
        match self {
            Self::Read { .. } => Facts::platform("layer_read_failed"),
            Self::Replaced { .. } => Facts::user("layer_changed_while_read"),
            Self::TooMuch { .. } => Facts::user("layer_too_big"),
            Self::Tar(error) => error.facts(),
        }
    }
}

/// Writes the folder `directory` (relative to the tree: `ESC/NAME`) with its parents before it, depth first, names in
/// byte order within a folder. Hard links become files, sockets are left out, extended attributes are dropped.
pub fn append_layer_directory(
    tar: &mut LayerTar<'_>,
    tree: &Tree<'_>,
    directory: &Path,
) -> Result<(), TreeError> {
    append_parents(tar, tree)?;
    let mut walker = Walker::new(tree);
    let parents: Vec<&Path> = directory.ancestors().skip(1).collect();
    for parent in parents.into_iter().rev() {
        let mode = rustix::fs::fstat(walker.open_directory(parent)?)
            .map_err(|source| walker.failed(parent, source))?
            .st_mode;
        append_folder(tar, &walker.image_path(parent), mode, tree.parent_owner)?;
    }
    walk(&mut walker, directory, &mut |walker, path, place| {
        walker.append(tar, path, place)
    })
}

/// Writes the named paths of an app, which must be sorted by their whole text, with the folders above the app before
/// them. Nothing at all is written for no paths. The paths are not walked into.
pub fn append_app_slice(tar: &mut LayerTar<'_>, tree: &Tree<'_>, paths: &[PathBuf]) -> Result<(), TreeError> {
    if paths.is_empty() {
        return Ok(());
    }
    append_parents(tar, tree)?;
    let mut walker = Walker::new(tree);
    for path in paths {
        let (parent, name) = (path.parent(), path.file_name());
        match (parent, name) {
            (Some(parent), Some(name)) => {
                let parent = walker.open_directory(parent)?;
                let kind = walker.kind_of(parent.as_fd(), name, path)?;
                walker.append(
                    tar,
                    path,
                    Place {
                        parent: parent.as_fd(),
                        name,
                        kind,
                    },
                )?;
            }
            _ => walker.append_root(tar)?,
        }
    }
    Ok(())
}

/// Every path of a tree, the root first; in the order of a walk, not sorted by whole text. Sockets are
/// among them: they count as a folder's contents, though no layer gets them.
pub fn list(tree: &Tree<'_>) -> Result<Vec<TreePath>, TreeError> {
    let mut paths = Vec::new();
    let mut walker = Walker::new(tree);
    walk(&mut walker, Path::new(""), &mut |walker, path, place| {
        walker.count(path, 0)?;
        let is_directory = place.kind == FileType::Directory;
        paths.push(TreePath {
            path: path.to_owned(),
            is_directory,
        });
        Ok(())
    })?;
    Ok(paths)
}

/// The folders above the tree's root, which the tree does not show: 0755.
fn append_parents(tar: &mut LayerTar<'_>, tree: &Tree<'_>) -> Result<(), TreeError> {
    let above: Vec<&Path> = tree.image_path.ancestors().skip(1).collect();
    for parent in above.into_iter().rev().filter(|parent| parent.parent().is_some()) {
        append_folder(tar, parent, 0o755, tree.parent_owner)?;
    }
    Ok(())
}

fn append_folder(tar: &mut LayerTar<'_>, path: &Path, mode: u32, owner: Owner) -> Result<(), TarError> {
    tar.append_empty(&header(path, Kind::Directory, mode, owner))
}

fn header(path: &Path, kind: Kind, mode: u32, owner: Owner) -> Header {
    Header {
        path: path.as_os_str().as_bytes().to_vec(),
        kind,
        mode: mode & 0o7777,
        uid: owner.uid,
        gid: owner.gid,
        mtime: Timestamp::BUILDPACKS,
    }
}

#[cfg(test)]
mod tests;
