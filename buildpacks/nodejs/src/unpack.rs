//! Unpacks a package's tarball: regular files only, none outside its folder, within limits.

use flate2::read::MultiGzDecoder;
use std::fs;
use std::fs::File;
use std::fs::Permissions;
use std::io;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use tar::Archive;
use tar::Entry;
use tar::EntryType;

/// How much may come out of one archive.
#[derive(Clone, Copy)]
pub(crate) struct UnpackLimits {
    pub(crate) entries_max: u64,
    pub(crate) size_bytes_max: u64,
}

/// An archive that cannot be, or may not be, unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("the archive is damaged: {0}")]
    Archive(#[source] io::Error),
    #[error("the archive has more than {0} entries")]
    TooManyEntries(u64),
    #[error("the archive unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("the archive has an entry `{0}` that would lie outside its folder")]
    UnsafePath(String),
    #[error("the archive has an entry `{0}` that is neither a file nor a folder")]
    UnexpectedType(String),
    #[error("cannot write `{path}`: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// Unpacks the gzip tar `archive` into the folder `destination`, without each entry's first folder, as npm does.
///
/// Modes are 0755 or 0644 whatever the umask, and times are those of now, so that only content counts.
pub(crate) fn unpack_package(
    archive: impl Read,
    destination: &Path,
    limits: UnpackLimits,
) -> Result<(), UnpackError> {
    let mut archive = Archive::new(MultiGzDecoder::new(archive));
    let mut size_bytes = 0_u64;
    for (count, entry) in (1..).zip(archive.entries().map_err(UnpackError::Archive)?) {
        let mut entry = entry.map_err(UnpackError::Archive)?;
        size_bytes = size_bytes.saturating_add(entry.size());
        if count > limits.entries_max {
            return Err(UnpackError::TooManyEntries(limits.entries_max));
        }
        if size_bytes > limits.size_bytes_max {
            return Err(UnpackError::TooLarge(limits.size_bytes_max));
        }
        unpack_entry(&mut entry, destination)?;
    }
    Ok(())
}

fn unpack_entry(entry: &mut Entry<impl Read>, destination: &Path) -> Result<(), UnpackError> {
    let name = entry.path().map_err(UnpackError::Archive)?.into_owned();
    let shown = || name.to_string_lossy().escape_debug().to_string();
    let path = path_inside(&name).ok_or_else(|| UnpackError::UnsafePath(shown()))?;
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => write_file(entry, destination, &path),
        EntryType::Directory => make_folders(destination, &path),
        EntryType::XGlobalHeader => Ok(()),
        _ => Err(UnpackError::UnexpectedType(shown())),
    }
}

/// `name` without its first folder, or `None` if it has anything but plain names in it.
fn path_inside(name: &Path) -> Option<PathBuf> {
    let mut parts = name.components().filter(|part| *part != Component::CurDir);
    matches!(parts.next(), Some(Component::Normal(_)))
        .then_some(parts)?
        .map(|part| matches!(part, Component::Normal(_)).then_some(part))
        .collect()
}

fn write_file(entry: &mut Entry<impl Read>, destination: &Path, inside: &Path) -> Result<(), UnpackError> {
    if let Some(folder) = inside.parent() {
        make_folders(destination, folder)?;
    }
    let is_executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
    let mode = if is_executable { 0o755 } else { 0o644 };
    let path = destination.join(inside);
    let written = File::create(&path).and_then(|mut file| {
        io::copy(entry, &mut file)?;
        file.set_permissions(Permissions::from_mode(mode))
    });
    written.map_err(|source| UnpackError::Write { path, source })
}

/// Makes the folders of the relative path `inside` below `destination`, where they are not there yet.
pub(crate) fn make_folders(destination: &Path, inside: &Path) -> Result<(), UnpackError> {
    let mut path = destination.to_path_buf();
    for part in inside.components() {
        path.push(part);
        if path.is_dir() {
            continue;
        }
        let made =
            fs::create_dir(&path).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)));
        made.map_err(|source| UnpackError::Write {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use tar::Header;

    const LIMITS: UnpackLimits = UnpackLimits {
        entries_max: 3,
        size_bytes_max: 20,
    };

    fn archive(entries: &[(&str, EntryType, u32, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, mode, content) in entries {
            let mut header = Header::new_ustar();
            // `set_path` refuses what a hostile archive may well hold.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_size(content.len() as u64);
            if kind.is_symlink() || kind.is_hard_link() {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn unpack(bytes: &[u8]) -> (tempfile::TempDir, Result<(), UnpackError>) {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let result = unpack_package(bytes, &inside, LIMITS);
        (folder, result)
    }

    #[test]
    fn files_lose_their_first_folder_and_odd_modes() {
        let (folder, result) = unpack(&archive(&[
            ("package/bin/node", EntryType::Regular, 0o6711, "node"),
            ("package/a/b/c.h", EntryType::Regular, 0o600, "c"),
            ("package/empty/", EntryType::Directory, 0o700, ""),
        ]));
        result.unwrap();
        let inside = folder.path().join("inside");
        let mode = |name: &str| fs::metadata(inside.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(fs::read_to_string(inside.join("a/b/c.h")).unwrap(), "c");
        assert_eq!(
            [mode("bin/node"), mode("a/b/c.h"), mode("a"), mode("empty")],
            [0o755, 0o644, 0o755, 0o755]
        );
    }

    #[test]
    fn hostile_archives_write_nothing_outside() {
        for (name, kind, expected) in [
            ("package/../../x", EntryType::Regular, "outside its folder"),
            ("../x", EntryType::Regular, "outside its folder"),
            ("/x/y", EntryType::Regular, "outside its folder"),
            ("package/link", EntryType::Symlink, "neither a file nor a folder"),
            ("package/link", EntryType::Link, "neither a file nor a folder"),
            ("package/null", EntryType::Char, "neither a file nor a folder"),
        ] {
            let (folder, result) = unpack(&archive(&[(name, kind, 0o644, "")]));
            let error = result.unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains(name),
                "{name}: {error}"
            );
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{name}");
        }
    }

    #[test]
    fn limits_hold() {
        let file = ("package/a", EntryType::Regular, 0o644, "123456789");
        let (_, result) = unpack(&archive(&[file, file, file]));
        assert!(matches!(result, Err(UnpackError::TooLarge(20))), "{result:?}");
        let small = ("package/a", EntryType::Regular, 0o644, "1");
        let (_, result) = unpack(&archive(&[small, small, small, small]));
        assert!(
            matches!(result, Err(UnpackError::TooManyEntries(3))),
            "{result:?}"
        );
    }

    #[test]
    fn damaged_archives_are_an_error() {
        let whole = archive(&[("package/a", EntryType::Regular, 0o644, "123456789")]);
        let mut not_gzip = Vec::new();
        not_gzip.write_all(b"<html>").unwrap();
        for bytes in [&whole[..whole.len() / 2], &not_gzip] {
            let (_, result) = unpack(bytes);
            assert!(
                matches!(result, Err(UnpackError::Archive(_) | UnpackError::Write { .. })),
                "{result:?}"
            );
        }
    }
}
