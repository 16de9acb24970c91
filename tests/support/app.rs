//! Apps and buildpacks for a test: fixtures are copied, never used in place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::support::home::succeed;

/// `testdata/`.
pub(crate) fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("testdata")
        .join(path)
}

/// A folder of a test's own: an app, or a buildpack.
pub(crate) struct Folder {
    holder: TempDir,
}

impl Folder {
    /// A folder with these files.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self {
            holder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(folder.path()).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for (name, content) in files {
            folder.write(name, content);
        }
        folder
    }

    /// A copy of a folder below `testdata/`, with modes that do not depend on who checked it out.
    pub(crate) fn fixture(path: &str) -> Self {
        let folder = Self {
            holder: tempfile::tempdir().unwrap(),
        };
        let from = testdata(path);
        assert!(from.is_dir(), "there is no {}", from.display());
        succeed(Command::new("cp").arg("-a").arg(from).arg(folder.path()));
        succeed(
            Command::new("chmod")
                .args(["-R", "u=rwX,go=rX"])
                .arg(folder.path()),
        );
        folder
    }

    /// A copy of `testdata/buildpacks/NAME`.
    pub(crate) fn buildpack(name: &str) -> Self {
        Self::fixture(&format!("buildpacks/{name}"))
    }

    /// A buildpack `test/NAME` whose scripts are these lines of shell; `$1` is the layers folder in `build`.
    pub(crate) fn scripts(name: &str, detect: &str, build: &str) -> Self {
        let description =
            format!("api = \"0.11\"\n\n[buildpack]\nid = \"test/{name}\"\nversion = \"1.0.0\"\n");
        let folder = Self::new(&[
            ("buildpack.toml", &description),
            ("bin/detect", &format!("#!/bin/sh\nset -e\n{detect}\n")),
            ("bin/build", &format!("#!/bin/sh\nset -e\n{build}\n")),
        ]);
        for script in ["bin/detect", "bin/build"] {
            fs::set_permissions(folder.path().join(script), fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.holder.path().join("it")
    }

    /// The same as text.
    pub(crate) fn text(&self) -> String {
        self.path().display().to_string()
    }

    /// Makes or replaces a file.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs a line of shell in it.
    pub(crate) fn shell(&self, line: &str) {
        succeed(
            Command::new("sh")
                .args(["-ec", &format!("umask 022; {line}")])
                .current_dir(self.path()),
        );
    }
}
