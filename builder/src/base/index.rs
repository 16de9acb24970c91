//! The archive's list of packages: parsed from `Packages.xz`, the newest version of each name, and who provides what.

use std::collections::HashMap;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;

use deb822_fast::Deb822;
use deb822_fast::Paragraph;
use debversion::Version;
use liblzma::read::XzDecoder;
use liblzma::stream::Stream;

use crate::base::deb::XZ_MEMORY_BYTES_MAX;
use crate::base::error::BaseError;
use crate::base::lock::Archive;
use crate::base::relation;
use crate::base::release::Suite;
use crate::events::Cancel;
use crate::model::digest::Digest;

/// How long a list may be when it is unpacked; today it is 55 MB.
const INDEX_BYTES_MAX: u64 = 512 << 20;

/// How important a package is; picks among the providers of a virtual package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// `required`
    Required,
    /// `important`
    Important,
    /// `standard`
    Standard,
    /// `optional`
    Optional,
    /// `extra`, or none.
    Extra,
}

/// One package as the list describes it.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Its architecture, `all` included.
    pub architecture: String,
    /// How important it is.
    pub priority: Priority,
    /// Whether every system has it.
    pub is_essential: bool,
    /// The fields `Pre-Depends` and `Depends`.
    pub depends: [String; 2],
    /// The fields `Conflicts` and `Breaks`.
    pub excludes: [String; 2],
    /// The field `Provides`.
    pub provides: String,
    /// The archive it is in.
    pub archive: Archive,
    /// Where it is in the archive.
    pub filename: String,
    /// The length of its `.deb`.
    pub size: u64,
    /// The digest of its `.deb`.
    pub digest: Digest,
}

/// What a package stands in for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// Who provides it.
    pub provider: String,
    /// As which version, if it says so.
    pub version: Option<Version>,
}

/// The packages of all suites.
#[derive(Debug, Default)]
pub struct Index {
    packages: HashMap<String, Package>,
    provided: HashMap<String, Vec<Provided>>,
}

impl Index {
    /// Reads the lists of several suites, `(suite, Packages.xz)`.
    pub fn read(
        lists: impl IntoIterator<Item = (Suite, impl Read)>,
        cancel: &Cancel,
    ) -> Result<Self, BaseError> {
        let mut index = Self::default();
        for (suite, list) in lists {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, 0);
            let stream = stream.map_err(|error| BaseError::IndexInvalid {
                suite: suite.name.to_owned(),
                reason: error.to_string(),
            })?;
            let plain = Bounded {
                inner: XzDecoder::new_stream(list, stream),
                bytes_left: INDEX_BYTES_MAX,
            };
            index.add_list(suite, BufReader::with_capacity(1 << 20, plain), cancel)?;
        }
        index.find_provided();
        Ok(index)
    }

    /// The newest version of a package.
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.packages.get(name)
    }

    /// Who provides a virtual package, the most important first, then by name.
    pub fn providers(&self, name: &str) -> &[Provided] {
        self.provided.get(name).map_or(&[], Vec::as_slice)
    }

    /// Every package that each system has, by name.
    pub fn essential(&self) -> Vec<&str> {
        let essential = self.packages.values().filter(|package| package.is_essential);
        let mut names: Vec<_> = essential.map(|package| package.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn add_list(&mut self, suite: Suite, list: impl BufRead, cancel: &Cancel) -> Result<(), BaseError> {
        let invalid = |reason: String| BaseError::IndexInvalid {
            suite: suite.name.to_owned(),
            reason,
        };
        for paragraph in Deb822::iter_paragraphs_from_reader(list) {
            cancel.check()?;
            let paragraph = paragraph.map_err(|error| invalid(error.to_string()))?;
            let name = paragraph.get("Package").unwrap_or("?");
            let package = read_package(&paragraph, suite.archive)
                .ok_or_else(|| invalid(format!("the paragraph of package `{name}` lacks a field")))?;
            match self.packages.get(&package.name) {
                Some(known) if known.version >= package.version => {}
                _ => drop(self.packages.insert(package.name.clone(), package)),
            }
        }
        Ok(())
    }

    fn find_provided(&mut self) {
        let mut rows = Vec::new();
        for package in self
            .packages
            .values()
            .filter(|package| !package.provides.is_empty())
        {
            for relation in relation::parse(&package.provides)
                .unwrap_or_default()
                .into_iter()
                .flatten()
            {
                let version = relation.bound.map(|(_, version)| version);
                rows.push((
                    relation.name,
                    package.priority,
                    Provided {
                        provider: package.name.clone(),
                        version,
                    },
                ));
            }
        }
        rows.sort_by(|one, other| (one.1, &one.2.provider).cmp(&(other.1, &other.2.provider)));
        for (name, _, provided) in rows {
            self.provided.entry(name).or_default().push(provided);
        }
    }
}

/// A list that is an error when it has more bytes; cut at the limit, it would pass for the whole.
struct Bounded<R> {
    inner: R,
    bytes_left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.bytes_left.checked_sub(count as u64);
        self.bytes_left = left.ok_or_else(|| io::Error::other("it is longer than any list may be"))?;
        Ok(count)
    }
}

