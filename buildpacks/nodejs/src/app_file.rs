//! Reads one small file of the app, with a limit on its size.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

/// What went wrong with a file of the app; `file` is its name inside the app.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadAppFileError {
    #[error("cannot read `{file}`: {source}")]
    Io { file: &'static str, source: io::Error },
    #[error("`{file}` is larger than {size_bytes_max} bytes")]
    TooLarge { file: &'static str, size_bytes_max: u64 },
    #[error("`{file}` is not valid UTF-8 (first bad byte at offset {offset})")]
    NotUtf8 { file: &'static str, offset: usize },
}

/// The text of `file` in `app_dir` without a byte order mark, or `None` where there is no such regular file.
pub(crate) fn read_app_file(
    app_dir: &Path,
    file: &'static str,
    size_bytes_max: u64,
) -> Result<Option<String>, ReadAppFileError> {
    let path = app_dir.join(file);
    // A FIFO would block for ever, so only what is a regular file (or a link to one) is opened.
    if !path.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|opened| opened.take(size_bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|source| ReadAppFileError::Io { file, source })?;
    if bytes.len() as u64 > size_bytes_max {
        return Err(ReadAppFileError::TooLarge { file, size_bytes_max });
    }
    let text = String::from_utf8(bytes).map_err(|error| ReadAppFileError::NotUtf8 {
        file,
        offset: error.utf8_error().valid_up_to(),
    })?;
    Ok(Some(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_string(),
        None => text,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_and_folders_are_none() {
        let app = tempfile::tempdir().unwrap();
        std::fs::create_dir(app.path().join(".nvmrc")).unwrap();
        assert!(read_app_file(app.path(), "package.json", 10).unwrap().is_none());
        assert!(read_app_file(app.path(), ".nvmrc", 10).unwrap().is_none());
    }

    #[test]
    fn size_encoding_and_byte_order_mark_are_checked() {
        let app = tempfile::tempdir().unwrap();
        std::fs::write(app.path().join("a"), "\u{feff}22").unwrap();
        std::fs::write(app.path().join("b"), b"ok\xff").unwrap();
        assert_eq!(read_app_file(app.path(), "a", 5).unwrap().as_deref(), Some("22"));
        let too_large = read_app_file(app.path(), "a", 4).unwrap_err();
        assert_eq!(too_large.to_string(), "`a` is larger than 4 bytes");
        let not_utf8 = read_app_file(app.path(), "b", 10).unwrap_err();
        assert_eq!(
            not_utf8.to_string(),
            "`b` is not valid UTF-8 (first bad byte at offset 2)"
        );
    }
}
