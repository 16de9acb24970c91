//! Version numbers of the Buildpack API and of the Platform API, and the ones that are supported.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de;
use thiserror::Error;

/// The Buildpack APIs that are run; a buildpack of another one is refused with exit code 12.
pub const BUILDPACK_APIS: [Api; 6] = [
    Api::new(0, 7),
    Api::new(0, 8),
    Api::new(0, 9),
    Api::new(0, 10),
    Api::new(0, 11),
    Api::new(0, 12),
];

/// The Platform API in use: what an image built here states in `CNB_PLATFORM_API`.
pub const PLATFORM_API: Api = Api::new(0, 15);

/// The Platform APIs that the launcher, and `packhorse lifecycle`, answer to; others end with exit code 11.
pub const PLATFORM_APIS: [Api; 9] = [
    Api::new(0, 7),
    Api::new(0, 8),
    Api::new(0, 9),
    Api::new(0, 10),
    Api::new(0, 11),
    Api::new(0, 12),
    Api::new(0, 13),
    Api::new(0, 14),
    PLATFORM_API,
];

/// An API version; ordered by its two numbers, so that 0.9 is before 0.10 (Buildpack spec, "Buildpack API Version").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Api {
    /// The number before the dot.
    pub major: u32,
    /// The number after the dot; 0 where there is none.
    pub minor: u32,
}

impl Api {
    /// The version `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Whether this version is `major.minor` or a later one.
    pub const fn at_least(self, major: u32, minor: u32) -> bool {
        self.major > major || (self.major == major && self.minor >= minor)
    }

    /// Whether buildpacks of this Buildpack API are run.
    pub fn is_supported_buildpack_api(self) -> bool {
        BUILDPACK_APIS.contains(&self)
    }

    /// Whether this Platform API is answered to.
    pub fn is_supported_platform_api(self) -> bool {
        PLATFORM_APIS.contains(&self)
    }
}

/// A text that is no API version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not an API version such as `0.12`")]
pub struct ParseApiError(String);

impl FromStr for Api {
    type Err = ParseApiError;

    /// Reads by the reference's grammar `^v?(\d+)\.?(\d*)$`: `0.12`, `v0.12`, `1`, `1.`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseApiError(text.to_owned());
        let numbers = text.strip_prefix('v').unwrap_or(text);
        let (major, minor) = numbers.split_once('.').unwrap_or((numbers, ""));
        if major.is_empty()
            || !(major
                .bytes()
                .chain(minor.bytes())
                .all(|byte| byte.is_ascii_digit()))
        {
            return Err(refused());
        }
        let minor = if minor.is_empty() { "0" } else { minor };
        Ok(Self {
            major: major.parse().map_err(|_| refused())?,
            minor: minor.parse().map_err(|_| refused())?,
        })
    }
}

impl fmt::Display for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl<'de> Deserialize<'de> for Api {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Serialize for Api {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_grammar_allows() {
        let cases = [
            ("0.12", 0, 12),
            ("v0.7", 0, 7),
            ("1", 1, 0),
            ("2.", 2, 0),
            ("12", 12, 0),
            ("00.010", 0, 10),
        ];
        for (text, major, minor) in cases {
            assert_eq!(text.parse(), Ok(Api::new(major, minor)), "{text}");
        }
    }

    #[test]
    fn refuses_all_else() {
        for text in [
            "",
            "v",
            ".1",
            "a",
            "0.1.2",
            "0,1",
            " 0.1",
            "0.1 ",
            "-1",
            "+1",
            "0.99999999999",
            "V1",
        ] {
            assert!(text.parse::<Api>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert!(Api::new(0, 9) < Api::new(0, 10));
        assert!(Api::new(1, 0).at_least(0, 12));
        assert!(!Api::new(0, 9).at_least(0, 10));
        assert_eq!(Api::new(0, 10).to_string(), "0.10");
    }

    #[test]
    fn supports_what_the_reference_lifecycle_does() {
        assert!(!Api::new(0, 6).is_supported_buildpack_api());
        assert!(Api::new(0, 7).is_supported_buildpack_api());
        assert!(Api::new(0, 12).is_supported_buildpack_api());
        assert!(!Api::new(0, 13).is_supported_buildpack_api());
        assert!(PLATFORM_API.is_supported_platform_api());
        assert!(!Api::new(0, 3).is_supported_platform_api());
    }
}
