//! A generated tree of 500 MB in 55,000 files as a layer: tar, both hashes and compression in one pass.

mod node_modules;

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

/// Makes the tree, and room for blobs beside it; its size is what this holds.
static TREE_BYTES: LazyLock<u64> = LazyLock::new(|| {
    let made = node_modules::make(&place().join("layers/bench/tree")).expect("the tree can be made");
    fs::create_dir_all(place().join("blobs")).expect("the folder of the blobs can be made");
    made.bytes
});

fn main() {
    divan::main();
    // Benches that were all filtered out have made nothing.
    if place().exists() {
        fs::remove_dir_all(place()).expect("the bench's own folder can be removed");
    }
}

/// In memory, since disks differ more than programs do.
fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory
    } else {
        Path::new("/tmp")
    };
    parent.join(format!("packhorse-bench-layers-{}", std::process::id()))
}

/// Calls `measure` with the tree and the bytes in it.
fn with_tree(measure: impl FnOnce(&Tree<'_>, &Path, u64)) {
    let bytes = *TREE_BYTES;
    let layers = File::open(place().join("layers")).expect("the tree was made");
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
        bytes,
    );
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn diff_id(bencher: Bencher<'_, '_>) {
    with_tree(|tree, path, bytes| {
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            diff_id_of(|tar| append_layer_directory(tar, tree, path)).expect("the tree can be read")
        });
    });
}

#[divan::bench(args = ["gzip:1", "gzip-single:4", "zstd:3", "none"], consts = [1, 2], sample_count = 5, sample_size = 1)]
fn layer<const THREADS: usize>(bencher: Bencher<'_, '_>, compression: &str) {
    let compression: Compression = compression.parse().expect("the compression is one");
    with_tree(|tree, path, bytes| {
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            write_layer(&place().join("blobs"), compression, THREADS, &mut |_| {}, |tar| {
                append_layer_directory(tar, tree, path)
            })
            .expect("the layer can be written")
            .descriptor
        });
    });
}
