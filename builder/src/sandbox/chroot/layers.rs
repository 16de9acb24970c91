//! `/layers` where nothing can be mounted: the store's upper moves into the job's root, and back when the job has ended.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::oci::removal;
use crate::sandbox::mount::JOB_FILES;
use crate::sandbox::mount::ROOT_COPY;
use crate::sandbox::spec::JobSpec;

/// Where the layers are and where they belong.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Where the store looks for them.
    upper: PathBuf,
    /// Where the job sees them.
    inside: PathBuf,
    is_inside: bool,
}

impl Layers {
    pub(crate) fn of(spec: &JobSpec) -> Self {
        Self {
            upper: spec.layers.directory.join("upper"),
            inside: spec
                .directory
                .path()
                .join(JOB_FILES)
                .join(ROOT_COPY)
                .join("layers"),
            is_inside: false,
        }
    }

    /// Moves them in; a link stays in the store, since the exporter looks at their times there.
    pub(crate) fn attach(&mut self) -> io::Result<()> {
        if self.is_inside {
            return Err(io::Error::other("they are attached already"));
        }
        // Made by init, and nobody but root can put anything else there.
        removal::remove(&self.inside)?;
        fs::rename(&self.upper, &self.inside)?;
        self.is_inside = true;
        symlink(&self.inside, &self.upper)
    }

    /// Moves them back; the job must have ended.
    pub(crate) fn detach(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_inside) {
            return Ok(());
        }
        removal::remove(&self.upper)?;
        fs::rename(&self.inside, &self.upper)
    }
}
