//! The golden vectors: trees are made on disk as `expected/layers.json` describes them, walked, and hashed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::*;
use crate::model::digest::Digest;
use crate::oci::layer::diff_id_of;
use crate::oci::slices::divide;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/vectors");
const OWNER: Owner = Owner { uid: 1000, gid: 1000 };

fn layers_of(case: &str) -> Vec<Value> {
    let text = fs::read(format!("{VECTORS}/{case}/expected/layers.json")).unwrap();
    // Lone surrogates stand for bytes that are no UTF-8; serde_json refuses them, so they go through a private mark.
    let text = String::from_utf8(text).unwrap().replace("\\udc", "\\ue0");
    serde_json::from_str(&text).unwrap()
}

fn named(case: &str, what: &str) -> Value {
    layers_of(case)
        .into_iter()
        .find(|layer| layer["what"] == what)
        .unwrap()
}

/// The bytes of a name: U+E080 to U+E0FF stand for single bytes.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for character in text.chars() {
        match u32::from(character) {
            code @ 0xe080..=0xe0ff => bytes.push(u8::try_from(code - 0xe000).unwrap()),
            _ => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// What files of the cases hold, by digest: what their scripts write, and the files of their apps.
fn contents() -> HashMap<String, Vec<u8>> {
    let mut known: Vec<Vec<u8>> = vec![vec![], vec![0; 512], vec![0; 513], b"null\n".to_vec()];
    let lines = "plain run secret suid sgid none all p deep first dash linked Upper xattr 1 x y z h a b";
    known.extend(lines.split(' ').map(|word| format!("{word}\n").into_bytes()));
    let words = "nfc nfd jp nl bs sp st tab bad dot hid wh";
    known.extend(words.split(' ').map(|word| word.as_bytes().to_vec()));
    let mut folders = vec![
        PathBuf::from(format!("{VECTORS}/app-slices/app")),
        format!("{VECTORS}/layer-tree/app").into(),
    ];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                known.push(fs::read(path).unwrap());
            }
        }
    }
    known
        .into_iter()
        .map(|bytes| (Digest::of(&bytes).to_string(), bytes))
        .collect()
}

