//! The data directory and its disk: whose it is, how much room there is, and on which kind of file system.

use std::path::Path;
use std::path::PathBuf;

use crate::cli::doctor::row::Row;
use crate::cli::doctor::row::State;
use crate::cli::words;
use crate::store::Store;

/// Below this a build of a small app may not fit; below the other even the base does not.
const BYTES_WARN: u64 = 5_000_000_000;
const BYTES_FAIL: u64 = 1_000_000_000;
const INODES_WARN: u64 = 200_000;
const INODES_FAIL: u64 = 50_000;
/// `OVERLAYFS_SUPER_MAGIC` of statfs(2).
const OVERLAYFS: i64 = 0x794c_7630;

/// What was found.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    path: PathBuf,
    /// Whether the directory is there, and what is wrong with it.
    place: Place,
    /// Its file system; none if that could not be asked.
    room: Option<Room>,
}

#[derive(Debug, Clone)]
enum Place {
    Absent,
    Good,
    Wrong(String),
}

#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: u64,
    /// None where the file system makes inodes as it needs them.
    inodes: Option<u64>,
    is_overlay: bool,
}

impl Disk {
    /// Looks at the directory, or at the nearest folder above it that is there. Makes nothing.
    pub(super) fn read(path: &Path) -> Self {
        let place = if path.exists() {
            Store::check_place(path).map_or_else(|error| Place::Wrong(error.to_string()), |()| Place::Good)
        } else {
            Place::Absent
        };
        let near = path.ancestors().find(|folder| folder.is_dir());
        Self {
            path: path.to_owned(),
            place,
            room: near.and_then(Room::read),
        }
    }

    /// The rows.
    pub(super) fn rows(&self) -> Vec<Row> {
        let path = self.path.display();
        let row = match &self.place {
            Place::Absent => Row::new(
                "data directory",
                State::Info,
                format!("{path} will be made by the first build"),
            ),
            Place::Good => Row::new(
                "data directory",
                State::Ok,
                format!("{path} is this user's alone"),
            ),
            Place::Wrong(why) => Row::new("data directory", State::Fail, why.clone()).cure(
                "a data directory of one's own",
                format!(
                    "chmod 700 {path}    # if it is yours; else name another with --home or PACKHORSE_HOME"
                ),
            ),
        };
        let Some(room) = self.room else {
            let found = "its file system cannot be asked";
            return vec![row, Row::new("disk", State::Warn, found)];
        };
        [Some(row), Some(room.space()), room.overlay()]
            .into_iter()
            .flatten()
            .collect()
    }
}

impl Room {
    fn read(folder: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(folder).ok()?;
        let kind = rustix::fs::statfs(folder).ok()?.f_type;
        Some(Self {
            bytes: found.f_bavail.saturating_mul(found.f_frsize),
            inodes: (found.f_files > 0).then_some(found.f_favail),
            is_overlay: kind == OVERLAYFS,
        })
    }

    fn space(self) -> Row {
        let inodes = self
            .inodes
            .map_or_else(String::new, |inodes| format!(" and {inodes} inodes"));
        let found = format!("{}{inodes} free", words::bytes(self.bytes));
        let below = |bytes, inodes| self.bytes < bytes || self.inodes.is_some_and(|free| free < inodes);
        let state = if below(BYTES_FAIL, INODES_FAIL) {
            State::Fail
        } else if below(BYTES_WARN, INODES_WARN) {
            State::Warn
        } else {
            return Row::new("disk", State::Ok, found);
        };
        Row::new("disk", state, found).cure(
            "room",
            "packhorse cache prune --older-than 0s    # what is kept\npackhorse --home DIRECTORY …             # a larger disk",
        )
    }

    fn overlay(self) -> Option<Row> {
        self.is_overlay.then(|| {
            Row::new(
                "disk",
                State::Warn,
                "it is an overlay itself, as a container's root is: jobs can lay no overlay of their own on it",
            )
            .cure(
                "a volume for the data directory",
                "docker run --volume packhorse:/var/lib/packhorse --env PACKHORSE_HOME=/var/lib/packhorse IMAGE",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn disk(bytes: u64, inodes: Option<u64>, is_overlay: bool) -> Disk {
        Disk {
            path: "/home/anna/.local/share/packhorse".into(),
            place: Place::Good,
            room: Some(Room {
                bytes,
                inodes,
                is_overlay,
            }),
        }
    }

    #[test]
    fn each_state_of_a_disk_has_its_row() {
        let states = |disk: &Disk| disk.rows().iter().map(|row| row.state).collect::<Vec<_>>();
        assert_eq!(
            states(&disk(10 << 30, Some(1_000_000), false)),
            [State::Ok, State::Ok]
        );
        assert_eq!(states(&disk(10 << 30, None, false)), [State::Ok, State::Ok]);
        assert_eq!(
            states(&disk(2 << 30, Some(1_000_000), false)),
            [State::Ok, State::Warn]
        );
        assert_eq!(states(&disk(10 << 30, Some(9), false)), [State::Ok, State::Fail]);
        assert_eq!(
            states(&disk(10 << 30, None, true)),
            [State::Ok, State::Ok, State::Warn]
        );
    }

    #[test]
    fn a_directory_that_is_open_to_others_fails_and_none_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        assert_eq!(Disk::read(&path).rows()[0].state, State::Info);
        assert!(!path.exists());
        std::fs::create_dir(&path).unwrap();
        for (mode, state) in [(0o755, State::Fail), (0o700, State::Ok)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let rows = Disk::read(&path).rows();
            assert_eq!(rows[0].state, state, "{rows:?}");
        }
    }
}
