//! A `.deb`: an `ar` of a control tar and a data tar, each compressed (deb(5)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;

use liblzma::read::XzDecoder;
use liblzma::stream::Stream;

use crate::base::error::BaseError;
use crate::base::sink::EntryHeader;
use crate::base::sink::EntryKind;

/// Memory that an xz decoder may take; Debian's packages need 64 MiB at most.
pub(super) const XZ_MEMORY_BYTES_MAX: u64 = 256 << 20;
/// How long one tar may be when it is decompressed.
const TAR_BYTES_MAX: u64 = 8 << 30;
/// How long one file of the control tar may be.
const CONTROL_FILE_BYTES_MAX: u64 = 16 << 20;
/// How many files the control tar may have.
const CONTROL_FILES_MAX: usize = 1000;

/// The files of the control tar by name: `control`, `postinst`, `md5sums`, ….
pub(super) type Control = BTreeMap<String, Vec<u8>>;

/// Takes a package apart: first its control files, then each entry of its data.
pub(super) trait Visitor {
    fn control(&mut self, control: Control) -> Result<(), BaseError>;
    /// `header.path` is as the package has it, without `./`; empty for the root.
    fn entry(&mut self, header: EntryHeader, contents: &mut dyn Read) -> Result<(), BaseError>;
}

/// Reads the `.deb` at `path`, which is `package`'s.
pub(super) fn read_deb(path: &Path, package: &str, visitor: &mut dyn Visitor) -> Result<(), BaseError> {
    let invalid = |reason: String| BaseError::PackageInvalid {
        package: package.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(BaseError::file("read", path))?;
    let mut archive = ar::Archive::new(BufReader::with_capacity(1 << 18, file));
    let mut parts = 0;
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(|error| invalid(error.to_string()))?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        // deb(5): the parts come in this order, and what comes after them is none of ours.
        match (parts, name.as_str()) {
            (0, "debian-binary") => {}
            (1, name) if name.starts_with("control.tar") => {
                visitor.control(read_control(decoded(name, member, &invalid)?, &invalid)?)?;
            }
            (2, name) if name.starts_with("data.tar") => {
                read_data(decoded(name, member, &invalid)?, visitor, &invalid)?;
            }
            (0..=2, _) if name.starts_with('_') => continue,
            (0..=2, _) => return Err(invalid(format!("it has `{name}` where another part must be"))),
            _ => break,
        }
        parts += 1;
    }
    if parts == 3 {
        Ok(())
    } else {
        Err(invalid("it ends too early".to_owned()))
    }
}

type Invalid<'package> = dyn Fn(String) -> BaseError + 'package;

fn decoded<'deb>(
    name: &str,
    member: impl Read + 'deb,
    invalid: &Invalid,
) -> Result<Box<dyn Read + 'deb>, BaseError> {
    let decoder: Box<dyn Read> = match name.rsplit('.').next() {
        Some("xz") => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, 0)
                .map_err(|error| invalid(error.to_string()))?;
            Box::new(XzDecoder::new_stream(member, stream))
        }
        Some("zst") => Box::new(zstd::Decoder::new(member).map_err(|error| invalid(error.to_string()))?),
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(member)),
        Some("tar") => Box::new(member),
        _ => return Err(invalid(format!("the compression of `{name}` is not known"))),
    };
    Ok(Box::new(BufReader::with_capacity(
        1 << 17,
        decoder.take(TAR_BYTES_MAX),
    )))
}

fn read_control(tar: impl Read, invalid: &Invalid) -> Result<Control, BaseError> {
    let wrong = |error: std::io::Error| invalid(format!("its control files: {error}"));
    let mut control = Control::new();
    for entry in tar::Archive::new(tar).entries().map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes())
            .trim_start_matches("./")
            .to_owned();
        if entry.size() > CONTROL_FILE_BYTES_MAX || control.len() >= CONTROL_FILES_MAX {
            return Err(invalid("its control files are too large".to_owned()));
        }
        let mut bytes = Vec::new();
        entry
            .take(CONTROL_FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(wrong)?;
        control.insert(name, bytes);
    }
    Ok(control)
}

fn read_data(tar: impl Read, visitor: &mut dyn Visitor, invalid: &Invalid) -> Result<(), BaseError> {
    let wrong = |error: std::io::Error| invalid(format!("its data: {error}"));
    for entry in tar::Archive::new(tar).entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        let header = read_header(&entry, invalid)?;
        visitor.entry(header, &mut entry)?;
    }
    Ok(())
}

