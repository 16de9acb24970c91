//! Times in images: whole seconds since 1970, written as RFC 3339 in UTC.

use serde::Deserialize;
use serde::Serialize;

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// 1980-01-01T00:00:01Z: the time that Cloud Native Buildpacks give to everything.
    pub const BUILDPACKS: Self = Self(315_532_801);
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = jiff::Timestamp::from_second(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        time.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(Timestamp::BUILDPACKS.to_string(), "1980-01-01T00:00:01Z");
    }
}
