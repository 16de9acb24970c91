//! `newuidmap` and `newgidmap` as files: what gives them the right to map ids.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

/// What gives a helper its right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// It is root's and has the set-user-id bit; in a container without `SYS_ADMIN` that is not enough.
    SetUserId,
    /// It has a file capability, which is enough everywhere.
    FileCapability,
    /// Nothing: it will be refused.
    None,
}

/// One helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdHelper {
    /// Where it is.
    pub path: PathBuf,
    /// What gives it its right.
    pub right: Right,
}

impl IdHelper {
    /// Looks at the program's file.
    pub fn read(path: &Path) -> Self {
        // The attribute's content is 20 or 24 bytes (capabilities(7)).
        let mut capability = [0_u8; 64];
        let has_capability = rustix::fs::getxattr(path, "security.capability", &mut capability).is_ok();
        let is_set_user_id =
            fs::metadata(path).is_ok_and(|found| found.uid() == 0 && found.mode() & libc::S_ISUID != 0);
        let right = match (has_capability, is_set_user_id) {
            (true, _) => Right::FileCapability,
            (false, true) => Right::SetUserId,
            (false, false) => Right::None,
        };
        Self {
            path: path.to_owned(),
            right,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_right_is_read_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("newuidmap");
        assert_eq!(IdHelper::read(&path).right, Right::None);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(IdHelper::read(&path).right, Right::None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        let owner = fs::metadata(&path).unwrap().uid();
        let expected = if owner == 0 { Right::SetUserId } else { Right::None };
        assert_eq!(IdHelper::read(&path).right, expected);
    }
}
