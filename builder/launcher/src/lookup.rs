//! Finds a program in `PATH`, by the rules of the reference launcher.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use thiserror::Error;

use crate::failure::io_text;

/// Why a program cannot be started.
#[derive(Debug, Error)]
pub(crate) enum LookupError {
    #[error("exec: {program:?}: executable file not found in $PATH")]
    NotFound { program: OsString },
    #[error("exec: {program:?}: cannot run executable found relative to current directory")]
    Relative { program: OsString },
    #[error("exec: {program:?}: {why}")]
    Unusable { program: OsString, why: String },
}

/// The path of a program: itself if there is a slash in it, else the first executable file of its name in `path`.
///
/// An entry of `path` that is no absolute folder never yields a program, lest an application's folder decide.
pub(crate) fn find_program(program: &OsStr, path: &OsStr) -> Result<PathBuf, LookupError> {
    let not_found = || LookupError::NotFound {
        program: program.to_owned(),
    };
    if Path::new(program).file_name().is_none() {
        return Err(not_found());
    }
    if program.as_bytes().contains(&b'/') {
        let found = PathBuf::from(program);
        return match refuse(&found) {
            None => Ok(found),
            Some(why) => Err(LookupError::Unusable {
                program: program.to_owned(),
                why,
            }),
        };
    }
    let folders = path
        .as_bytes()
        .split(|byte| *byte == b':')
        .filter(|_| !path.is_empty());
    for folder in folders {
        let folder = if folder.is_empty() {
            Path::new(".")
        } else {
            Path::new(OsStr::from_bytes(folder))
        };
        let found = folder.join(program);
        if refuse(&found).is_none() {
            return if found.is_absolute() {
                Ok(found)
            } else {
                Err(LookupError::Relative {
                    program: program.to_owned(),
                })
            };
        }
    }
    Err(not_found())
}

/// Why a path is no program, if it is none.
fn refuse(path: &Path) -> Option<String> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(source) => return Some(format!("stat {}: {}", path.display(), io_text(&source))),
    };
    if metadata.is_dir() {
        return Some("is a directory".to_owned());
    }
    match rustix::fs::accessat(rustix::fs::CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => None,
        // The kernel or a seccomp filter does not let us ask.
        Err(Errno::NOSYS | Errno::PERM) => {
            (metadata.permissions().mode() & 0o111 == 0).then(|| "permission denied".to_owned())
        }
        Err(errno) => Some(io_text(&io::Error::from(errno))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(program: &str, path: &str) -> Result<PathBuf, String> {
        find_program(OsStr::new(program), OsStr::new(path)).map_err(|error| error.to_string())
    }

    #[test]
    fn finds_programs() {
        assert_eq!(
            find("sh", "/no/such/folder:/bin:/usr/bin").unwrap(),
            Path::new("/bin/sh")
        );
        assert_eq!(find("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn says_why_not() {
        let cases = [
            (
                "no-such-program",
                "/bin",
                "exec: \"no-such-program\": executable file not found in $PATH",
            ),
            ("sh", "", "exec: \"sh\": executable file not found in $PATH"),
            ("", "/bin", "exec: \"\": executable file not found in $PATH"),
            ("..", "/bin", "exec: \"..\": executable file not found in $PATH"),
            (
                "/no/such",
                "/bin",
                "exec: \"/no/such\": stat /no/such: no such file or directory",
            ),
            ("/etc/passwd", "/bin", "exec: \"/etc/passwd\": permission denied"),
            ("/usr", "/bin", "exec: \"/usr\": is a directory"),
        ];
        for (program, path, expected) in cases {
            assert_eq!(find(program, path).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_current_folder_never_counts() {
        // Tests run in the package's folder; its parent folders lead to a program.
        let up = "../".repeat(20);
        let path = format!("{up}bin");
        assert_eq!(
            find("sh", &path).unwrap_err(),
            "exec: \"sh\": cannot run executable found relative to current directory"
        );
    }
}
