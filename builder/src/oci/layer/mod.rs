//! The one-pass pipeline: entries → tar → diffID → compression on several threads → digest → blob file.

pub mod compression;
mod blob;
mod block;
mod blocks;

use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use sha2::Digest as _;
use sha2::Sha256;

use crate::model::descriptor::Descriptor;
use crate::model::descriptor::LayerDescriptor;
use crate::model::digest::DiffId;
use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::layer::blob::BlobFile;
use crate::oci::layer::block::Shape;
use crate::oci::layer::blocks::Blocks;
use crate::oci::layer::compression::Compression;
use crate::oci::tar::writer::TarError;
use crate::oci::tar::writer::TarWriter;
use crate::oci::temporary::TemporaryFile;
use crate::oci::tree::TreeError;

/// The tar of a layer, as its producer sees it.
pub type LayerTar<'sink> = TarWriter<&'sink mut dyn Write>;

const PLAIN_BLOCK_BYTES: usize = 1 << 20;

/// A layer whose blob has a temporary name, until a store takes it.
#[derive(Debug)]
pub struct WrittenLayer {
    /// What the blob is.
    pub descriptor: LayerDescriptor,
    /// The blob's file; it vanishes if nothing takes it.
    pub blob: TemporaryFile,
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// What is to be in the layer could not be read.
    #[error(transparent)]
    Contents(#[from] TreeError),
    /// The blob could not be written.
    #[error("cannot write a layer in `{}`: {source}", directory.display())]
    Write {
        /// The folder of the temporary blob.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Failure for LayerError {
    fn facts(&self) -> Facts {
        match self {
            Self::Contents(error) => error.facts(),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::Write { .. } => Facts::platform("layer_write_failed"),
        }
    }
}

/// Writes the entries that `produce` gives as a blob in `directory`, in one pass. Its bytes depend on the entries and
/// the compression, not on `threads`. `passed` hears the bytes of the tar so far, after each block. Memory: about 2 MiB for
/// each of `2 × threads + 2` blocks.
pub fn write_layer(
    directory: &Path,
    compression: Compression,
    threads: usize,
    passed: &mut dyn FnMut(u64),
    produce: impl FnOnce(&mut LayerTar<'_>) -> Result<(), TreeError>,
) -> Result<WrittenLayer, LayerError> {
    let failed = |source| LayerError::Write {
        directory: directory.to_owned(),
        source,
    };
    let (file, blob) = TemporaryFile::create(directory).map_err(failed)?;
    let output = Output::new(compression, threads, BlobFile::new(file)).map_err(failed)?;
    let mut sink = Sink::new(output, passed);
    match produce_tar(&mut sink, produce) {
        Ok(()) => {}
        // The producer only saw a pipe break; what broke it is the output's to say.
        Err(TreeError::Tar(TarError::Write { source })) => {
            return Err(failed(sink.output.broken_by().unwrap_or(source)));
        }
        Err(error) => return Err(error.into()),
    }
    let (diff_id, tar_size, written) = sink.finish().map_err(failed)?;
    let (digest, size) = written.map_or((diff_id.0, tar_size), BlobFile::finish);
    let media_type = compression.media_type().to_owned();
    let descriptor = LayerDescriptor {
        blob: Descriptor {
            media_type,
            digest,
            size,
        },
        diff_id,
    };
    Ok(WrittenLayer { descriptor, blob })
}

/// The diffID and the tar's length in bytes of the entries that `produce` gives; nothing is written.
pub fn diff_id_of(
    produce: impl FnOnce(&mut LayerTar<'_>) -> Result<(), TreeError>,
) -> Result<(DiffId, u64), TreeError> {
    let mut nobody = |_| {};
    let mut sink = Sink::new(Output::Nothing, &mut nobody);
    produce_tar(&mut sink, produce)?;
    let finished = sink.finish();
    let (diff_id, tar_size, _) = finished.map_err(|source| TarError::Write { source })?;
    Ok((diff_id, tar_size))
}

fn produce_tar(
    sink: &mut Sink<'_>,
    produce: impl FnOnce(&mut LayerTar<'_>) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let mut tar = TarWriter::new(sink as &mut dyn Write);
    produce(&mut tar)?;
    tar.finish()?;
    Ok(())
}

/// Where full blocks of a tar go.
enum Output {
    Nothing,
    Plain(BlobFile),
    Gzip(Blocks),
    Zstd(Box<zstd::stream::write::Encoder<'static, BlobFile>>),
}

impl Output {
    fn new(compression: Compression, threads: usize, blob: BlobFile) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(blob),
            Compression::Gzip { level } => Self::Gzip(Blocks::new(Shape::Members { level }, threads, blob)),
            Compression::GzipSingle { level } => {
                Self::Gzip(Blocks::new(Shape::Single { level }, threads, blob))
            }
            Compression::Zstd { level } => {
                let mut encoder = zstd::stream::write::Encoder::new(blob, i32::from(level))?;
                // At least one: without workers zstd gives other bytes than with any number of them.
                encoder.multithread(u32::try_from(threads.clamp(1, 64)).unwrap_or(1))?;
                Self::Zstd(Box::new(encoder))
            }
        })
    }

    fn block_bytes(&self) -> usize {
        match self {
            Self::Gzip(blocks) => blocks.block_bytes(),
            _ => PLAIN_BLOCK_BYTES,
        }
    }

    /// Takes a full block and leaves an empty buffer in its place.
    fn push(&mut self, block: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Nothing => {}
            Self::Plain(blob) => blob.write_all(block)?,
            Self::Gzip(blocks) => return blocks.push(block),
            Self::Zstd(encoder) => encoder.write_all(block)?,
        }
        block.clear();
        Ok(())
    }

    fn finish(mut self, mut rest: Vec<u8>) -> io::Result<Option<BlobFile>> {
        match self {
            Self::Gzip(blocks) => return blocks.finish(rest).map(Some),
            _ => self.push(&mut rest)?,
        }
        match self {
            Self::Plain(blob) => Ok(Some(blob)),
            Self::Zstd(encoder) => encoder.finish().map(Some),
            Self::Nothing | Self::Gzip(_) => Ok(None),
        }
    }

    /// The error that stopped the threads, if one did.
    fn broken_by(&mut self) -> Option<io::Error> {
        match self {
            Self::Gzip(blocks) => blocks.join().err(),
            _ => None,
        }
    }
}

/// Cuts the tar into blocks and hashes them.
struct Sink<'passed> {
    passed: &'passed mut dyn FnMut(u64),
    hasher: Sha256,
    tar_size: u64,
    block: Vec<u8>,
    block_bytes: usize,
    output: Output,
}

impl<'passed> Sink<'passed> {
    fn new(output: Output, passed: &'passed mut dyn FnMut(u64)) -> Self {
        let block_bytes = output.block_bytes();
        Self {
            passed,
            hasher: Sha256::new(),
            tar_size: 0,
            block: Vec::with_capacity(block_bytes),
            block_bytes,
            output,
        }
    }

    fn finish(mut self) -> io::Result<(DiffId, u64, Option<BlobFile>)> {
        self.hasher.update(&self.block);
        let diff_id = DiffId(Digest::finish(self.hasher));
        Ok((diff_id, self.tar_size, self.output.finish(self.block)?))
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.block_bytes - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        self.tar_size += taken as u64;
        if self.block.len() == self.block_bytes {
            self.hasher.update(&self.block);
            self.output.push(&mut self.block)?;
            (self.passed)(self.tar_size);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
