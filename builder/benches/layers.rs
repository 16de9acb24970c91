//! A generated tree of 500 MB in 20,000 files as a layer: tar, both hashes and compression in one pass.

use std::fs;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::BytesCount;
use packhorse::oci::layer::compression::Compression;
use packhorse::oci::layer::diff_id_of;
use packhorse::oci::layer::write_layer;
use packhorse::oci::tree::Owner;
use packhorse::oci::tree::Tree;
use packhorse::oci::tree::TreeLimits;
use packhorse::oci::tree::append_layer_directory;

const FOLDERS: usize = 400;
const FILES_IN_FOLDER: usize = 50;
const FILE_BYTES: usize = 25_000;
const TREE_BYTES: usize = FOLDERS * FILES_IN_FOLDER * FILE_BYTES;

/// Where the tree is; in memory, since disks differ more than programs do.
static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory
    } else {
        Path::new("/tmp")
    };
    let scratch = parent.join("packhorse-bench-layers");
    make_tree(&scratch.join("layers/bench/tree"));
    fs::create_dir_all(scratch.join("blobs")).expect("the folder of the blobs can be made");
    scratch
});

fn main() {
    divan::main();
    fs::remove_dir_all(&*SCRATCH).expect("the bench's own folder can be removed");
}

/// Text of words, few of which are used often; the same each time.
fn make_tree(root: &Path) {
    let mut state = 1_u64;
    let mut next = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let letters = b"etaoinshrdlucmfwypvbgkjqxz_(){};.,=\n";
    let words: Vec<Vec<u8>> = (0..6000)
        .map(|_| {
            (0..2 + next(9))
                .map(|_| letters[usize::try_from(next(36)).unwrap_or(0)])
                .collect()
        })
        .collect();
    for folder in 0..FOLDERS {
        let folder = root.join(format!("package-{folder}/lib"));
        fs::create_dir_all(&folder).expect("a folder of the tree can be made");
        for file in 0..FILES_IN_FOLDER {
            let mut text = Vec::with_capacity(FILE_BYTES + 16);
            while text.len() < FILE_BYTES {
                let common = next(6000) * next(6000) / 6000;
                text.extend_from_slice(&words[usize::try_from(common).unwrap_or(0)]);
                text.push(b' ');
            }
            text.truncate(FILE_BYTES);
            fs::write(folder.join(format!("file-{file}.js")), text)
                .expect("a file of the tree can be written");
        }
    }
}

fn with_tree(measure: impl FnOnce(&Tree<'_>, &Path)) {
    let layers = File::open(SCRATCH.join("layers")).expect("the tree was made");
    let owner = Owner { uid: 1000, gid: 1000 };
    let limits = TreeLimits::default();
    let image_path = Path::new("/layers");
    measure(
        &Tree {
            root: layers.as_fd(),
            image_path,
            parent_owner: owner,
            owner,
            limits,
            stop: None,
        },
        Path::new("bench/tree"),
    );
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn diff_id(bencher: Bencher<'_, '_>) {
    with_tree(|tree, path| {
        bencher.counter(BytesCount::new(TREE_BYTES)).bench_local(|| {
            diff_id_of(|tar| append_layer_directory(tar, tree, path)).expect("the tree can be read")
        });
    });
}

#[divan::bench(args = ["gzip:1", "gzip-single:4", "zstd:3", "none"], consts = [1, 2], sample_count = 5, sample_size = 1)]
fn layer<const THREADS: usize>(bencher: Bencher<'_, '_>, compression: &str) {
    let compression: Compression = compression.parse().expect("the compression is one");
    with_tree(|tree, path| {
        bencher.counter(BytesCount::new(TREE_BYTES)).bench_local(|| {
            write_layer(&SCRATCH.join("blobs"), compression, THREADS, |tar| {
                append_layer_directory(tar, tree, path)
            })
            .expect("the layer can be written")
            .descriptor
        });
    });
}
