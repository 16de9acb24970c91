//! Tests of unpacking: what a layer says, and what it must not get.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::model::timestamp::Timestamp;
use crate::oci::tar::writer::TarWriter;

fn entry(path: &str, kind: Kind, mode: u32) -> Header {
    Header {
        path: path.into(),
        kind,
        mode,
        uid: 5,
        gid: 6,
        mtime: Timestamp(1_000_000),
    }
}

fn file(path: &str) -> Header {
    entry(path, Kind::File { size: 1 }, 0o640)
}

fn link(path: &str, target: &str) -> Header {
    entry(
        path,
        Kind::Symlink {
            target: target.into(),
        },
        0o777,
    )
}

fn unpacked(
    entries: &[Header],
    options: UnpackOptions,
) -> (tempfile::TempDir, Result<Unpacked, UnpackError>) {
    let mut tar = TarWriter::new(Vec::new());
    for entry in entries {
        tar.append(entry, &mut &b"x"[..]).unwrap();
    }
    let tar = tar.finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("root")).unwrap();
    let root = fs::File::open(folder.path().join("root")).unwrap();
    let outcome = unpack(&tar[..], root.as_fd(), options);
    (folder, outcome)
}

#[test]
fn modes_times_links_and_pipes_are_as_the_layer_says() {
    let entries = [
        entry("/d", Kind::Directory, 0o1555),
        file("/d/f"),
        entry(
            "/d/h",
            Kind::Hardlink {
                target: b"d/f".to_vec(),
            },
            0,
        ),
        link("/l", "/d/f"),
        entry("/p", Kind::Fifo, 0o622),
        entry("/null", Kind::CharDevice { major: 1, minor: 3 }, 0o666),
        file("/missing/parents/f"),
    ];
    let (folder, outcome) = unpacked(&entries, UnpackOptions::default());
    assert_eq!(
        outcome.unwrap(),
        Unpacked {
            entries: 7,
            bytes: 2,
            devices_skipped: 1
        }
    );
    let at = |path: &str| fs::symlink_metadata(folder.path().join("root").join(path)).unwrap();
    assert_eq!((at("d").mode() & 0o7777, at("d").mtime()), (0o1555, 1_000_000));
    assert_eq!((at("d/f").mode() & 0o7777, at("d/f").mtime()), (0o640, 1_000_000));
    assert_eq!(at("d/f").ino(), at("d/h").ino());
    assert_eq!(
        fs::read_link(folder.path().join("root/l")).unwrap(),
        Path::new("/d/f")
    );
    assert!(at("p").file_type().is_fifo());
    assert_eq!(at("missing/parents").mode() & 0o7777, 0o755);
    assert!(!folder.path().join("root/null").exists());
}

#[test]
#[ignore = "needs root, for other owners"]
fn owners_are_kept_as_the_store_keeps_them() {
    for (owners, expected) in [
        (Owners::Natural, (5, 6)),
        (Owners::Shifted, (6, 7)),
        (Owners::Single, (0, 0)),
    ] {
        let options = UnpackOptions {
            owners: Some(owners),
            ..UnpackOptions::default()
        };
        let (folder, outcome) = unpacked(&[file("/f"), link("/l", "f")], options);
        outcome.unwrap();
        for name in ["f", "l"] {
            let metadata = fs::symlink_metadata(folder.path().join("root").join(name)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), expected, "{owners:?}");
        }
    }
}

#[test]
fn whiteouts_become_what_overlayfs_wants() {
    let entries = [
        file("/d/.wh.gone"),
        file("/d/.wh..wh..opq"),
        file("/d/.wh..wh.plnk"),
        file("/d/f"),
    ];
    let (folder, outcome) = unpacked(&entries, UnpackOptions::default());
    outcome.unwrap();
    let directory = folder.path().join("root/d");
    let gone = fs::symlink_metadata(directory.join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(&directory, "user.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["f", "gone"]);
    for name in ["/.wh.", "/.wh..", "/.wh..."] {
        let (_, outcome) = unpacked(&[file(name)], UnpackOptions::default());
        assert!(matches!(outcome, Err(UnpackError::Refused { .. })), "{name}");
    }
}

#[test]
fn nothing_gets_out_of_the_folder() {
    // Each of these would write to `outside`, beside the root, if a link or a `..` were followed there.
    for entries in [
        vec![file("../outside")],
        vec![file("/d/../../outside")],
        vec![link("/l", ".."), file("/l/outside")],
        vec![link("/l", "../outside"), file("/l")],
        vec![link("/l", "/"), file("/l/tmp/outside")],
        vec![
            link("/l", "../../.."),
            entry("/l/outside", Kind::Directory, 0o755),
        ],
        vec![
            link("/l", ".."),
            entry(
                "/h",
                Kind::Hardlink {
                    target: b"l/secret".to_vec(),
                },
                0,
            ),
        ],
        vec![entry(
            "/h",
            Kind::Hardlink {
                target: b"../secret".to_vec(),
            },
            0,
        )],
    ] {
        let (folder, _outcome) = unpacked(&entries, UnpackOptions::default());
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["root"], "{entries:?}");
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    let entries = [
        entry("/a", Kind::Directory, 0o755),
        file("/a/b"),
        link("/a", "elsewhere"),
        entry("/a", Kind::Directory, 0o700),
        file("/a/c"),
        file("/a/c"),
    ];
    let (folder, outcome) = unpacked(&entries, UnpackOptions::default());
    outcome.unwrap();
    let names: Vec<_> = fs::read_dir(folder.path().join("root/a"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["c"]);
}

#[test]
fn limits_hold() {
    for options in [
        UnpackOptions {
            entries_max: 1,
            ..UnpackOptions::default()
        },
        UnpackOptions {
            bytes_max: 1,
            ..UnpackOptions::default()
        },
    ] {
        let (_, outcome) = unpacked(&[file("/a"), file("/b")], options);
        assert!(matches!(outcome, Err(UnpackError::TooMuch { max: 1, .. })));
    }
}
