//! Reads any tar, entry by entry, with every length bounded: ustar, PAX, GNU long names, base-256 numbers.

use std::io;
use std::io::Read;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::timestamp::Timestamp;
use crate::oci::tar::header::BLOCK_BYTES;
use crate::oci::tar::header::Header;
use crate::oci::tar::header::Kind;

/// The most bytes of PAX records or of one long name.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;

/// A tar that is being read. The contents of an entry are read from the reader itself, until `Ok(0)`.
pub struct TarReader<R: Read> {
    input: R,
    contents_left: u64,
    padding_left: u64,
    ended: bool,
}

/// Why a tar could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TarReadError {
    /// The input failed or ended too early.
    #[error("cannot read the tar: {source}")]
    Read {
        /// What the input said.
        source: io::Error,
    },
    /// The bytes are no tar.
    #[error("the tar is broken: {what}")]
    Broken {
        /// What is wrong.
        what: &'static str,
    },
    /// A kind of entry that layers do not have.
    #[error("the tar has an entry of type `{flag}`, which layers must not have: `{path}`")]
    Unsupported {
        /// The type flag.
        flag: char,
        /// The entry's name.
        path: String,
    },
}

impl Failure for TarReadError {
    fn facts(&self) -> Facts {
        match self {
            Self::Read { .. } => Facts::platform("layer_read_failed"),
            Self::Broken { .. } | Self::Unsupported { .. } => Facts::platform("layer_broken"),
        }
    }
}

#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<i64>,
}

impl<R: Read> TarReader<R> {
    /// A tar that comes from `input`, which should be buffered.
    pub fn new(input: R) -> Self {
        Self {
            input,
            contents_left: 0,
            padding_left: 0,
            ended: false,
        }
    }

