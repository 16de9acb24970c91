//! One block of a tar on its way through compression; its bytes depend on nothing but the block and its place.

use std::io;

use flate2::Compress;
use flate2::Crc;
use flate2::FlushCompress;
use flate2::Status;

const DICTIONARY_BYTES: usize = 32 << 10;

/// A block and its buffers, which go round and round so that no fresh pages are touched.
#[derive(Default)]
pub(super) struct Block {
    pub(super) place: u64,
    pub(super) is_last: bool,
    /// The end of the block before it (only for one member).
    pub(super) dictionary: Vec<u8>,
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    pub(super) crc: Crc,
}

/// What the gzip blob is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Members of 1 MiB, each a gzip file of its own.
    Members { level: u8 },
    /// One member of blocks that are compressed apart.
    Single { level: u8 },
}

impl Shape {
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::Members { .. } => 1 << 20,
            Self::Single { .. } => 512 << 10,
        }
    }

    /// Keeps the end of a block for the block after it.
    pub(super) fn keep_dictionary(self, input: &[u8], dictionary: &mut Vec<u8>) {
        dictionary.clear();
        if matches!(self, Self::Single { .. }) {
            dictionary.extend_from_slice(&input[input.len().saturating_sub(DICTIONARY_BYTES)..]);
        }
    }

    pub(super) fn encoder(self) -> io::Result<Encoder> {
        match self {
            Self::Members { level } => {
                let level = libdeflater::CompressionLvl::new(i32::from(level));
                let level = level.map_err(|_| io::Error::other("libdeflate has no such level"))?;
                Ok(Encoder::Members(libdeflater::Compressor::new(level)))
            }
            Self::Single { level } => Ok(Encoder::Single(flate2::Compression::new(u32::from(level)))),
        }
    }
}

/// Compresses blocks, one at a time.
pub(super) enum Encoder {
    Members(libdeflater::Compressor),
    Single(flate2::Compression),
}

impl Encoder {
    pub(super) fn encode(&mut self, block: &mut Block) -> io::Result<()> {
        match self {
            Self::Members(compressor) => {
                block
                    .output
                    .resize(compressor.gzip_compress_bound(block.input.len()), 0);
                let length = compressor.gzip_compress(&block.input, &mut block.output);
                let length = length.map_err(|_| io::Error::other("libdeflate did not keep its own bound"))?;
                block.output.truncate(length);
                Ok(())
            }
            Self::Single(level) => encode_part(*level, block),
        }
    }
}

/// A fresh compressor for each block: one that was reset gives other bytes in zlib-rs.
fn encode_part(level: flate2::Compression, block: &mut Block) -> io::Result<()> {
    let mut compress = Compress::new(level, false);
    if !block.dictionary.is_empty() {
        compress
            .set_dictionary(&block.dictionary)
            .map_err(io::Error::other)?;
    }
    block.crc.reset();
    block.crc.update(&block.input);
    block.output.clear();
    block
        .output
        .reserve(block.input.len() + block.input.len() / 8 + 1024);
    let flush = if block.is_last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    loop {
        let read = usize::try_from(compress.total_in())
            .unwrap_or(usize::MAX)
            .min(block.input.len());
        let status = compress.compress_vec(&block.input[read..], &mut block.output, flush);
        let status = status.map_err(io::Error::other)?;
        let all_read = compress.total_in() == block.input.len() as u64;
        let has_room = block.output.len() < block.output.capacity();
        match status {
            Status::StreamEnd => return Ok(()),
            // A sync flush is complete when all was read and room is left in the output.
            _ if !block.is_last && all_read && has_room => return Ok(()),
            _ => block.output.reserve(64 << 10),
        }
    }
}
