//! The hash that the registry publishes for a tarball (subresource integrity, sha512 only).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The SHA-512 of a tarball.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Integrity(Box<[u8; 64]>);

impl Integrity {
    /// Reads `dist.integrity`; of several hashes the first sha512 counts, and without one there is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|hash| {
            let encoded = hash.strip_prefix("sha512-")?;
            let encoded = encoded.split('?').next().unwrap_or(encoded);
            Some(Self(Box::new(STANDARD.decode(encoded).ok()?.try_into().ok()?)))
        })
    }

    pub(crate) fn of_digest(digest: [u8; 64]) -> Self {
        Self(Box::new(digest))
    }
}

impl std::fmt::Display for Integrity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "sha512-{}", STANDARD.encode(self.0.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_sha512_hashes_count() {
        let zeros = format!("sha512-{}", STANDARD.encode([0; 64]));
        for text in [
            zeros.clone(),
            format!("sha1-AAAA {zeros}?option"),
            format!("{zeros} {zeros}"),
        ] {
            assert_eq!(Integrity::parse(&text).unwrap().to_string(), zeros, "{text}");
        }
        for text in ["", "sha1-AAAA", "sha512-AAAA", "sha512-!", "sha384-AAAA"] {
            assert_eq!(Integrity::parse(text), None, "{text}");
        }
    }
}