fn read_header(entry: &tar::Entry<'_, impl Read>, invalid: &Invalid) -> Result<EntryHeader, BaseError> {
    let wrong = |error: std::io::Error| invalid(format!("the header of an entry: {error}"));
    let bad_path = |path: &[u8]| {
        invalid(format!(
            "the path `{}` is not allowed",
            String::from_utf8_lossy(path)
        ))
    };
    let raw = entry.path_bytes().into_owned();
    let path = normalized(&raw).ok_or_else(|| bad_path(&raw))?;
    let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
    let kind = match (entry.header().entry_type(), link) {
        (tar::EntryType::Regular | tar::EntryType::Continuous, _) => EntryKind::File { size: entry.size() },
        (tar::EntryType::Directory, _) => EntryKind::Directory,
        (tar::EntryType::Symlink, Some(target)) => EntryKind::Symlink { target },
        (tar::EntryType::Link, Some(target)) => EntryKind::Hardlink {
            target: normalized(&target).ok_or_else(|| bad_path(&target))?,
        },
        (other, _) => {
            return Err(invalid(format!(
                "`{}` is of kind {other:?}",
                String::from_utf8_lossy(&raw)
            )));
        }
    };
    let number =
        |value: u64| u32::try_from(value).map_err(|_| invalid(format!("the owner {value} is too large")));
    Ok(EntryHeader {
        path,
        kind,
        mode: entry.header().mode().map_err(wrong)? & 0o7777,
        uid: number(entry.header().uid().map_err(wrong)?)?,
        gid: number(entry.header().gid().map_err(wrong)?)?,
        mtime: i64::try_from(entry.header().mtime().map_err(wrong)?).unwrap_or(i64::MAX),
    })
}

/// `./usr/bin/` → `usr/bin`; none for what leads out of the tree.
fn normalized(path: &[u8]) -> Option<Vec<u8>> {
    let parts = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".");
    let parts: Vec<_> = parts.collect();
    let is_inside = !path.contains(&0) && !parts.contains(&b"..".as_slice());
    is_inside.then(|| parts.join(&b'/'))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A `.deb` of these control files and data entries.
    pub(in crate::base) fn make_deb(control: &[(&str, &str)], data: &[(&str, EntryKind, &str)]) -> Vec<u8> {
        let mut control_tar = tar::Builder::new(Vec::new());
        for (name, text) in control {
            append(
                &mut control_tar,
                &format!("./{name}"),
                &EntryKind::File {
                    size: text.len() as u64,
                },
                text,
            );
        }
        let mut data_tar = tar::Builder::new(Vec::new());
        for (path, kind, text) in data {
            append(&mut data_tar, path, kind, text);
        }
        let gz = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, bytes).unwrap();
            encoder.finish().unwrap()
        };
        let mut deb = ar::Builder::new(Vec::new());
        let parts = [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar.gz", gz(&control_tar.into_inner().unwrap())),
            (
                "data.tar.zst",
                zstd::encode_all(data_tar.into_inner().unwrap().as_slice(), 1).unwrap(),
            ),
        ];
        for (name, bytes) in parts {
            deb.append(
                &ar::Header::new(name.into(), bytes.len() as u64),
                bytes.as_slice(),
            )
            .unwrap();
        }
        deb.into_inner().unwrap()
    }

    fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: &EntryKind, text: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if *kind == EntryKind::Directory {
            0o755
        } else {
            0o644
        });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        let text = match kind {
            EntryKind::File { .. } => {
                header.set_size(text.len() as u64);
                text
            }
            EntryKind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                ""
            }
            EntryKind::Symlink { target } | EntryKind::Hardlink { target } => {
                let is_symlink = matches!(kind, EntryKind::Symlink { .. });
                header.set_entry_type(if is_symlink {
                    tar::EntryType::Symlink
                } else {
                    tar::EntryType::Link
                });
                header.set_mode(if is_symlink { 0o777 } else { 0o644 });
                header.set_link_name_literal(target).unwrap();
                ""
            }
        };
        // `append_data` would refuse the hostile paths of the tests.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, text.as_bytes()).unwrap();
    }

    struct Seen(Vec<String>);

    impl Visitor for Seen {
        fn control(&mut self, control: Control) -> Result<(), BaseError> {
            self.0.extend(control.into_keys());
            Ok(())
        }

        fn entry(&mut self, header: EntryHeader, contents: &mut dyn Read) -> Result<(), BaseError> {
            let mut text = String::new();
            contents.read_to_string(&mut text).unwrap();
            self.0.push(format!(
                "{} {:o} {text}",
                String::from_utf8_lossy(&header.path),
                header.mode
            ));
            Ok(())
        }
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.deb");
        std::fs::write(&path, bytes).unwrap();
        let mut seen = Seen(Vec::new());
        read_deb(&path, "x", &mut seen)
            .map(|()| seen.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn control_and_data_are_read_in_order() {
        let file = EntryKind::File { size: 0 };
        let deb = make_deb(
            &[("control", "Package: x\n"), ("postinst", "#!/bin/sh\n")],
            &[
                ("./", EntryKind::Directory, ""),
                ("./usr/", EntryKind::Directory, ""),
                ("./usr/x", file, "hello"),
            ],
        );
        assert_eq!(
            read(&deb).unwrap(),
            ["control", "postinst", " 755 ", "usr 755 ", "usr/x 644 hello"]
        );
    }

    #[test]
    fn what_is_no_deb_is_refused() {
        let file = || EntryKind::File { size: 0 };
        let outside = make_deb(&[], &[("./../x", file(), "")]);
        let link = make_deb(
            &[],
            &[(
                "./x",
                EntryKind::Hardlink {
                    target: b"../../etc/passwd".to_vec(),
                },
                "",
            )],
        );
        let good = make_deb(&[], &[("./x", file(), "hello")]);
        for deb in [
            outside.as_slice(),
            &link,
            b"",
            b"!<arch>\n",
            &good[..good.len() / 2],
        ] {
            let error = read(deb).unwrap_err();
            assert!(error.contains("package x cannot be unpacked"), "{error}");
        }
    }
}
