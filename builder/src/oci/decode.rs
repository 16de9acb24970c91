//! Reads a layer's blob as a tar: gzip of any number of members, zstd or plain, bounded and verified on the way.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;

use sha2::Digest as _;
use sha2::Sha256;

use crate::model::descriptor::Descriptor;
use crate::model::digest::DiffId;
use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

const BUFFER_BYTES: usize = 64 << 10;
/// The largest window of a zstd frame: 128 MiB, as `zstd --long` makes them.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Below this many bytes a ratio says nothing.
const RATIO_FREE_BYTES: u64 = 256 << 20;

/// What a blob may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of the tar.
    pub tar_bytes_max: u64,
    /// Bytes of the tar for each byte of the blob, beyond the first 256 MiB.
    pub ratio_max: u64,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            tar_bytes_max: 128 << 30,
            ratio_max: 4096,
        }
    }
}

/// Why a blob is not what its descriptor says.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The blob could not be read or decompressed.
    #[error("cannot read the blob {digest}: {source}")]
    Read {
        /// The blob's digest.
        digest: Digest,
        /// What the reader or the decompressor said.
        source: io::Error,
    },
    /// The blob's bytes are others.
    #[error("the blob {expected} is broken: its bytes have the digest {found}")]
    Digest {
        /// The digest that its descriptor states.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// The blob has another length.
    #[error("the blob {digest} is broken: it has {found} bytes and should have {expected}")]
    Size {
        /// The blob's digest.
        digest: Digest,
        /// The size that its descriptor states.
        expected: u64,
        /// The bytes that were there.
        found: u64,
    },
}

impl Failure for DecodeError {
    fn facts(&self) -> Facts {
        match self {
            Self::Read { .. } => Facts::platform("blob_read_failed"),
            Self::Digest { .. } | Self::Size { .. } => Facts::platform("blob_broken"),
        }
    }
}

/// A blob that is read as a tar. Nothing that was read is to be trusted before [`LayerReader::finish`].
pub struct LayerReader<R: Read> {
    decoder: Decoder<BufReader<Counted<R>>>,
    descriptor: Descriptor,
    limits: DecodeLimits,
    tar_hasher: Sha256,
    tar_bytes: u64,
}

enum Decoder<B: BufRead> {
    Gzip(Box<flate2::bufread::MultiGzDecoder<B>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, B>>),
    Plain(B),
}

/// Hashes and counts what is read, and stops one byte after the stated size.
struct Counted<R> {
    input: R,
    hasher: Sha256,
    bytes: u64,
    bytes_max: u64,
}

impl<R: Read> LayerReader<R> {
    /// Reads `blob`, which should be what `descriptor` describes. The compression is told from the first bytes, as
    /// media types in the wild are often wrong.
    pub fn new(blob: R, descriptor: &Descriptor, limits: DecodeLimits) -> Result<Self, DecodeError> {
        let failed = |source| DecodeError::Read {
            digest: descriptor.digest,
            source,
        };
        let counted = Counted {
            input: blob,
            hasher: Sha256::new(),
            bytes: 0,
            bytes_max: descriptor.size,
        };
        let mut input = BufReader::with_capacity(BUFFER_BYTES, counted);
        let start = input.fill_buf().map_err(failed)?;
        let decoder = if start.starts_with(&[0x1f, 0x8b]) {
            Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input)))
        } else if is_zstd(start) {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(failed)?;
            Decoder::Zstd(Box::new(decoder))
        } else {
            Decoder::Plain(input)
        };
        let descriptor = descriptor.clone();
        Ok(Self {
            decoder,
            descriptor,
            limits,
            tar_hasher: Sha256::new(),
            tar_bytes: 0,
        })
    }

    /// Reads what is left, verifies the blob's digest and size, and gives the tar's diffID and length in bytes.
    pub fn finish(mut self) -> Result<(DiffId, u64), DecodeError> {
        let digest = self.descriptor.digest;
        let failed = |source| DecodeError::Read { digest, source };
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut rest = Ok(1);
        while matches!(rest, Ok(1..)) {
            rest = self.read(&mut buffer);
        }
        // A decompressor that stumbles over a broken blob says less than the blob's digest.
        let mut counted = match self.decoder {
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.finish(),
            Decoder::Plain(input) => input,
        };
        io::copy(&mut counted, &mut io::sink()).map_err(failed)?;
        let counted = counted.into_inner();
        let (expected, found) = (self.descriptor.size, counted.bytes);
        if expected != found {
            return Err(DecodeError::Size {
                digest,
                expected,
                found,
            });
        }
        let found = Digest::finish(counted.hasher);
        if found != digest {
            return Err(DecodeError::Digest {
                expected: digest,
                found,
            });
        }
        rest.map_err(failed)?;
        Ok((DiffId(Digest::finish(self.tar_hasher)), self.tar_bytes))
    }

    fn blob_bytes(&self) -> u64 {
        match &self.decoder {
            Decoder::Gzip(decoder) => decoder.get_ref().get_ref().bytes,
            Decoder::Zstd(decoder) => decoder.get_ref().get_ref().bytes,
            Decoder::Plain(input) => input.get_ref().bytes,
        }
    }
}

