//! The marks that overlayfs leaves in an upper: whiteouts (`user.` and `trusted.` forms) and opaque folders.

use std::fs;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

/// The mounts of unprivileged users write the first, those of root without `userxattr` the second.
const PREFIXES: [&str; 2] = ["user.overlay.", "trusted.overlay."];

/// Whether an entry hides what has its name in the trees below.
pub fn is_whiteout(path: &Path, metadata: &Metadata) -> io::Result<bool> {
    if metadata.file_type().is_char_device() {
        return Ok(metadata.rdev() == 0);
    }
    if metadata.is_file() && metadata.len() == 0 {
        return Ok(mark(path, "whiteout")?.is_some());
    }
    Ok(false)
}

/// Whether a folder hides everything that is in the folder of its name in the trees below.
pub fn is_opaque(path: &Path) -> io::Result<bool> {
    Ok(mark(path, "opaque")?.as_deref() == Some(b"y"))
}

/// Whether an attribute of a folder belongs to one mount and must not be carried to another tree. The escaped ones of
/// overlays within overlays are the job's own.
pub(super) fn is_mark(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.starts_with("overlay."))
    })
}

/// Whether a build has changed anything of a folder that it restored, by what is in its upper: an entry of its own, or
/// a mark on it or above it. `folder` is relative: `ESC/NAME`.
pub fn touches(upper: &Path, folder: &Path) -> io::Result<bool> {
    let mut path = upper.to_owned();
    for part in folder.components() {
        if is_opaque(&path)? {
            return Ok(true);
        }
        path.push(part);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
            // A folder above is there whenever something beside this one was changed; anything else hides it.
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Ok(true),
        }
    }
    Ok(true)
}

fn mark(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = [0; 16];
    for prefix in PREFIXES {
        match rustix::fs::lgetxattr(path, format!("{prefix}{name}"), &mut value) {
            Ok(length) => return Ok(Some(value[..length].to_vec())),
            // Without privilege the `trusted.` names are simply not there.
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::RANGE) => {}
            Err(source) => return Err(source.into()),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;
    use rustix::fs::Mode;
    use rustix::fs::XattrFlags;

    use super::*;

    #[test]
    fn an_upper_tells_what_it_touches() {
        let folder = tempfile::tempdir().unwrap();
        let upper = folder.path();
        let touched = |path: &str| touches(upper, Path::new(path)).unwrap();
        assert!(!touched("a/x"));
        fs::create_dir_all(upper.join("a/y")).unwrap();
        assert!(!touched("a/x") && touched("a/y") && !touched("b/x"));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            upper.join("b"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
        .unwrap();
        assert!(touched("b/x"));
        for prefix in PREFIXES {
            fs::create_dir(upper.join("c")).unwrap();
            let name = format!("{prefix}opaque");
            // Only root may write the `trusted.` one.
            if rustix::fs::setxattr(upper.join("c"), name, b"y", XattrFlags::empty()).is_ok() {
                assert!(touched("c/x"), "{prefix}");
            }
            fs::remove_dir(upper.join("c")).unwrap();
        }
        assert!(
            is_mark("user.overlay.opaque") && !is_mark("user.overlay.overlay.opaque") && !is_mark("user.a")
        );
    }
}
