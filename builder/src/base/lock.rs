//! The lock file: exactly which packages a base is made of, wherever they are fetched from.

use std::fmt::Write as _;

use serde::Deserialize;
use serde::Serialize;

use crate::base::error::BaseError;
use crate::base::flavour::Flavour;
use crate::model::digest::Digest;
use crate::model::timestamp::Timestamp;

/// The version of the file's format.
const FORMAT: u32 = 1;

/// Which of Debian's two archives a package is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Archive {
    /// `debian`: the release and its updates.
    Main,
    /// `debian-security`.
    Security,
}

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    format: u32,
    /// The Debian release's code name.
    pub suite: String,
    /// The architecture, in Debian's words: `amd64`.
    pub architecture: String,
    /// The newest date of the suites that were read; not part of the identity.
    pub date: Timestamp,
    /// The packages by name.
    #[serde(rename = "package")]
    pub packages: Vec<LockedPackage>,
}

/// One package of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, `all` included.
    pub architecture: String,
    /// The archive it is in.
    pub archive: Archive,
    /// Where it is in the archive.
    pub filename: String,
    /// The length of its `.deb`.
    pub size: u64,
    /// The digest of its `.deb`.
    pub digest: Digest,
    /// The flavours that it is part of.
    pub flavours: Vec<Flavour>,
}

impl Lock {
    /// A lock of these packages, which are put in order.
    pub fn new(suite: &str, architecture: &str, date: Timestamp, mut packages: Vec<LockedPackage>) -> Self {
        packages.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            format: FORMAT,
            suite: suite.to_owned(),
            architecture: architecture.to_owned(),
            date,
            packages,
        }
    }

    /// Reads a lock file.
    pub fn parse(text: &str) -> Result<Self, BaseError> {
        let invalid = |reason: String| BaseError::LockInvalid { reason };
        let lock: Self = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if lock.format != FORMAT {
            return Err(invalid(format!(
                "its format is {}, this program knows {FORMAT}",
                lock.format
            )));
        }
        for package in &lock.packages {
            let whole = package
                .filename
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..");
            if !whole
                || !is_word(&package.name)
                || !is_word(&package.version)
                || !is_word(&package.architecture)
            {
                return Err(invalid(format!(
                    "`{}` `{}` is no package",
                    package.name, package.filename
                )));
            }
        }
        if !lock.packages.windows(2).all(|pair| pair[0].name < pair[1].name) {
            return Err(invalid(
                "its packages are not in order, or one is there twice".to_owned(),
            ));
        }
        Ok(lock)
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let head = "# The packages of a Debian base, written by `packhorse base`; `packhorse base create --lock` makes it again.\n";
        // A struct of strings and numbers always has a TOML form.
        format!("{head}{}", toml::to_string(self).unwrap_or_default())
    }

    /// The base's identity: the digest of what is in it, in a form of its own. The date is left out, so that an
    /// update that changes no package changes nothing.
    pub fn digest(&self) -> Digest {
        let mut text = format!("packhorse base {FORMAT}\n{} {}\n", self.suite, self.architecture);
        for package in &self.packages {
            let flavours: Vec<_> = package.flavours.iter().map(|flavour| flavour.name()).collect();
            // Writing to a String cannot fail.
            let _infallible = writeln!(
                text,
                "{} {} {} {} {}",
                package.name,
                package.version,
                package.architecture,
                package.digest,
                flavours.join(",")
            );
        }
        Digest::of(text.as_bytes())
    }

    /// The packages of one flavour, in order.
    pub fn of_flavour(&self, flavour: Flavour) -> Vec<LockedPackage> {
        self.packages
            .iter()
            .filter(|package| package.flavours.contains(&flavour))
            .cloned()
            .collect()
    }
}

/// Debian names and versions have no separators in them.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.:~_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, flavours: &[Flavour]) -> LockedPackage {
        LockedPackage {
            name: name.to_owned(),
            version: "1:2.0-1+b1".to_owned(),
            architecture: "amd64".to_owned(),
            archive: Archive::Main,
            filename: format!("pool/main/x/{name}_2.0-1+b1_amd64.deb"),
            size: 7,
            digest: Digest::of(name.as_bytes()),
            flavours: flavours.to_vec(),
        }
    }

    fn lock() -> Lock {
        let packages = vec![
            package("zlib1g", &[Flavour::Build, Flavour::Run]),
            package("gcc", &[Flavour::Build]),
        ];
        Lock::new("trixie", "amd64", Timestamp(1_790_000_000), packages)
    }

    #[test]
    fn a_lock_survives_its_text_and_is_in_order() {
        let lock = lock();
        assert_eq!(lock.packages[0].name, "gcc");
        assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
        assert_eq!(lock.of_flavour(Flavour::Run).len(), 1);
    }

    #[test]
    fn the_identity_is_the_packages_and_not_the_date() {
        let first = lock();
        let mut later = first.clone();
        later.date = Timestamp(first.date.0 + 86_400);
        assert_eq!(first.digest(), later.digest());
        let mut other = first.clone();
        other.packages[0].digest = Digest::of(b"other");
        assert_ne!(first.digest(), other.digest());
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        let good = lock().to_text();
        for (from, to) in [
            ("format = 1", "format = 2"),
            ("pool/main/x/gcc", "pool/../../gcc"),
            ("name = \"gcc\"", "name = \"../gcc\""),
            ("name = \"gcc\"", "name = \"zlib1g\""),
            ("sha256:", "md5:"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            assert!(
                matches!(Lock::parse(&text), Err(BaseError::LockInvalid { .. })),
                "{from} → {to}"
            );
        }
    }
}
