//! How the owners of an image's files are kept on this machine's disk.

use serde::Deserialize;
use serde::Serialize;

/// How owners are kept. Trees of different kinds lie in different folders, since none can stand in for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owners {
    /// As the image has them: for root of the machine, who maps them by the mount.
    Natural,
    /// Each number raised by one, as seen from a user namespace in which 0 is the user who started packhorse.
    Shifted,
    /// All are the user's own, since no other id is to be had.
    Single,
}

impl Owners {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Natural, Self::Shifted, Self::Single];

    /// The number that a file of the image's owner `id` gets on disk, as this process sees it.
    pub fn on_disk(self, id: u32) -> u32 {
        match self {
            Self::Natural => id,
            Self::Shifted => id.saturating_add(1),
            Self::Single => 0,
        }
    }

    /// The name of a folder that holds trees of this kind: `layers`, `layers-shifted`, `layers-single`.
    pub fn folder(self, name: &str) -> String {
        match self {
            Self::Natural => name.to_owned(),
            Self::Shifted => format!("{name}-shifted"),
            Self::Single => format!("{name}-single"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_of_tree_stands_in_for_another() {
        assert_eq!(Owners::ALL.map(|kind| kind.on_disk(1000)), [1000, 1001, 0]);
        assert_eq!(
            Owners::ALL.map(|kind| kind.folder("layers")),
            ["layers", "layers-shifted", "layers-single"]
        );
    }
}
