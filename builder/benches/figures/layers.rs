//! The tree of 500 MB to a layer's blob: our pipeline beside `tar | pigz`, umoci and skopeo.

use std::fs;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::ensure;
use packhorse::oci::layer::compression::Compression;
use packhorse::oci::layer::write_layer;
use packhorse::oci::tree::Owner;
use packhorse::oci::tree::Tree;
use packhorse::oci::tree::TreeLimits;
use packhorse::oci::tree::append_layer_directory;

use crate::node_modules::Made;
use crate::table;
use crate::table::Times;

const ROUNDS: usize = 5;

/// A tree in `layers/bench/tree`, and room beside it.
struct Bench<'a> {
    place: &'a Path,
    made: Made,
}

/// Part d.
pub(crate) fn measure(place: &Path, made: Made) -> anyhow::Result<()> {
    let megabytes = table::megabytes(made.bytes);
    let text = format!(
        "{} files, {megabytes:.0} MB, to a compressed layer; median of {ROUNDS}",
        made.files
    );
    table::heading('d', &text);
    let bench = Bench { place, made };
    let pigz = bench.pigz()?;
    let beside = Some(("tar | pigz -1", pigz.0.median()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (compression, threads) in [
        ("gzip:1", cores),
        ("gzip:1", 1),
        ("gzip-single:4", cores),
        ("zstd:3", cores),
    ] {
        let (times, size) = bench.ours(compression.parse()?, threads)?;
        let name = format!("packhorse {compression}, {threads} threads, both digests");
        table::rate(&name, made.bytes, &times, &bench.share(size), beside);
    }
    table::rate(
        "tar | pigz -1, no digest",
        made.bytes,
        &pigz.0,
        &bench.share(pigz.1),
        None,
    );
    bench.tell("umoci insert, both digests", bench.umoci(), beside);
    bench.tell(
        "skopeo copy --dest-compress of a ready tar",
        bench.skopeo(),
        beside,
    );
    Ok(())
}

impl Bench<'_> {
    fn ours(&self, compression: Compression, threads: usize) -> anyhow::Result<(Times, u64)> {
        let blobs = self.place.join("blobs");
        fs::create_dir_all(&blobs)?;
        let layers = File::open(self.place.join("layers"))?;
        let owner = Owner { uid: 1000, gid: 1000 };
        let tree = Tree {
            root: layers.as_fd(),
            image_path: Path::new("/layers"),
            parent_owner: owner,
            owner,
            limits: TreeLimits::default(),
            stop: None,
        };
        rounds(|| {
            let written = write_layer(&blobs, compression, threads, &mut |_| {}, |tar| {
                append_layer_directory(tar, &tree, Path::new("bench/tree"))
            })?;
            Ok(written.descriptor.blob.size)
        })
    }

    fn pigz(&self) -> anyhow::Result<(Times, u64)> {
        let out = self.place.join("pigz.tar.gz");
        let measured = rounds(|| {
            let words = "tar -C \"$0\" -cf - . | pigz -1 >\"$1\"";
            let tree = self.place.join("layers");
            run(Command::new("sh").args(["-c", words]).args([&tree, &out]))?;
            Ok(fs::metadata(&out)?.len())
        });
        fs::remove_file(out)?;
        measured
    }

    /// Adds the tree as a layer to an empty image; umoci compresses with one thread per core.
    fn umoci(&self) -> anyhow::Result<(Times, u64)> {
        let layout = self.place.join("umoci");
        let image = format!("{}:bench", layout.display());
        run(Command::new("umoci").args(["init", "--layout"]).arg(&layout))?;
        run(Command::new("umoci").args(["new", "--image", &image]))?;
        let tree = self.place.join("layers/bench/tree");
        let words = ["insert", "--image", &image, "--tag"];
        let mut round = 0;
        rounds(|| {
            round += 1;
            let mut insert = Command::new("umoci");
            insert.args(words).arg(format!("round-{round}"));
            run(insert.arg(&tree).arg("/layers/bench/tree"))?;
            largest(&layout)
        })
    }

    /// Compresses the layer that umoci wrote, from a plain tar.
    fn skopeo(&self) -> anyhow::Result<(Times, u64)> {
        let at = |name: &str| self.place.join(name);
        let compressed = at("compressed");
        let (oci, dir) = (
            format!("oci:{}:round-1", at("umoci").display()),
            format!("dir:{}", at("plain").display()),
        );
        run(Command::new("skopeo").arg("--insecure-policy").args([
            "copy",
            "-q",
            "--dest-decompress",
            &oci,
            &dir,
        ]))?;
        let to = format!("dir:{}", compressed.display());
        rounds(|| {
            run(Command::new("skopeo").arg("--insecure-policy").args([
                "copy",
                "-q",
                "--dest-compress",
                &dir,
                &to,
            ]))?;
            largest(&compressed)
        })
    }

    fn tell(&self, name: &str, measured: anyhow::Result<(Times, u64)>, beside: Option<(&str, f64)>) {
        match measured {
            Ok((times, size)) => table::rate(name, self.made.bytes, &times, &self.share(size), beside),
            Err(error) => table::line(name, &format!("does not run here: {error:#}")),
        }
    }

    /// The blob's part of the tree's bytes.
    fn share(&self, size: u64) -> String {
        let percent = 100.0 * table::megabytes(size) / table::megabytes(self.made.bytes);
        format!("{percent:.1} %")
    }
}

/// Does it often enough for a median; the size is the last one's.
fn rounds(mut round: impl FnMut() -> anyhow::Result<u64>) -> anyhow::Result<(Times, u64)> {
    let mut size = 0;
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        size = round()?;
        times.push(started.elapsed());
    }
    Ok((Times::new(times), size))
}

/// The largest file below a folder: the layer.
fn largest(folder: &Path) -> anyhow::Result<u64> {
    let mut most = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let size = if entry.file_type()?.is_dir() {
            largest(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
        most = most.max(size);
    }
    Ok(most)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}; `scripts/setup tests` installs it"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
