//! The build key: a hash of everything that is input, so that a build with nothing changed is answered from its receipt.

use serde::Serialize;

use crate::model::digest::Digest;
use crate::model::timestamp::Timestamp;

/// Everything that is input to a build, but for the machine, the user, the path and the time.
#[derive(Debug, Clone, Serialize)]
pub struct KeyInputs {
    /// What the program and the files that it carries are, as hex digests.
    pub program: [&'static str; 2],
    /// The source's content: a commit with its folder, or the hash of a folder.
    pub source: String,
    /// The canonical remote, written into the image's labels.
    pub remote: Option<String>,
    /// The commit, written into the image's labels.
    pub revision: Option<String>,
    /// The image's time of creation.
    pub created: Timestamp,
    /// Content of the buildpacks that the command line names, in order.
    pub buildpacks: Vec<Digest>,
    /// Variables for the buildpacks.
    pub environment: Vec<(String, String)>,
    /// Whether `.git` stays in the workspace, and whether submodules are in it.
    pub options: [bool; 2],
}

/// The identity of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildKey(pub Digest);

impl KeyInputs {
    /// The key over these inputs and the lock of the base.
    pub fn key(&self, base_lock: Digest) -> BuildKey {
        let text = serde_json::to_vec(&(self, base_lock)).unwrap_or_default();
        BuildKey(Digest::of(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> KeyInputs {
        KeyInputs {
            program: ["a", "b"],
            source: "tree".to_owned(),
            remote: None,
            revision: None,
            created: Timestamp::BUILDPACKS,
            buildpacks: Vec::new(),
            environment: vec![("A".to_owned(), "B".to_owned())],
            options: [false, false],
        }
    }

    #[test]
    fn every_input_changes_the_key() {
        let lock = Digest::of(b"lock");
        let base = inputs().key(lock);
        assert_eq!(base, inputs().key(lock));
        let others = [
            KeyInputs {
                program: ["a", "c"],
                ..inputs()
            },
            KeyInputs {
                source: "other".to_owned(),
                ..inputs()
            },
            KeyInputs {
                remote: Some("https://git.example/app".to_owned()),
                ..inputs()
            },
            KeyInputs {
                revision: Some("0".repeat(40)),
                ..inputs()
            },
            KeyInputs {
                created: Timestamp(0),
                ..inputs()
            },
            KeyInputs {
                buildpacks: vec![Digest::of(b"x")],
                ..inputs()
            },
            KeyInputs {
                environment: Vec::new(),
                ..inputs()
            },
            KeyInputs {
                options: [true, false],
                ..inputs()
            },
        ];
        for other in others {
            assert_ne!(base, other.key(lock), "{other:?}");
        }
        assert_ne!(base, inputs().key(Digest::of(b"other lock")));
    }
}