/// Makes the entries below `root`, where files of equal contents become one file with several names.
fn make_tree(root: &Path, entries: &[Value]) {
    let contents = contents();
    let mut linked: HashMap<(String, String), PathBuf> = HashMap::new();
    let mut permissions = Vec::new();
    for entry in entries {
        let name = bytes_of(entry["path"].as_str().unwrap());
        let path = root.join(OsString::from_vec(name[1..].to_vec()));
        let mode = entry["mode"].as_str().unwrap();
        match entry["type"].as_str().unwrap() {
            "dir" => fs::create_dir_all(&path).unwrap(),
            "symlink" => {
                let target = OsString::from_vec(bytes_of(entry["linkname"].as_str().unwrap()));
                std::os::unix::fs::symlink(target, &path).unwrap();
                continue;
            }
            "fifo" => rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, 0o644.into(), 0).unwrap(),
            _ => {
                let text = entry["text"].as_str().map(|text| text.as_bytes().to_vec());
                let digest = format!("sha256:{}", entry["sha256"].as_str().unwrap());
                let bytes = text.unwrap_or_else(|| contents[&digest].clone());
                match linked.get(&(digest.clone(), mode.to_owned())) {
                    Some(first) => fs::hard_link(first, &path).unwrap(),
                    None => fs::write(&path, bytes).unwrap(),
                }
                linked.insert((digest, mode.to_owned()), path.clone());
            }
        }
        permissions.push((path, u32::from_str_radix(mode, 8).unwrap()));
    }
    for (path, mode) in permissions.into_iter().rev() {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn layer_digest(root: &Path, directory: &str) -> String {
    let folder = fs::File::open(root.join("layers")).unwrap();
    let tree = Tree {
        root: folder.as_fd(),
        image_path: Path::new("/layers"),
        parent_owner: OWNER,
        owner: OWNER,
        limits: TreeLimits::default(),
        stop: None,
    };
    diff_id_of(|tar| append_layer_directory(tar, &tree, Path::new(directory)))
        .unwrap()
        .0
        .to_string()
}

#[test]
fn layer_folders_have_the_reference_s_digests() {
    for (case, what, directory) in [
        ("layer-tree", "buildpack layer vec/tree@1.0.0:odd", "vec_tree/odd"),
        (
            "layer-tree",
            "buildpack layer vec/tree@1.0.0:pipe",
            "vec_tree/pipe",
        ),
        (
            "layer-tree",
            "buildpack layer vec/tree@1.0.0:tree",
            "vec_tree/tree",
        ),
        ("layer-tree", "sbom", "sbom/launch"),
        ("layer-tree", "config", "config"),
        ("app-slices", "sbom", "sbom/launch"),
        ("app-slices", "config", "config"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let layer = named(case, what);
        make_tree(folder.path(), layer["entries"].as_array().unwrap());
        // A socket is left out silently.
        let socket = folder.path().join("layers").join(directory).join("socket");
        rustix::fs::mknodat(rustix::fs::CWD, &socket, FileType::Socket, 0o644.into(), 0).unwrap();
        assert_eq!(
            layer_digest(folder.path(), directory),
            layer["diff_id"],
            "{case} {what}"
        );
    }
}

#[test]
fn parents_keep_their_modes_and_get_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("layers/corrupted_buildpack/corrupted-layer");
    fs::create_dir_all(&directory).unwrap();
    for path in [
        "layers",
        "layers/corrupted_buildpack",
        "layers/corrupted_buildpack/corrupted-layer",
    ] {
        fs::set_permissions(folder.path().join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(directory.join("data"), b"digest-not-match-data\n").unwrap();
    let digest_for = |parent_owner| {
        let layers = fs::File::open(folder.path().join("layers")).unwrap();
        let owner = Owner { uid: 1234, gid: 1000 };
        let (image_path, limits) = (Path::new("/layers"), TreeLimits::default());
        let tree = Tree {
            root: layers.as_fd(),
            image_path,
            parent_owner,
            owner,
            limits,
            stop: None,
        };
        let directory = Path::new("corrupted_buildpack/corrupted-layer");
        diff_id_of(|tar| append_layer_directory(tar, &tree, directory))
            .unwrap()
            .0
    };
    let golden = "sha256:258dfa0cc987efebc17559694866ebc91139e7c0e574f60d1d4092f53d7dff59";
    assert_eq!(digest_for(Owner { uid: 1234, gid: 1000 }).to_string(), golden);
    assert!(
        digest_for(Owner { uid: 0, gid: 0 })
            .to_string()
            .starts_with("sha256:30278802b7ce")
    );
}

/// The app of app-slices after its `make-app.sh`.
fn make_app(root: &Path) {
    let layers = layers_of("app-slices");
    let slices = layers
        .iter()
        .filter(|layer| layer["what"].as_str().unwrap().starts_with("app slice"));
    let mut entries: Vec<Value> = slices
        .flat_map(|layer| layer["entries"].as_array().unwrap().clone())
        .collect();
    entries.sort_by_key(|entry| entry["path"].as_str().unwrap().to_owned());
    entries.dedup();
    make_tree(root, &entries);
}

#[test]
fn app_slices_have_the_reference_s_digests() {
    let folder = tempfile::tempdir().unwrap();
    make_app(folder.path());
    let config = named("app-slices", "config");
    let metadata = config["entries"].as_array().unwrap().last().unwrap()["text"]
        .as_str()
        .unwrap()
        .to_owned();
    let metadata: toml::Table = metadata.parse().unwrap();
    let texts = |slice: &toml::Value| -> Vec<String> {
        let paths = slice["paths"].as_array().unwrap();
        paths
            .iter()
            .map(|path| path.as_str().unwrap().to_owned())
            .collect()
    };
    let slices: Vec<Vec<String>> = metadata["slices"].as_array().unwrap().iter().map(texts).collect();

    let app = fs::File::open(folder.path().join("workspace")).unwrap();
    let (image_path, limits) = (Path::new("/workspace"), TreeLimits::default());
    let tree = Tree {
        root: app.as_fd(),
        image_path,
        parent_owner: OWNER,
        owner: OWNER,
        limits,
        stop: None,
    };
    let layers = divide(&list(&tree).unwrap(), &slices).unwrap();
    assert_eq!(layers.len(), 7);
    for (position, paths) in layers.iter().enumerate() {
        let expected = named("app-slices", &format!("app slice {}", position + 1));
        let (digest, _) = diff_id_of(|tar| append_app_slice(tar, &tree, paths)).unwrap();
        assert_eq!(digest.to_string(), expected["diff_id"], "slice {}", position + 1);
    }
}

#[test]
fn links_are_not_followed_and_limits_hold() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("app");
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
    fs::write(root.join("big"), [0; 100]).unwrap();
    let app = fs::File::open(&root).unwrap();
    let tree_with = |limits| {
        let image_path = Path::new("/app");
        Tree {
            root: app.as_fd(),
            image_path,
            parent_owner: OWNER,
            owner: OWNER,
            limits,
            stop: None,
        }
    };
    let through_link = diff_id_of(|tar| {
        append_app_slice(
            tar,
            &tree_with(TreeLimits::default()),
            &[PathBuf::from("out/hostname")],
        )
    });
    assert!(
        matches!(through_link, Err(TreeError::Replaced { .. })),
        "{through_link:?}"
    );
    for limits in [
        TreeLimits {
            entries_max: 5,
            ..TreeLimits::default()
        },
        TreeLimits {
            bytes_max: 99,
            ..TreeLimits::default()
        },
        TreeLimits {
            depth_max: 3,
            ..TreeLimits::default()
        },
    ] {
        let error = diff_id_of(|tar| append_layer_directory(tar, &tree_with(limits), Path::new("")));
        assert_eq!(error.unwrap_err().facts().code, "layer_too_big");
    }
}
