//! The launcher and the shipped buildpacks, carried inside the program and laid into the store by digest at first use.

use std::fs;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::temporary::TemporaryFolder;
use crate::oci::temporary::sync_file_system;

/// What the launcher is called in the archive.
const LAUNCHER: &str = "launcher";

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/embedded.tar.zst"));

/// The digest of what is carried, as hex: part of every build key.
pub const DIGEST: &str = env!("PACKHORSE_EMBEDDED_DIGEST");

/// The digest of what the program itself is made of, as hex: part of every build key.
pub const PROGRAM: &str = env!("PACKHORSE_PROGRAM_DIGEST");

/// Folder names of the shipped buildpacks.
pub const BUILDPACKS: [&str; 2] = ["nodejs", "procfile"];

/// What is carried, laid out on disk.
#[derive(Debug, Clone)]
pub struct Embedded {
    directory: PathBuf,
}

/// Laying it out failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot lay the shipped buildpacks into `{path}`: {source}")]
pub struct EmbeddedError {
    path: PathBuf,
    source: io::Error,
}

impl Failure for EmbeddedError {
    fn facts(&self) -> Facts {
        match self.source.kind() {
            io::ErrorKind::StorageFull => Facts::platform("disk_full"),
            _ => Facts::platform("store_unusable"),
        }
    }
}

impl Embedded {
    /// Lays out what is carried below `root`, unless it is there.
    pub fn lay_out(root: &Path) -> Result<Self, EmbeddedError> {
        let directory = root.join("embedded").join(DIGEST);
        if directory.is_dir() {
            return Ok(Self { directory });
        }
        let laid_out = fs::create_dir_all(root.join("embedded"))
            .and_then(|()| TemporaryFolder::create(&root.join("embedded")))
            .and_then(|temporary| unpack(temporary, &directory));
        laid_out.map_err(|source| EmbeddedError {
            path: directory.clone(),
            source,
        })?;
        Ok(Self { directory })
    }

    /// A shipped buildpack's folder.
    pub fn buildpack(&self, name: &str) -> PathBuf {
        self.directory.join("buildpacks").join(name)
    }
}

/// The launcher, a static program: as it is carried, whatever became of the disk since it was laid out.
pub fn launcher() -> io::Result<Vec<u8>> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(PACKED)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path_bytes().as_ref() == LAUNCHER.as_bytes() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn unpack(temporary: TemporaryFolder, directory: &Path) -> io::Result<()> {
    let folder = temporary.path();
    let mut archive = tar::Archive::new(zstd::Decoder::new(PACKED)?);
    archive.set_preserve_mtime(false);
    archive.unpack(folder)?;
    for part in ["", "buildpacks"]
        .map(str::to_owned)
        .into_iter()
        .chain(BUILDPACKS.map(|name| format!("buildpacks/{name}")))
    {
        make_readable(&folder.join(&part))?;
        if part.starts_with("buildpacks/") {
            make_readable(&folder.join(&part).join("bin"))?;
        }
    }
    // Under its name it is taken to be whole.
    sync_file_system(folder)?;
    match temporary.persist(directory) {
        // Another packhorse was faster.
        Err(_) if directory.is_dir() => Ok(()),
        result => result,
    }
}

/// Jobs run as another user; the umask must not keep them out.
fn make_readable(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_laid_out_once() {
        let root = tempfile::tempdir().unwrap();
        let embedded = Embedded::lay_out(root.path()).unwrap();
        assert!(launcher().unwrap().starts_with(b"\x7fELF"));
        for name in BUILDPACKS {
            assert!(embedded.buildpack(name).join("bin/detect").is_file(), "{name}");
            assert!(
                embedded.buildpack(name).join("buildpack.toml").is_file(),
                "{name}"
            );
        }
        Embedded::lay_out(root.path()).unwrap();
        let kept = fs::read_dir(root.path().join("embedded")).unwrap().count();
        assert_eq!(kept, 1);
    }
}
