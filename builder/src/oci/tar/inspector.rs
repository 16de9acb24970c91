//! Looks at everything that goes into a tar, before it is there.

use crate::model::secret::SecretFound;

/// Is shown the names and contents of a tar's entries. An error ends the tar.
pub trait Inspector {
    /// An entry begins, or points at something: its name, its target.
    fn name(&mut self, name: &[u8]) -> Result<(), SecretFound>;

    /// The next bytes of the entry's contents.
    fn contents(&mut self, bytes: &[u8]) -> Result<(), SecretFound>;
}
