//! Writes tars, entry by entry, with the exact bytes of cnb §5.3.

use std::io;
use std::io::Read;
use std::io::Write;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::secret::SecretFound;
use crate::oci::tar::header;
use crate::oci::tar::header::BLOCK_BYTES;
use crate::oci::tar::header::Header;
use crate::oci::tar::header::Kind;
use crate::oci::tar::inspector::Inspector;

const COPY_BUFFER_BYTES: usize = 128 << 10;

/// A tar that is being written.
pub struct TarWriter<W: Write> {
    output: W,
    header: Vec<u8>,
    buffer: Vec<u8>,
    inspector: Option<Box<dyn Inspector>>,
}

/// Why an entry or the end of a tar could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The output refused bytes.
    #[error("cannot write the tar: {source}")]
    Write {
        /// What the output said.
        source: io::Error,
    },
    /// The contents could not be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The entry's name.
        path: String,
        /// What the reader said.
        source: io::Error,
    },
    /// A file was cut while it was read.
    #[error("`{path}` shrank while it was read: {read} of {size} bytes were there")]
    Shrank {
        /// The entry's name.
        path: String,
        /// The bytes that were there.
        read: u64,
        /// The bytes that its header states.
        size: u64,
    },
    /// A file got longer while it was read.
    #[error("`{path}` grew while it was read: it has more than its {size} bytes")]
    Grew {
        /// The entry's name.
        path: String,
        /// The bytes that its header states.
        size: u64,
    },
    /// A name or link target that no tar can hold.
    #[error("`{path}` cannot be in a tar: its name or target is empty or has a NUL byte")]
    Name {
        /// The entry's name.
        path: String,
    },
    /// An entry has a secret of the build in it.
    #[error("`{path}` has a secret of the build in it: {found}")]
    Secret {
        /// The entry's name; empty if the secret is in the name.
        path: String,
        /// Which, in which form.
        found: SecretFound,
    },
}

impl Failure for TarError {
    fn facts(&self) -> Facts {
        match self {
            Self::Write { source } if source.kind() == io::ErrorKind::StorageFull => {
                Facts::platform("disk_full")
            }
            Self::Write { .. } => Facts::platform("layer_write_failed"),
            Self::Read { .. } => Facts::platform("layer_read_failed"),
            Self::Shrank { .. } | Self::Grew { .. } => Facts::user("layer_changed_while_read"),
            Self::Name { .. } => Facts::user("layer_name_invalid"),
            Self::Secret { .. } => Facts::user("secret_found"),
        }
    }
}

impl<W: Write> TarWriter<W> {
    /// A tar that goes to `output`, which should be buffered.
    pub fn new(output: W) -> Self {
        Self {
            output,
            header: Vec::new(),
            buffer: vec![0; COPY_BUFFER_BYTES],
            inspector: None,
        }
    }

    /// Shows what is written from now on to `inspector` first.
    pub fn inspect(&mut self, inspector: Box<dyn Inspector>) {
        self.inspector = Some(inspector);
    }

    /// Writes one entry. `contents` is read for regular files only, and must have just the bytes that the header
    /// states.
    pub fn append(&mut self, header: &Header, contents: &mut dyn Read) -> Result<(), TarError> {
        let target = match &header.kind {
            Kind::Symlink { target } | Kind::Hardlink { target } => &target[..],
            _ => &b"/"[..],
        };
        for name in [&header.path[..], target] {
            if name.is_empty() || name.contains(&0) {
                return Err(TarError::Name {
                    path: shown(&header.path),
                });
            }
        }
        if let Some(inspector) = &mut self.inspector {
            let looked = inspector.name(&header.path).and_then(|()| inspector.name(target));
            looked.map_err(|found| TarError::Secret {
                path: String::new(),
                found,
            })?;
        }
        self.header.clear();
        header::encode(header, &mut self.header);
        self.output.write_all(&self.header).map_err(write_failed)?;
        match header.kind {
            Kind::File { size } => self.copy(header, size, contents),
            _ => Ok(()),
        }
    }

    /// Writes an entry without contents: a folder, a link, a pipe, an empty file.
    pub fn append_empty(&mut self, header: &Header) -> Result<(), TarError> {
        self.append(header, &mut io::empty())
    }

    /// Writes the end, two blocks of zeros, and gives the output back.
    pub fn finish(mut self) -> Result<W, TarError> {
        self.output
            .write_all(&[0; 2 * BLOCK_BYTES])
            .map_err(write_failed)?;
        self.output.flush().map_err(write_failed)?;
        Ok(self.output)
    }

