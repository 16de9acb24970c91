//! The flavours of the base and the packages that each asks for.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// What a base is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// Compilers, git, curl, python3: buildpacks run on it.
    Build,
    /// Shell, core tools, C++ library, certificates, time zones: apps run on it.
    Run,
}

/// What both flavours ask for, beside everything essential.
const RUN: &[&str] = &[
    "bash",
    "ca-certificates",
    "libstdc++6",
    "netbase",
    "openssl",
    "tzdata",
];
/// What `build` asks for beside that.
const BUILD: &[&str] = &[
    "build-essential",
    "curl",
    "git",
    "pkg-config",
    "python3",
    "rsync",
    "unzip",
    "xz-utils",
    "zstd",
];

impl Flavour {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Build, Self::Run];

    /// Its name in paths, locks and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Run => "run",
        }
    }

    /// The packages that it asks for.
    pub fn packages(self) -> Vec<&'static str> {
        match self {
            Self::Build => [RUN, BUILD].concat(),
            Self::Run => RUN.to_vec(),
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
