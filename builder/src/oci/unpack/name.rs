//! The names of entries: where they lie below the root, and what the whiteouts among them hide.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::oci::unpack::UnpackError;

/// The path below the root: no leading slash, no `.`, and never a `..`.
pub(super) fn relative(name: &[u8]) -> Result<PathBuf, UnpackError> {
    let refused = |why| {
        Err(UnpackError::Refused {
            path: OsStr::from_bytes(name).into(),
            why,
        })
    };
    if name.contains(&0) {
        return refused("its name has a NUL byte");
    }
    let mut path = PathBuf::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return refused("its name leads out of the layer"),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

/// Marks what the layers below have as hidden, as overlayfs wants it.
pub(super) fn whiteout(folder: BorrowedFd<'_>, hidden: &[u8], path: &Path) -> Result<(), UnpackError> {
    let failed = |source: Errno| UnpackError::Entry {
        path: path.to_owned(),
        source: source.into(),
    };
    match hidden {
        b".wh..opq" => {
            rustix::fs::fsetxattr(folder, "user.overlay.opaque", b"y", XattrFlags::empty()).map_err(failed)
        }
        b"" | b"." | b".." => Err(UnpackError::Refused {
            path: path.to_owned(),
            why: "its whiteout names no entry",
        }),
        // Other marks of AUFS mean nothing here.
        hidden if hidden.starts_with(b".wh.") => Ok(()),
        hidden => {
            let name = OsStr::from_bytes(hidden);
            match rustix::fs::mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), 0) {
                // What the same layer has put there stays.
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(source) => Err(failed(source)),
            }
        }
    }
}
