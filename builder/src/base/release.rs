//! A suite's `InRelease`: signed, timely, and the hashes of the lists of packages (Debian repository format).

use deb822_fast::Deb822;

use crate::base::error::BaseError;
use crate::base::keys;
use crate::base::lock::Archive;
use crate::model::digest::Digest;
use crate::model::timestamp::Timestamp;

/// How far a mirror's date may be ahead of this machine's clock, in seconds.
const CLOCK_SLACK: i64 = 24 * 60 * 60;

/// One suite that a base takes packages from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suite {
    /// Its code name, which is its folder's name too: `trixie-security`.
    pub name: &'static str,
    /// The archive it is in.
    pub archive: Archive,
}

/// The suites of the base's Debian release; of two versions of a package the newer wins.
pub const SUITES: [Suite; 3] = [
    Suite {
        name: "trixie",
        archive: Archive::Main,
    },
    Suite {
        name: "trixie-updates",
        archive: Archive::Main,
    },
    Suite {
        name: "trixie-security",
        archive: Archive::Security,
    },
];

/// What a suite's `InRelease` says, believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// When the suite was last changed.
    pub date: Timestamp,
    /// The list of the architecture's packages.
    pub index: IndexFile,
}

/// A list of packages as `InRelease` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFile {
    /// Where it is, relative to the suite's folder.
    pub path: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Checks and reads the `InRelease` of `suite` for `architecture`, as it stands at `now`.
pub fn read_release(
    suite: Suite,
    text: &str,
    architecture: &str,
    now: Timestamp,
) -> Result<Release, BaseError> {
    let keys = match suite.archive {
        Archive::Main => keys::ARCHIVE,
        Archive::Security => keys::SECURITY,
    };
    let signed = keys::signed_text(text, keys, now).map_err(|reason| BaseError::SignatureInvalid {
        suite: suite.name.to_owned(),
        reason,
    })?;
    read_signed(suite, &signed, architecture, now)
}

/// The date of an `InRelease` that was believed before; none if it has none.
pub(super) fn date_of(text: &str) -> Option<Timestamp> {
    let date = text.lines().find_map(|line| line.strip_prefix("Date: "))?;
    read_date(date)
}

fn read_signed(suite: Suite, text: &str, architecture: &str, now: Timestamp) -> Result<Release, BaseError> {
    let invalid = |reason: String| BaseError::ReleaseInvalid {
        suite: suite.name.to_owned(),
        reason,
    };
    let untimely = |reason: String| BaseError::ReleaseUntimely {
        suite: suite.name.to_owned(),
        reason,
    };
    let document: Deb822 = text.parse().map_err(|error| invalid(format!("{error}")))?;
    let fields = document
        .iter()
        .next()
        .ok_or_else(|| invalid("it is empty".to_owned()))?;
    let field = |name: &str| {
        fields
            .get(name)
            .ok_or_else(|| invalid(format!("it has no field `{name}`")))
    };
    let time = |text: &str| read_date(text).ok_or_else(|| invalid(format!("`{text}` is no date")));

    // A mirror must not pass off one signed suite as another.
    if field("Codename")? != suite.name {
        return Err(invalid(format!("it is of the suite `{}`", field("Codename")?)));
    }
    let date = time(field("Date")?)?;
    if date.0 > now.0.saturating_add(CLOCK_SLACK) {
        return Err(untimely(format!("it is from the future, {date}")));
    }
    if let Some(until) = fields
        .get("Valid-Until")
        .map(time)
        .transpose()?
        .filter(|until| *until < now)
    {
        return Err(untimely(format!("it was valid until {until}")));
    }
    let wanted = format!("main/binary-{architecture}/Packages.xz");
    let (digest, size) = field("SHA256")?
        .lines()
        .find_map(|line| read_hash_line(line, &wanted))
        .ok_or_else(|| invalid(format!("it has no SHA-256 of {wanted}")))?;
    let by_hash = fields.get("Acquire-By-Hash").is_some_and(|value| value == "yes");
    let path = if by_hash {
        format!("main/binary-{architecture}/by-hash/SHA256/{}", digest.hex())
    } else {
        wanted
    };
    Ok(Release {
        date,
        index: IndexFile { path, digest, size },
    })
}