impl<R: Read> Read for LayerReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.read(buffer)?,
            Decoder::Zstd(decoder) => decoder.read(buffer)?,
            Decoder::Plain(input) => input.read(buffer)?,
        };
        self.tar_hasher.update(&buffer[..count]);
        self.tar_bytes += count as u64;
        let by_ratio = self
            .blob_bytes()
            .saturating_mul(self.limits.ratio_max)
            .max(RATIO_FREE_BYTES);
        let bytes_max = self.limits.tar_bytes_max.min(by_ratio);
        if self.tar_bytes > bytes_max {
            let text = format!("it becomes more than {bytes_max} bytes when decompressed");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        Ok(count)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = (self.bytes_max + 1).saturating_sub(self.bytes);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.input.read(&mut buffer[..wanted])?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

/// A frame, or a skippable one as seekable formats have them.
fn is_zstd(start: &[u8]) -> bool {
    let is_skippable = start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18];
    start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::model::descriptor::LAYER_GZIP;

    fn described(blob: &[u8]) -> Descriptor {
        Descriptor {
            media_type: LAYER_GZIP.to_owned(),
            digest: Digest::of(blob),
            size: blob.len() as u64,
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_compression_is_told_from_its_bytes() {
        let members = [gzip(b"one"), gzip(b"two")].concat();
        let zstd = zstd::encode_all(&b"onetwo"[..], 3).unwrap();
        for blob in [&members[..], &zstd, b"onetwo"] {
            let mut reader = LayerReader::new(blob, &described(blob), DecodeLimits::default()).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "onetwo");
            assert_eq!(reader.finish().unwrap(), (DiffId(Digest::of(b"onetwo")), 6));
        }
    }

    #[test]
    fn a_blob_that_is_another_is_refused() {
        let blob = gzip(b"contents");
        let limits = DecodeLimits::default();
        let mut flipped = blob.clone();
        flipped[12] ^= 1;
        let outcome = LayerReader::new(&flipped[..], &described(&blob), limits)
            .unwrap()
            .finish();
        assert!(matches!(outcome, Err(DecodeError::Digest { .. })), "{outcome:?}");
        let outcome = LayerReader::new(&blob[..20], &described(&blob), limits)
            .unwrap()
            .finish();
        assert!(
            matches!(outcome, Err(DecodeError::Size { found: 20, .. })),
            "{outcome:?}"
        );
        let longer = [&blob[..], &[0; 9000]].concat();
        let outcome = LayerReader::new(&longer[..], &described(&blob), limits)
            .unwrap()
            .finish();
        assert!(matches!(outcome, Err(DecodeError::Size { .. })), "{outcome:?}");
    }

    #[test]
    fn a_bomb_is_bounded() {
        let blob = gzip(&vec![0; 1 << 20]);
        let limits = DecodeLimits {
            tar_bytes_max: 1000,
            ..DecodeLimits::default()
        };
        let mut reader = LayerReader::new(&blob[..], &described(&blob), limits).unwrap();
        assert!(io::copy(&mut reader, &mut io::sink()).is_err());
    }
}
