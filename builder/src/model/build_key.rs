//! The build key: a hash of everything that is input, so that a build with nothing changed is answered from its receipt.

use crate::model::digest::Digest;
use crate::model::timestamp::Timestamp;

/// Everything that is input to a build, but for the machine, the user, the path and the time.
#[derive(Debug, Clone)]
pub struct KeyInputs {
    /// What the program and the files that it carries are, as hex digests.
    pub program: [&'static str; 2],
    /// The source's content: a commit with its folder, or the hash of a folder.
    pub source: String,
    /// The canonical remote, written into the image's labels.
    pub remote: Option<String>,
    /// The commit, written into the image's labels.
    pub revision: Option<String>,
    /// The branch or tag that was asked for, written into the image's labels.
    pub name: Option<String>,
    /// The image's time of creation.
    pub created: Timestamp,
    /// Content of the buildpacks that the command line names, in order.
    pub buildpacks: Vec<Digest>,
    /// Variables for the buildpacks.
    pub environment: Vec<(String, String)>,
    /// Of each secret: its name, who gets it and how; and a hash of its bytes with a key of this machine.
    pub secrets: Vec<(String, String)>,
    /// Whether `.git` stays in the workspace, and whether submodules are in it.
    pub options: [bool; 2],
    /// The network policy ([`NetworkPolicy::key_text`](crate::model::policy::NetworkPolicy::key_text)); none for the
    /// default.
    pub network: Option<String>,
}

/// The identity of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildKey(pub Digest);

impl KeyInputs {
    /// The key over these inputs and the lock of the base.
    pub fn key(&self, base_lock: Digest) -> BuildKey {
        // Debug and JSON say the same of plain data; this one cannot fail.
        BuildKey(Digest::of(format!("{self:?} {base_lock}").as_bytes()))
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
            name: None,
            created: Timestamp::BUILDPACKS,
            buildpacks: Vec::new(),
            environment: vec![("A".to_owned(), "B".to_owned())],
            secrets: Vec::new(),
            options: [false, false],
            network: None,
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
                name: Some("v1".to_owned()),
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
                secrets: vec![("npm".to_owned(), "0".repeat(64))],
                ..inputs()
            },
            KeyInputs {
                options: [true, false],
                ..inputs()
            },
            KeyInputs {
                network: Some("none".to_owned()),
                ..inputs()
            },
        ];
        for other in others {
            assert_ne!(base, other.key(lock), "{other:?}");
        }
        assert_ne!(base, inputs().key(Digest::of(b"other lock")));
    }
}