/// ` HASH SIZE PATH`
fn read_hash_line(line: &str, path: &str) -> Option<(Digest, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (hash, size, name) = (words.next()?, words.next()?, words.next()?);
    (name == path).then_some(())?;
    Some((format!("sha256:{hash}").parse().ok()?, size.parse().ok()?))
}

/// `Sat, 12 Sep 2026 07:55:41 UTC`
fn read_date(text: &str) -> Option<Timestamp> {
    let with_offset = text.strip_suffix("UTC").map(|text| format!("{text}+0000"));
    let text = with_offset.as_deref().unwrap_or(text);
    Some(Timestamp(
        jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::failure::Failure as _;

    const IN_RELEASE: &str = include_str!("../../../testdata/base/trixie-security.InRelease");
    /// 2026-11-22T00:00:00Z
    const THEN: Timestamp = Timestamp(1_795_305_600);
    const DAY: i64 = 86_400;

    fn code(suite: Suite, text: &str, now: Timestamp) -> &'static str {
        read_release(suite, text, "amd64", now).map_or_else(|error| error.facts().code, |_| "good")
    }

    #[test]
    fn a_real_release_is_believed() {
        let release = read_release(SUITES[2], IN_RELEASE, "amd64", THEN).unwrap();
        assert_eq!(release.date.to_string(), "2026-11-21T00:53:03Z");
        assert_eq!(release.index.size, 307_764);
        assert!(
            release
                .index
                .path
                .starts_with("main/binary-amd64/by-hash/SHA256/"),
            "{}",
            release.index.path
        );
        assert_ne!(
            read_release(SUITES[2], IN_RELEASE, "arm64", THEN).unwrap().index,
            release.index
        );
    }

    #[test]
    fn what_was_changed_or_signed_by_others_is_not() {
        let changed = IN_RELEASE.replacen("307764", "307765", 1);
        let before = format!("Origin: Evil\n{IN_RELEASE}");
        let unsigned = IN_RELEASE.split("-----BEGIN PGP SIGNATURE").next().unwrap();
        for text in [changed.as_str(), &before, unsigned, ""] {
            assert_eq!(code(SUITES[2], text, THEN), "base_signature_invalid");
        }
        assert_ne!(changed, IN_RELEASE);
        let error = read_release(SUITES[2], &changed, "amd64", THEN).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the signature of trixie-security's InRelease is not one of Debian's keys: the signature does not fit the text"
        );
        // The security archive's keys do not sign the main archive.
        assert_eq!(code(SUITES[0], IN_RELEASE, THEN), "base_signature_invalid");
    }

    #[test]
    fn a_release_holds_only_for_its_time_and_suite() {
        assert_eq!(
            code(SUITES[2], IN_RELEASE, Timestamp(THEN.0 + 10 * DAY)),
            "base_release_expired"
        );
        assert_eq!(
            code(SUITES[2], IN_RELEASE, Timestamp(THEN.0 - 10 * DAY)),
            "base_signature_invalid"
        );
        let other = Suite {
            name: "bookworm-security",
            archive: Archive::Security,
        };
        assert_eq!(code(other, IN_RELEASE, THEN), "base_archive_invalid");
        assert!(read_release(SUITES[2], IN_RELEASE, "vax", THEN).is_err());
    }

    #[test]
    fn without_by_hash_the_plain_name_is_taken() {
        let text = format!(
            "Codename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nSHA256:\n {} 7 main/binary-amd64/Packages.xz\n",
            "a".repeat(64)
        );
        let release = read_signed(SUITES[0], &text, "amd64", THEN).unwrap();
        assert_eq!(release.index.path, "main/binary-amd64/Packages.xz");
        assert_eq!(release.index.size, 7);
    }
}
