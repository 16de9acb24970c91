//! Writes a base as a layer into the blob store, beside the tree that is laid down on disk.

use std::io;
use std::io::Read;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use crate::base::ensure::BeginLayer;
use crate::base::sink::EntryHeader;
use crate::base::sink::EntryKind;
use crate::base::sink::EntrySink;
use crate::base::sink::LayerSink;
use crate::model::descriptor::LayerDescriptor;
use crate::model::timestamp::Timestamp;
use crate::oci::layer::LayerError;
use crate::oci::layer::LayerTar;
use crate::oci::layer::compression::Compression;
use crate::oci::layer::write_layer;
use crate::oci::tar::header::Header;
use crate::oci::tar::header::Kind;
use crate::oci::tree::TreeError;
use crate::store::blobs::Blobs;

/// Bytes of a file that travel at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that may wait for the writer.
const CHUNKS_MAX: usize = 8;

/// Begins a layer whose blob ends in `blobs`.
pub fn begin(blobs: Blobs) -> BeginLayer {
    Box::new(move || {
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        let blobs = blobs.clone();
        let writer = std::thread::Builder::new().spawn(move || write(&blobs, &receiver))?;
        Ok(Box::new(Pushed {
            sender,
            writer: Some(writer),
        }) as Box<dyn LayerSink>)
    })
}

/// What travels to the writer: a header, then the contents of a file in chunks, which an empty one ends.
enum Part {
    Entry(Header),
    Chunk(Vec<u8>),
}

/// A layer that takes entries as they come, while `write_layer` asks for them on a thread of its own.
struct Pushed {
    sender: SyncSender<Part>,
    writer: Option<JoinHandle<io::Result<LayerDescriptor>>>,
}

impl EntrySink for Pushed {
    fn entry(&mut self, header: &EntryHeader, contents: &mut dyn Read) -> io::Result<()> {
        self.send(Part::Entry(tar_header(header)))?;
        if !matches!(header.kind, EntryKind::File { .. }) {
            return Ok(());
        }
        loop {
            let mut chunk = Vec::new();
            (&mut *contents)
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut chunk)?;
            let is_end = chunk.is_empty();
            self.send(Part::Chunk(chunk))?;
            if is_end {
                return Ok(());
            }
        }
    }
}

impl Pushed {
    fn send(&mut self, part: Part) -> io::Result<()> {
        if self.sender.send(part).is_ok() {
            return Ok(());
        }
        // The writer has gone; why is what it came to.
        self.outcome()?;
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn outcome(&mut self) -> io::Result<LayerDescriptor> {
        let writer = self.writer.take().ok_or(io::ErrorKind::BrokenPipe)?;
        writer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl LayerSink for Pushed {
    fn finish(self: Box<Self>) -> io::Result<LayerDescriptor> {
        let Self { sender, writer } = *self;
        drop(sender);
        let writer = writer.ok_or(io::ErrorKind::BrokenPipe)?;
        writer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn write(blobs: &Blobs, parts: &Receiver<Part>) -> io::Result<LayerDescriptor> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let written = write_layer(
        blobs.directory(),
        Compression::default(),
        threads,
        &mut |_| {},
        |tar| append_all(tar, parts),
    );
    let written = written.map_err(|error| as_io(&error))?;
    blobs
        .commit(written.blob, &written.descriptor.blob)
        .map_err(io::Error::other)?;
    Ok(written.descriptor)
}

/// The error as the trait wants it; what kind it is must stay known.
fn as_io(error: &LayerError) -> io::Error {
    let kind = match error {
        LayerError::Write { source, .. } => source.kind(),
        LayerError::Contents(_) => io::ErrorKind::Other,
    };
    io::Error::new(kind, error.to_string())
}

fn append_all(tar: &mut LayerTar<'_>, parts: &Receiver<Part>) -> Result<(), TreeError> {
    while let Ok(part) = parts.recv() {
        let Part::Entry(header) = part else { continue };
        if matches!(header.kind, Kind::File { .. }) {
            tar.append(
                &header,
                &mut Chunks {
                    parts,
                    chunk: Vec::new(),
                    read: 0,
                    has_ended: false,
                },
            )?;
        } else {
            tar.append_empty(&header)?;
        }
    }
    Ok(())
}

/// The contents of one file, put together again.
struct Chunks<'a> {
    parts: &'a Receiver<Part>,
    chunk: Vec<u8>,
    read: usize,
    has_ended: bool,
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.chunk.len() && !self.has_ended {
            match self.parts.recv() {
                Ok(Part::Chunk(chunk)) => {
                    self.has_ended = chunk.is_empty();
                    self.chunk = chunk;
                    self.read = 0;
                }
                Ok(Part::Entry(_)) | Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.read);
        buffer[..count].copy_from_slice(&self.chunk[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

fn tar_header(header: &EntryHeader) -> Header {
    let kind = match &header.kind {
        EntryKind::File { size } => Kind::File { size: *size },
        EntryKind::Directory => Kind::Directory,
        EntryKind::Symlink { target } => Kind::Symlink {
            target: target.clone(),
        },
        EntryKind::Hardlink { target } => Kind::Hardlink {
            target: target.clone(),
        },
    };
    Header {
        path: header.path.clone(),
        kind,
        mode: header.mode,
        uid: header.uid,
        gid: header.gid,
        mtime: Timestamp(header.mtime),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::layer::diff_id_of;
    use crate::store::Store;

    fn header(path: &str, size: u64) -> EntryHeader {
        EntryHeader {
            path: path.into(),
            kind: EntryKind::File { size },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1,
        }
    }

    #[test]
    fn what_is_pushed_is_what_would_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Store::open(&folder.path().join("home")).unwrap().blobs().unwrap();
        let large = vec![7; 3 * CHUNK_BYTES + 5];
        let mut layer = begin(blobs.clone())().unwrap();
        layer
            .entry(&header("a", large.len() as u64), &mut large.as_slice())
            .unwrap();
        layer.entry(&header("b", 0), &mut io::empty()).unwrap();
        let descriptor = layer.finish().unwrap();

        let (diff_id, _) = diff_id_of(|tar| {
            tar.append(
                &tar_header(&header("a", large.len() as u64)),
                &mut large.as_slice(),
            )?;
            tar.append(&tar_header(&header("b", 0)), &mut io::empty())?;
            Ok(())
        })
        .unwrap();
        assert_eq!(descriptor.diff_id, diff_id);
        assert!(blobs.contains(&descriptor.blob));
    }

    #[test]
    fn a_file_that_is_cut_fails() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Store::open(&folder.path().join("home")).unwrap().blobs().unwrap();
        let mut layer = begin(blobs)().unwrap();
        layer.entry(&header("a", 10), &mut b"123".as_slice()).unwrap();
        assert!(layer.finish().is_err());
    }
}
