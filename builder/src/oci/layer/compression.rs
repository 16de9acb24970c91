//! How a layer's tar becomes a blob: `--compression gzip|gzip-single|zstd|none[:LEVEL]`.

use std::fmt;
use std::str::FromStr;

use crate::model::descriptor::LAYER_GZIP;
use crate::model::descriptor::LAYER_TAR;
use crate::model::descriptor::LAYER_ZSTD;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// The compression of layers that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip in members of 1 MiB each, by libdeflate.
    Gzip {
        /// 1 (fast) to 12 (small).
        level: u8,
    },
    /// gzip in one member, by zlib-rs, for readers that stop after the first.
    GzipSingle {
        /// 1 (fast) to 9 (small).
        level: u8,
    },
    /// zstd; Docker reads it from version 23 on.
    Zstd {
        /// 1 (fast) to 19 (small).
        level: u8,
    },
    /// The tar as it is.
    None,
}

/// A text that names no compression.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no compression: it must be `gzip`, `gzip:1` to `gzip:12`, `gzip-single`, `gzip-single:1` to \
     `gzip-single:9`, `zstd`, `zstd:1` to `zstd:19`, or `none`"
)]
pub struct CompressionError(String);

impl Failure for CompressionError {
    fn facts(&self) -> Facts {
        Facts::user("compression_invalid")
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip { level: 1 }
    }
}

impl Compression {
    /// The media type of a layer's blob.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip { .. } | Self::GzipSingle { .. } => LAYER_GZIP,
            Self::Zstd { .. } => LAYER_ZSTD,
            Self::None => LAYER_TAR,
        }
    }

    /// What the blob's bytes depend on beside the tar: the library with its version, level and block size.
    pub fn compressor(self) -> String {
        match self {
            Self::Gzip { level } => format!("libdeflater-1.26/{level}/1MiB"),
            Self::GzipSingle { level } => format!("zlib-rs-0.6/{level}/512KiB"),
            Self::Zstd { level } => format!("zstd-0.14/{level}"),
            Self::None => "none".to_owned(),
        }
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, level.parse().ok()),
            None => (text, Some(default_level(text))),
        };
        match (name, level) {
            ("gzip", Some(level @ 1..=12)) => Ok(Self::Gzip { level }),
            ("gzip-single", Some(level @ 1..=9)) => Ok(Self::GzipSingle { level }),
            ("zstd", Some(level @ 1..=19)) => Ok(Self::Zstd { level }),
            ("none", Some(0)) => Ok(Self::None),
            _ => Err(CompressionError(text.chars().take(100).collect())),
        }
    }
}

/// The levels that gave the best of time and size when they were measured.
fn default_level(name: &str) -> u8 {
    match name {
        "gzip" => 1,
        "gzip-single" => 4,
        "zstd" => 3,
        _ => 0,
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip { level } => write!(formatter, "gzip:{level}"),
            Self::GzipSingle { level } => write!(formatter, "gzip-single:{level}"),
            Self::Zstd { level } => write!(formatter, "zstd:{level}"),
            Self::None => formatter.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_are_read_and_shown() {
        for text in ["gzip:1", "gzip:12", "gzip-single:9", "zstd:19", "none"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        assert_eq!("gzip".parse(), Ok(Compression::default()));
        assert_eq!("zstd".parse(), Ok(Compression::Zstd { level: 3 }));
        for text in [
            "",
            "gzip:0",
            "gzip:13",
            "gzip-single:10",
            "zstd:20",
            "none:1",
            "xz",
            "gzip:x",
        ] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }
}
