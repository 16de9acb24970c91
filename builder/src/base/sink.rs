//! What a base is laid down into: entries with their contents, as a tar has them.

use std::io;
use std::io::Read;

use crate::model::descriptor::LayerDescriptor;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it leads, as it is written.
        target: Vec<u8>,
    },
    /// Another name of a file that came before.
    Hardlink {
        /// The file's path, written as `EntryHeader::path` is.
        target: Vec<u8>,
    },
}

/// An entry without its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryHeader {
    /// Its path, relative and without a slash at its end: `usr/bin/env`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permissions, with set-uid, set-gid and sticky bits.
    pub mode: u32,
    /// The owner, as in the image.
    pub uid: u32,
    /// The group, as in the image.
    pub gid: u32,
    /// When it was changed, in seconds since 1970.
    pub mtime: i64,
}

/// Takes the entries of a tree in byte order of their paths; a folder comes before what is in it.
pub trait EntrySink {
    /// Takes one entry; `contents` has as many bytes as a file's header says, and none for others.
    fn entry(&mut self, header: &EntryHeader, contents: &mut dyn Read) -> io::Result<()>;
}

/// Makes a layer out of entries.
pub trait LayerSink: EntrySink + Send {
    /// Ends the layer: its blob is stored, and this is its descriptor.
    fn finish(self: Box<Self>) -> io::Result<LayerDescriptor>;
}
