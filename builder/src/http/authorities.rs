//! The certificates of a file of authorities: how many there are, and how long each is valid (RFC 5280 §4.1).

use std::path::Path;

use crate::model::timestamp::Timestamp;

/// One certificate, as far as it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    /// The last second in which it is valid; none if that cannot be read.
    pub not_after: Option<Timestamp>,
}

/// The certificates of a PEM file, read as for the HTTP client; what cannot be read of it is an error.
pub fn read(path: &Path) -> Result<Vec<Authority>, String> {
    let found = rustls_native_certs::load_certs_from_paths(Some(path), None);
    if let Some(error) = found.errors.first() {
        return Err(error.to_string());
    }
    let authority = |certificate: &rustls::pki_types::CertificateDer<'_>| Authority {
        not_after: not_after(certificate),
    };
    Ok(found.certs.iter().map(authority).collect())
}

/// Tags of DER (X.690 §8.1) that lie on the way.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity: tbsCertificate is version, serial number, algorithm, issuer, validity, …
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(outer, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    let (_serial, fields) = element(fields, INTEGER)?;
    let (_algorithm, fields) = element(fields, SEQUENCE)?;
    let (_issuer, fields) = element(fields, SEQUENCE)?;
    let (validity, _) = element(fields, SEQUENCE)?;
    let skipped = element(validity, UTC_TIME).or_else(|| element(validity, GENERALIZED_TIME));
    let (_not_before, rest) = skipped?;
    match element(rest, UTC_TIME) {
        Some((text, _)) => {
            let text = str::from_utf8(text).ok()?;
            // RFC 5280 §4.1.2.5.1: two digits from 50 on are of the last century.
            let century = if text.get(..2)?.parse::<u8>().ok()? < 50 {
                "20"
            } else {
                "19"
            };
            time(&format!("{century}{text}"))
        }
        None => time(str::from_utf8(element(rest, GENERALIZED_TIME)?.0).ok()?),
    }
}

/// The content of the first element, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // The length is in the next one to four bytes.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let value = length
                .iter()
                .fold(0, |value, byte| value << 8 | usize::from(*byte));
            (value, rest)
        }
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length))?
}

/// `20361114235959Z`.
fn time(text: &str) -> Option<Timestamp> {
    let parsed = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    let zoned = parsed.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp(zoned.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::proptest;

    use super::*;

    fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
        let content = content.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], &content[..]].concat()
    }

    fn certificate(not_after: &[u8]) -> Vec<u8> {
        let version = der(VERSION, &[&der(INTEGER, &[&[2]])]);
        let not_before = der(UTC_TIME, &[b"200101000000Z"]);
        let validity = der(SEQUENCE, &[&not_before, not_after]);
        let empty = der(SEQUENCE, &[]);
        let fields = der(
            SEQUENCE,
            &[
                &version,
                &der(INTEGER, &[&[7]]),
                &empty,
                &empty,
                &validity,
                &empty,
            ],
        );
        der(SEQUENCE, &[&fields])
    }

    #[test]
    fn the_end_of_validity_is_read_in_both_forms() {
        for (tag, text, expected) in [
            (UTC_TIME, &b"361114235959Z"[..], Some("2036-11-14T23:59:59Z")),
            (UTC_TIME, b"991231235959Z", Some("1999-12-31T23:59:59Z")),
            (GENERALIZED_TIME, b"20500101000000Z", Some("2050-01-01T00:00:00Z")),
            (UTC_TIME, b"soon", None),
        ] {
            let found = not_after(&certificate(&der(tag, &[text])));
            assert_eq!(found.map(|time| time.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_and_one_without_certificates_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(read(&path).unwrap_err().contains("ca.pem"));
        std::fs::write(&path, "nothing\n").unwrap();
        assert_eq!(read(&path), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = not_after(&bytes);
        }

        #[test]
        fn no_broken_certificate_brings_it_down(at in 0_usize..60, byte in any::<u8>()) {
            let mut bytes = certificate(&der(UTC_TIME, &[b"361114235959Z"]));
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = not_after(&bytes);
        }
    }
}