fn read_package(paragraph: &Paragraph, archive: Archive) -> Option<Package> {
    let text = |name| paragraph.get(name).unwrap_or_default().to_owned();
    Some(Package {
        name: paragraph.get("Package")?.to_owned(),
        version: paragraph.get("Version")?.parse().ok()?,
        architecture: paragraph.get("Architecture")?.to_owned(),
        priority: read_priority(paragraph.get("Priority").unwrap_or_default()),
        is_essential: paragraph.get("Essential") == Some("yes"),
        depends: [text("Pre-Depends"), text("Depends")],
        excludes: [text("Conflicts"), text("Breaks")],
        provides: text("Provides"),
        archive,
        filename: paragraph.get("Filename")?.to_owned(),
        size: paragraph.get("Size")?.parse().ok()?,
        digest: format!("sha256:{}", paragraph.get("SHA256")?).parse().ok()?,
    })
}

fn read_priority(text: &str) -> Priority {
    match text {
        "required" => Priority::Required,
        "important" => Priority::Important,
        "standard" => Priority::Standard,
        "optional" => Priority::Optional,
        _ => Priority::Extra,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::release::SUITES;
    use std::io::Write as _;

    /// An index of paragraphs; what every paragraph needs and these lack is filled in.
    pub(in crate::base) fn index(paragraphs: &str) -> Index {
        let mut index = Index::default();
        let mut text = String::new();
        for paragraph in paragraphs
            .split("\n\n")
            .map(str::trim)
            .filter(|paragraph| !paragraph.is_empty())
        {
            let digest = Digest::of(paragraph.as_bytes()).hex();
            let version = if paragraph.contains("Version:") {
                ""
            } else {
                "Version: 1\n"
            };
            text += paragraph;
            text += &[
                "\n",
                version,
                "Architecture: amd64\nFilename: f\nSize: 1\nSHA256: ",
                &digest,
                "\n\n",
            ]
            .concat();
        }
        index
            .add_list(SUITES[0], text.as_bytes(), &Cancel::default())
            .unwrap();
        index.find_provided();
        index
    }

    #[test]
    fn the_newest_version_of_all_suites_wins() {
        let paragraph = |version: &str| {
            let digest = Digest::of(version.as_bytes()).hex();
            let text = format!(
                "Package: openssl\nVersion: {version}\nArchitecture: amd64\nDescription: a\n .\n b\nFilename: f\nSize: 1\nSHA256: {digest}\n\n"
            );
            let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
            xz.write_all(text.as_bytes()).unwrap();
            xz.finish().unwrap()
        };
        let (old, new) = (paragraph("3.5.1-1"), paragraph("3.5.1-1+deb13u2"));
        for lists in [
            [(SUITES[0], old.as_slice()), (SUITES[2], &new)],
            [(SUITES[2], &new), (SUITES[0], &old)],
        ] {
            let index = Index::read(lists, &Cancel::default()).unwrap();
            let package = index.get("openssl").unwrap();
            assert_eq!(package.version.to_string(), "3.5.1-1+deb13u2");
            assert_eq!(package.archive, Archive::Security);
        }
    }

    #[test]
    fn a_list_that_is_too_long_is_no_list() {
        let paragraph = |name: &str| {
            let digest = Digest::of(name.as_bytes()).hex();
            format!(
                "Package: {name}\nVersion: 1\nArchitecture: amd64\nFilename: f\nSize: 1\nSHA256: {digest}\n\n"
            )
        };
        let list = paragraph("a") + &paragraph("b");
        for (short_of, is_good) in [(0, true), (1, false), (paragraph("b").len(), false)] {
            let bounded = Bounded {
                inner: list.as_bytes(),
                bytes_left: (list.len() - short_of) as u64,
            };
            let read = Index::default().add_list(
                SUITES[0],
                BufReader::with_capacity(16, bounded),
                &Cancel::default(),
            );
            assert_eq!(read.is_ok(), is_good, "{short_of}: {read:?}");
        }
    }

    #[test]
    fn a_list_that_needs_too_much_memory_is_refused() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(u32::try_from(XZ_MEMORY_BYTES_MAX).unwrap() * 2);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64).unwrap();
        let mut xz = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        xz.write_all(b"Package: a\n").unwrap();
        let error =
            Index::read([(SUITES[0], xz.finish().unwrap().as_slice())], &Cancel::default()).unwrap_err();
        assert!(matches!(error, BaseError::IndexInvalid { .. }), "{error}");
        assert!(!error.to_string().contains("lacks a field"), "{error}");
    }

    #[test]
    fn a_paragraph_that_lacks_a_field_is_an_error() {
        let list = "Package: a\nVersion: 1\n\n";
        let error = Index::default()
            .add_list(SUITES[0], list.as_bytes(), &Cancel::default())
            .unwrap_err();
        assert!(error.to_string().contains("`a`"), "{error}");
    }

    #[test]
    fn a_build_that_is_to_end_reads_no_further_list() {
        let cancel = Cancel::default();
        cancel.cancel();
        let list = "Package: a\nVersion: 1\n\n";
        let error = Index::default()
            .add_list(SUITES[0], list.as_bytes(), &cancel)
            .unwrap_err();
        assert!(matches!(error, BaseError::Cancelled(_)), "{error}");
    }
}