    fn copy(&mut self, header: &Header, size: u64, contents: &mut dyn Read) -> Result<(), TarError> {
        let mut read = 0;
        loop {
            // Reads one byte past the end, to see that nothing is there.
            let wanted = (size - read).saturating_add(1).min(self.buffer.len() as u64);
            let wanted = usize::try_from(wanted).unwrap_or(COPY_BUFFER_BYTES);
            let count = match contents.read(&mut self.buffer[..wanted]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(TarError::Read {
                        path: shown(&header.path),
                        source,
                    });
                }
            };
            if count as u64 > size - read {
                return Err(TarError::Grew {
                    path: shown(&header.path),
                    size,
                });
            }
            if count == 0 {
                break;
            }
            if let Some(inspector) = &mut self.inspector {
                let looked = inspector.contents(&self.buffer[..count]);
                looked.map_err(|found| TarError::Secret {
                    path: shown(&header.path),
                    found,
                })?;
            }
            self.output
                .write_all(&self.buffer[..count])
                .map_err(write_failed)?;
            read += count as u64;
        }
        if read < size {
            return Err(TarError::Shrank {
                path: shown(&header.path),
                read,
                size,
            });
        }
        let padding = read.next_multiple_of(BLOCK_BYTES as u64) - read;
        let zeros = [0; BLOCK_BYTES];
        let padding = usize::try_from(padding).unwrap_or(0);
        self.output.write_all(&zeros[..padding]).map_err(write_failed)
    }
}

fn write_failed(source: io::Error) -> TarError {
    TarError::Write { source }
}

/// A name as it is shown to people.
fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;
    use crate::model::timestamp::Timestamp;

    fn entry(path: &str, kind: Kind, mode: u32, id: u32) -> Header {
        let (path, mtime) = (path.as_bytes().to_vec(), Timestamp::BUILDPACKS);
        Header {
            path,
            kind,
            mode,
            uid: id,
            gid: if id == 0 { 0 } else { 1000 },
            mtime,
        }
    }

    fn digest_of(entries: &[(Header, &[u8])]) -> String {
        let mut tar = TarWriter::new(Vec::new());
        for (header, contents) in entries {
            tar.append(header, &mut &contents[..]).unwrap();
        }
        Digest::of(&tar.finish().unwrap()).to_string()
    }

    fn processes(names: &[&str]) -> String {
        let mut entries: Vec<(Header, &[u8])> = vec![
            (entry("/cnb", Kind::Directory, 0o755, 0), b""),
            (entry("/cnb/process", Kind::Directory, 0o755, 0), b""),
        ];
        for name in names {
            let target = b"/cnb/lifecycle/launcher".to_vec();
            entries.push((
                entry(
                    &format!("/cnb/process/{name}"),
                    Kind::Symlink { target },
                    0o755,
                    0,
                ),
                b"",
            ));
        }
        digest_of(&entries)
    }

    #[test]
    fn the_small_layers_have_the_reference_s_digests() {
        let web = "sha256:83d85471d9f8a3834b4e27cf701e3f0aef220cc816d9c173c7d32cd73909a590";
        let both = "sha256:c32b6c6d08c5d84a980a518d1dd9093c22b9e003f2b6b468f12fe1e7cd918b3f";
        assert_eq!(processes(&["web"]), web);
        assert_eq!(processes(&["web", "worker"]), both);
        let empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
        assert_eq!(digest_of(&[]), empty);
        let launcher = digest_of(&[
            (entry("/cnb", Kind::Directory, 0o755, 0), b""),
            (entry("/cnb/lifecycle", Kind::Directory, 0o755, 0), b""),
            (
                entry("/cnb/lifecycle/launcher", Kind::File { size: 16 }, 0o755, 0),
                b"launcher-content",
            ),
        ]);
        assert_eq!(
            launcher,
            "sha256:eb8cd01c7ae3cc4b516ccee89832066897b6728ba2b43044bf4c0fcb34826ba3"
        );
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_named() {
        let header = entry("/a", Kind::File { size: 3 }, 0o644, 0);
        let mut tar = TarWriter::new(io::sink());
        let shrank = tar.append(&header, &mut &b"ab"[..]).unwrap_err().to_string();
        assert_eq!(shrank, "`/a` shrank while it was read: 2 of 3 bytes were there");
        let grew = tar.append(&header, &mut &b"abcd"[..]).unwrap_err().to_string();
        assert_eq!(grew, "`/a` grew while it was read: it has more than its 3 bytes");
    }

    #[test]
    fn names_that_no_tar_can_hold_are_refused() {
        let mut tar = TarWriter::new(io::sink());
        let nul = entry("/a\0b", Kind::Directory, 0o755, 0);
        assert!(matches!(tar.append_empty(&nul), Err(TarError::Name { .. })));
        let link = entry("/l", Kind::Symlink { target: Vec::new() }, 0o777, 0);
        assert!(matches!(tar.append_empty(&link), Err(TarError::Name { .. })));
    }
}
