//! `--env-file`: variables in a file, read as docker reads them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// The longest file that is read.
const BYTES_MAX: u64 = 1 << 20;

/// Why a file's variables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// It cannot be read.
    #[error("cannot read the variables in `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is too long.
    #[error("`{}` is longer than {BYTES_MAX} bytes, the most that is read of variables", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line is no variable.
    #[error("cannot use `{}`: line {line}: {why}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong; never the value, which may be a secret.
        why: String,
    },
}

impl Failure for EnvFileError {
    fn facts(&self) -> Facts {
        Facts::user("env_file_unusable")
    }
}

/// The variables of a file, in its order; `environment` has the values of those that are named alone.
pub(super) fn read(
    path: &Path,
    environment: &BTreeMap<String, OsString>,
) -> Result<Vec<(String, String)>, EnvFileError> {
    let unreadable = |source| EnvFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(EnvFileError::TooLong {
            path: path.to_owned(),
        });
    }
    parse(&bytes, environment).map_err(|(line, why)| EnvFileError::Line {
        path: path.to_owned(),
        line,
        why,
    })
}

/// One variable a line: `NAME=VALUE`, whose value is everything behind the first `=`, quotes and all; `NAME` for the value
/// that it has here, if it has one. Lines that are empty or begin with `#` say nothing.
fn parse(
    bytes: &[u8],
    environment: &BTreeMap<String, OsString>,
) -> Result<Vec<(String, String)>, (usize, String)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut variables = Vec::new();
    for (position, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |why: String| (position + 1, why);
        let text = std::str::from_utf8(line).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let text = text.strip_suffix('\r').unwrap_or(text).trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() {
            return Err(wrong("it has no name before `=`".to_owned()));
        }
        if name.contains(char::is_whitespace) {
            return Err(wrong(format!(
                "the name `{}` has white space in it",
                name.escape_debug()
            )));
        }
        if text.contains('\0') {
            return Err(wrong("it has a zero byte in it".to_owned()));
        }
        let here = || environment.get(name)?.to_str().map(str::to_owned);
        if let Some(value) = value.or_else(here) {
            variables.push((name.to_owned(), value));
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, (usize, String)> {
        parse(text.as_bytes(), &[("HERE".to_owned(), "5".into())].into())
    }

    #[test]
    fn lines_are_read_as_docker_reads_them() {
        let text = "\u{feff}A=1\n\n# no\n  # nor this\n  B=two words # and this \r\nC='q'\nD=\nE=a=b\nHERE\nNOT_HERE\n";
        let expected = [
            ("A", "1"),
            ("B", "two words # and this "),
            ("C", "'q'"),
            ("D", ""),
            ("E", "a=b"),
            ("HERE", "5"),
        ];
        assert_eq!(
            parsed(text).unwrap(),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn a_line_that_is_no_variable_is_named_without_its_value() {
        for (text, line, why) in [
            ("A=1\n=secret\n", 2, "it has no name before `=`"),
            ("A B=secret", 1, "the name `A B` has white space in it"),
            ("A=1\0", 1, "it has a zero byte in it"),
        ] {
            assert_eq!(parsed(text), Err((line, why.to_owned())), "{text:?}");
        }
        assert_eq!(
            parse(b"A=1\nB=\xff", &BTreeMap::new()),
            Err((2, "it is not UTF-8".to_owned()))
        );
    }
}