    /// The next entry, or none at the end of the tar. What was not read of the contents before is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Header>, TarReadError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_contents()?;
            let Some(block) = self.next_header()? else {
                return Ok(None);
            };
            let size = number(&block[124..136])?;
            match block[156] {
                b'x' => extensions.take_records(&self.extension(size)?)?,
                b'L' => extensions.path = Some(text(&self.extension(size)?).to_vec()),
                b'K' => extensions.target = Some(text(&self.extension(size)?).to_vec()),
                // Global records say where the tar came from; layers have none that matter.
                b'g' => self.start_contents(size),
                _ => return self.entry(&block, size, extensions).map(Some),
            }
        }
    }

    /// Gives the input back.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn entry(&mut self, block: &Block, size: u64, extensions: Extensions) -> Result<Header, TarReadError> {
        let path = extensions.path.unwrap_or_else(|| name_of(block));
        let target = extensions
            .target
            .unwrap_or_else(|| text(&block[157..257]).to_vec());
        let size = extensions.size.unwrap_or(size);
        let device = || -> Result<(u32, u32), TarReadError> {
            Ok((
                small(number(&block[329..337])?)?,
                small(number(&block[337..345])?)?,
            ))
        };
        let kind = match block[156] {
            // Before ustar a folder was a file whose name ends in a slash.
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File { size },
            b'1' => Kind::Hardlink { target },
            b'2' => Kind::Symlink { target },
            b'3' => device().map(|(major, minor)| Kind::CharDevice { major, minor })?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => {
                let path = path.escape_ascii().to_string();
                return Err(TarReadError::Unsupported {
                    flag: char::from(flag),
                    path,
                });
            }
        };
        // Only files have contents; some writers state a size for links and folders all the same.
        if matches!(kind, Kind::File { .. }) {
            self.start_contents(size);
        }
        let mtime = match extensions.mtime {
            Some(seconds) => seconds,
            None => i64::try_from(number(&block[136..148])?).unwrap_or(0),
        };
        Ok(Header {
            path,
            kind,
            mode: small(number(&block[100..108])? & 0o7777)?,
            uid: extensions
                .uid
                .map_or_else(|| small(number(&block[108..116])?), Ok)?,
            gid: extensions
                .gid
                .map_or_else(|| small(number(&block[116..124])?), Ok)?,
            mtime: Timestamp(mtime),
        })
    }

    fn next_header(&mut self) -> Result<Option<Block>, TarReadError> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK_BYTES];
        // A tar without its end marker is read as Go, Python and GNU tar read it.
        if self.read_block(&mut block)? == 0 || block.iter().all(|&byte| byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        let stated = number(&block[148..156])?;
        let blanked = |(position, &byte): (usize, &u8)| match position {
            148..156 => u64::from(b' '),
            _ => u64::from(byte),
        };
        let sum: u64 = block.iter().enumerate().map(blanked).sum();
        if sum != stated {
            return Err(TarReadError::Broken {
                what: "a header has a wrong checksum",
            });
        }
        Ok(Some(block))
    }

    fn read_block(&mut self, block: &mut Block) -> Result<usize, TarReadError> {
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(0),
                Ok(0) => {
                    return Err(TarReadError::Broken {
                        what: "it ends within a header",
                    });
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarReadError::Read { source }),
            }
        }
        Ok(filled)
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarReadError> {
        if size > EXTENSION_BYTES_MAX {
            return Err(TarReadError::Broken {
                what: "a long name or record has more than 1 MiB",
            });
        }
        self.start_contents(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)
            .map_err(|source| TarReadError::Read { source })?;
        Ok(bytes)
    }

    fn start_contents(&mut self, size: u64) {
        self.contents_left = size;
        self.padding_left = (BLOCK_BYTES as u64 - size % BLOCK_BYTES as u64) % BLOCK_BYTES as u64;
    }

    fn skip_contents(&mut self) -> Result<(), TarReadError> {
        let skipped = self.contents_left.saturating_add(self.padding_left);
        let mut rest = (&mut self.input).take(skipped);
        let count = io::copy(&mut rest, &mut io::sink()).map_err(|source| TarReadError::Read { source })?;
        // The padding of the last entry may be missing where the end marker is.
        if count < self.contents_left {
            return Err(TarReadError::Broken {
                what: "it ends within a file",
            });
        }
        self.start_contents(0);
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.contents_left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the tar ends within a file",
            ));
        }
        self.contents_left -= count as u64;
        Ok(count)
    }
}

type Block = [u8; BLOCK_BYTES];

impl Extensions {
    /// Takes the records `LENGTH KEY=VALUE\n` that matter; an empty value takes a record back.
    fn take_records(&mut self, mut bytes: &[u8]) -> Result<(), TarReadError> {
        let broken = || TarReadError::Broken {
            what: "a PAX record is malformed",
        };
        while !bytes.is_empty() && bytes[0] != 0 {
            let blank = bytes.iter().position(|&byte| byte == b' ').ok_or_else(broken)?;
            let length: usize = parse(&bytes[..blank]).ok_or_else(broken)?;
            let record = bytes
                .get(blank + 1..length)
                .and_then(|record| record.strip_suffix(b"\n"));
            let record = record.ok_or_else(broken)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(broken)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            self.take_record(key, value).ok_or_else(broken)?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()).filter(|value| !value.is_empty()),
            b"linkpath" => self.target = Some(value.to_vec()).filter(|value| !value.is_empty()),
            b"size" => self.size = Some(parse(value)?),
            b"uid" => self.uid = Some(parse(value)?),
            b"gid" => self.gid = Some(parse(value)?),
            // Fractions of a second are dropped.
            b"mtime" => self.mtime = Some(parse(value.split(|&byte| byte == b'.').next()?)?),
            _ if key.starts_with(b"GNU.sparse.") => return None,
            _ => {}
        }
        Some(())
    }
}

