//! Tests of the pipeline: same bytes for any number of threads, readable by anyone, nothing left behind.

use std::io::Read;

use super::*;
use crate::model::timestamp::Timestamp;
use crate::oci::tar::header::Header;
use crate::oci::tar::header::Kind;

const SHAPES: [Compression; 6] = [
    Compression::Gzip { level: 1 },
    Compression::Gzip { level: 6 },
    Compression::GzipSingle { level: 1 },
    Compression::GzipSingle { level: 4 },
    Compression::Zstd { level: 3 },
    Compression::None,
];

/// Text that compresses somewhat, the same each time.
fn contents(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let words: Vec<Vec<u8>> = (0..200).map(|_| (0..7).map(|_| next()).collect()).collect();
    (0..length.div_ceil(7))
        .flat_map(|_| words[usize::from(next()) % 200].clone())
        .take(length)
        .collect()
}

fn one_file(tar: &mut LayerTar<'_>, contents: &[u8]) -> Result<(), TreeError> {
    let kind = Kind::File {
        size: contents.len() as u64,
    };
    let path = b"/layers/x/y/file".to_vec();
    let header = Header {
        path,
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::BUILDPACKS,
    };
    Ok(tar.append(&header, &mut &contents[..])?)
}

fn decoded(compression: Compression, blob: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    match compression {
        Compression::Gzip { .. } => flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut tar),
        // Only the first member, as the readers do for which this shape is made.
        Compression::GzipSingle { .. } => flate2::read::GzDecoder::new(blob).read_to_end(&mut tar),
        Compression::Zstd { .. } => zstd::stream::read::Decoder::new(blob)
            .unwrap()
            .read_to_end(&mut tar),
        Compression::None => std::io::Cursor::new(blob).read_to_end(&mut tar),
    }
    .unwrap();
    tar
}

#[test]
fn a_blob_is_what_its_descriptor_says_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    // Around the ends of blocks: a tar has 1536 bytes beside one file's padded contents.
    for length in [
        0,
        1,
        5_000,
        (512 << 10) - 1536,
        (1 << 20) - 1536,
        (1 << 20) - 1000,
        5_300_000,
    ] {
        let contents = contents(length);
        for compression in SHAPES {
            let mut blobs = Vec::new();
            for threads in [1, 2, 5] {
                let layer = write_layer(folder.path(), compression, threads, &mut |_| {}, |tar| {
                    one_file(tar, &contents)
                })
                .unwrap();
                let blob = std::fs::read(layer.blob.path()).unwrap();
                let descriptor = &layer.descriptor;
                assert_eq!(Digest::of(&blob), descriptor.blob.digest);
                assert_eq!(blob.len() as u64, descriptor.blob.size);
                let tar = decoded(compression, &blob);
                assert_eq!(
                    DiffId(Digest::of(&tar)),
                    descriptor.diff_id,
                    "{compression} {length} {threads}"
                );
                assert_eq!(
                    diff_id_of(|tar| one_file(tar, &contents)).unwrap().0,
                    descriptor.diff_id
                );
                blobs.push(blob);
            }
            assert!(
                blobs.windows(2).all(|pair| pair[0] == pair[1]),
                "{compression} {length}"
            );
        }
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "no temporary file is left"
    );
}

#[test]
fn a_full_disk_is_told_from_a_broken_tree() {
    let folder = tempfile::tempdir().unwrap();
    let error = write_layer(folder.path(), Compression::default(), 2, &mut |_| {}, |tar| {
        one_file(tar, &contents(3 << 20))?;
        Err(TreeError::Replaced {
            path: "/layers/x".into(),
        })
    });
    assert_eq!(error.unwrap_err().facts().code, "layer_changed_while_read");

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let blob = BlobFile::new(full);
    let mut nobody = |_| {};
    let mut sink = Sink::new(Output::new(Compression::default(), 2, blob).unwrap(), &mut nobody);
    let outcome = produce_tar(&mut sink, |tar| one_file(tar, &contents(64 << 20)));
    assert!(outcome.is_err());
    assert_eq!(
        sink.output.broken_by().unwrap().kind(),
        io::ErrorKind::StorageFull
    );
}
