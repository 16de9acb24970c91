//! Where things are inside a job.

use std::path::PathBuf;

use packhorse_spec::identifier::BuildpackId;

/// The folders that buildpacks are told of. Buildpacks write some of them into their files, so the defaults are the
/// ones that the reference lifecycle has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The app's source; buildpacks start here.
    pub app: PathBuf,
    /// The layers of all buildpacks.
    pub layers: PathBuf,
    /// What the platform tells: `env/` and `bindings/`.
    pub platform: PathBuf,
    /// What the builder's owner sets: `env/`.
    pub build_config: PathBuf,
    /// Where private files are made for one step.
    pub temporary: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            app: PathBuf::from("/workspace"),
            layers: PathBuf::from("/layers"),
            platform: PathBuf::from("/platform"),
            build_config: PathBuf::from("/cnb/build-config"),
            temporary: PathBuf::from("/tmp"),
        }
    }
}

impl Paths {
    /// The layers folder of one buildpack.
    pub fn layers_of(&self, id: &BuildpackId) -> PathBuf {
        self.layers.join(id.escaped())
    }
}