fn parse<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// The name with its prefix, which only POSIX headers have there (GNU's put times in its place).
fn name_of(block: &Block) -> Vec<u8> {
    let name = text(&block[0..100]);
    let prefix = if &block[257..263] == b"ustar\0" {
        text(&block[345..500])
    } else {
        b""
    };
    if prefix.is_empty() {
        name.to_vec()
    } else {
        [prefix, b"/", name].concat()
    }
}

/// Octal digits, or base 256 if the first bit is set.
fn number(field: &[u8]) -> Result<u64, TarReadError> {
    let broken = TarReadError::Broken {
        what: "a header has a malformed number",
    };
    if field[0] & 0x80 != 0 {
        let bytes = [&[field[0] & 0x7f][..], &field[1..]].concat();
        // A set second bit is a negative number, which only times before 1970 have: they become 1970.
        if bytes[0] & 0x40 != 0 {
            return Ok(0);
        }
        let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
        if high.iter().any(|&byte| byte != 0) {
            return Err(broken);
        }
        return Ok(low.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)));
    }
    let digits = text(field).trim_ascii();
    if digits.is_empty() {
        return Ok(0);
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| u64::from_str_radix(digits, 8).ok())
        .ok_or(broken)
}

fn small(number: u64) -> Result<u32, TarReadError> {
    u32::try_from(number).map_err(|_| TarReadError::Broken {
        what: "a header has a number over 32 bits",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::tar::writer::TarWriter;

    fn header(path: &[u8], kind: Kind) -> Header {
        Header {
            path: path.to_vec(),
            kind,
            mode: 0o4755,
            uid: 7,
            gid: 9,
            mtime: Timestamp(12),
        }
    }

    #[test]
    fn what_the_writer_wrote_is_read_again() {
        let long = [b'n'; 300];
        let entries = [
            header(b"/d", Kind::Directory),
            header(&long, Kind::File { size: 3 }),
            header(
                "/é".as_bytes(),
                Kind::Symlink {
                    target: long.to_vec(),
                },
            ),
            header(
                b"/h",
                Kind::Hardlink {
                    target: b"/d".to_vec(),
                },
            ),
            header(b"/p", Kind::Fifo),
            header(b"/c", Kind::CharDevice { major: 1, minor: 3 }),
        ];
        let mut tar = TarWriter::new(Vec::new());
        for entry in &entries {
            tar.append(entry, &mut &b"abc"[..]).unwrap();
        }
        let bytes = tar.finish().unwrap();
        let mut reader = TarReader::new(&bytes[..]);
        for entry in &entries {
            assert_eq!(reader.next_entry().unwrap().as_ref(), Some(entry));
            if matches!(entry.kind, Kind::File { .. }) {
                let mut contents = String::new();
                reader.read_to_string(&mut contents).unwrap();
                assert_eq!(contents, "abc");
            }
        }
        assert_eq!(reader.next_entry().unwrap(), None);
    }

    #[test]
    fn broken_tars_are_errors() {
        let mut tar = TarWriter::new(Vec::new());
        tar.append(&header(b"/f", Kind::File { size: 600 }), &mut &[1; 600][..])
            .unwrap();
        let bytes = tar.finish().unwrap();
        let mut cut = TarReader::new(&bytes[..700]);
        cut.next_entry().unwrap();
        assert!(cut.next_entry().is_err());
        let mut flipped = bytes.clone();
        flipped[0] ^= 1;
        assert!(TarReader::new(&flipped[..]).next_entry().is_err());
        assert!(TarReader::new(&bytes[..100]).next_entry().is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048), flag in 0..128u8) {
            if bytes.len() >= BLOCK_BYTES {
                bytes[156] = flag;
                bytes[148..156].fill(b' ');
                let sum: u64 = bytes[..BLOCK_BYTES].iter().map(|&byte| u64::from(byte)).sum();
                bytes[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
            }
            let mut reader = TarReader::new(&bytes[..]);
            while let Ok(Some(_)) = reader.next_entry() {}
        }
    }
}
