//! The blob file at the end of the pipeline: written in order, hashed and counted on the way.

use std::fs::File;
use std::io;
use std::io::Write;

use flate2::Crc;
use sha2::Digest as _;
use sha2::Sha256;

use crate::model::digest::Digest;
use crate::oci::layer::block::Block;
use crate::oci::layer::block::Shape;

/// No time, no name, unknown system: what makes a gzip header the same everywhere.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A file that knows the digest and the number of the bytes that went into it.
pub(super) struct BlobFile {
    file: File,
    hasher: Sha256,
    size: u64,
    crc: Crc,
}

impl BlobFile {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            hasher: Sha256::new(),
            size: 0,
            crc: Crc::new(),
        }
    }

    /// Writes a compressed block, with the gzip header before the first and the trailer after the last.
    pub(super) fn write_block(&mut self, shape: Shape, block: &Block) -> io::Result<()> {
        let is_single = matches!(shape, Shape::Single { .. });
        if is_single && block.place == 0 {
            self.write_all(&GZIP_HEADER)?;
        }
        self.write_all(&block.output)?;
        if is_single {
            self.crc.combine(&block.crc);
            if block.is_last {
                let (sum, amount) = (self.crc.sum(), self.crc.amount());
                self.write_all(&sum.to_le_bytes())?;
                self.write_all(&amount.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// The digest and the size in bytes of what was written.
    pub(super) fn finish(self) -> (Digest, u64) {
        (Digest::finish(self.hasher), self.size)
    }
}

impl Write for BlobFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
