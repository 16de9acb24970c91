//! Reads the Procfile, with a limit on its size.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

pub(crate) const PROCFILE: &str = "Procfile";

/// A Procfile is a handful of lines.
const SIZE_BYTES_MAX: u64 = 64 * 1024;

/// The Procfile is there but no text can be had from it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadProcfileError {
    #[error("cannot read `Procfile`: {0}")]
    Io(#[source] io::Error),
    #[error("`Procfile` is larger than {SIZE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("`Procfile`, line {line}: not valid UTF-8")]
    NotUtf8 { line: usize },
}

/// The text of the Procfile in `app_dir`.
pub(crate) fn read_procfile(app_dir: &Path) -> Result<String, ReadProcfileError> {
    let mut bytes = Vec::new();
    File::open(app_dir.join(PROCFILE))
        .and_then(|file| file.take(SIZE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(ReadProcfileError::Io)?;
    if bytes.len() as u64 > SIZE_BYTES_MAX {
        return Err(ReadProcfileError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        ReadProcfileError::NotUtf8 { line }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<String, String> {
        let app = tempfile::tempdir().unwrap();
        std::fs::write(app.path().join(PROCFILE), content).unwrap();
        read_procfile(app.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn size_and_encoding_are_checked() {
        assert_eq!(read(b"web: a").unwrap(), "web: a");
        assert_eq!(
            read(b"web: a\nworker: \xff").unwrap_err(),
            "`Procfile`, line 2: not valid UTF-8"
        );
        assert_eq!(read(&vec![b'#'; 65_536]).unwrap().len(), 65_536);
        assert_eq!(
            read(&vec![b'#'; 65_537]).unwrap_err(),
            "`Procfile` is larger than 65536 bytes"
        );
    }
}
