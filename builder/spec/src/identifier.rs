//! Names that become parts of paths: ids and versions of buildpacks, process types, layer names.
//!
//! The reference lifecycle checks hardly any of them. Here each is refused if it could leave its folder or be
//! mistaken for two names; what the specification forbids beyond that is let through, since such buildpacks exist.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de;
use thiserror::Error;

/// The longest name, in bytes: what a file system allows one part of a path.
const NAME_BYTES_MAX: usize = 255;

/// A name that was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{name}` cannot be {what}: {why}")]
pub struct NameError {
    name: String,
    what: &'static str,
    why: &'static str,
}

macro_rules! name {
    ($(#[$comment:meta])* $name:ident, $what:literal, $check:ident) => {
        $(#[$comment])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match $check(text) {
                    None => Ok(Self(text.to_owned())),
                    Some(why) => Err(NameError { name: text.to_owned(), what: $what, why }),
                }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

name!(
    /// The id of a buildpack or an extension, such as `heroku/python` (Buildpack spec, "Buildpack ID").
    BuildpackId,
    "the id of a buildpack",
    refuse_id
);

name!(
    /// The version of a buildpack or an extension; nothing is read into it but equality.
    BuildpackVersion,
    "the version of a buildpack",
    refuse_path_part
);

name!(
    /// The type of a process, such as `web`: the name of its link in `/cnb/process` (Buildpack spec, "launch.toml").
    ProcessType,
    "the type of a process",
    refuse_process_type
);

name!(
    /// The name of a layer: that of its folder, and of its TOML file without the suffix (Buildpack spec, "Layers").
    LayerName,
    "the name of a layer",
    refuse_layer_name
);

impl BuildpackId {
    /// The id as the name of a folder: each `/` is a `_`.
    pub fn escaped(&self) -> String {
        escape_id(&self.0)
    }
}

/// An id as the name of a folder, for ids from places that are not checked, such as labels.
pub fn escape_id(id: &str) -> String {
    id.replace('/', "_")
}

fn refuse_id(text: &str) -> Option<&'static str> {
    if matches!(text, "app" | "config" | "generated" | "sbom") {
        return Some("the specification keeps this name for itself");
    }
    if text.contains(['@', ':']) {
        return Some("`@` and `:` part an id from its version and from its layers");
    }
    refuse_path_part(&escape_id(text))
}

fn refuse_process_type(text: &str) -> Option<&'static str> {
    if text.contains(['>', '<', ':', '|', '&', '\\']) {
        return Some("none of `/ > < : | & \\` may be in it");
    }
    refuse_path_part(text)
}

fn refuse_layer_name(text: &str) -> Option<&'static str> {
    if matches!(text, "launch" | "build" | "store") {
        return Some("the TOML file of that name has another meaning");
    }
    refuse_path_part(text)
}

fn refuse_path_part(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > NAME_BYTES_MAX {
        return Some("it is longer than 255 bytes");
    }
    if matches!(text, "." | "..") {
        return Some("it means another folder");
    }
    if text.contains('/') {
        return Some("`/` may not be in it");
    }
    text.chars()
        .any(char::is_control)
        .then_some("control characters may not be in it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_folder_names() {
        let id: BuildpackId = "paketo-buildpacks/node/engine".parse().unwrap();
        assert_eq!(id.escaped(), "paketo-buildpacks_node_engine");
        assert_eq!(id, "paketo-buildpacks/node/engine");
    }

    #[test]
    fn ids_that_are_refused() {
        for text in [
            "",
            "..",
            ".",
            "app",
            "config",
            "generated",
            "sbom",
            "a@1",
            "a:b",
            "a\nb",
            "a\0",
        ] {
            assert!(text.parse::<BuildpackId>().is_err(), "{text:?}");
        }
        for text in ["a", "a/b", "a.b-c/D_0", "../x", "a+b", "application"] {
            assert!(text.parse::<BuildpackId>().is_ok(), "{text:?}");
        }
        assert_eq!(
            "sbom".parse::<BuildpackId>().unwrap_err().to_string(),
            "`sbom` cannot be the id of a buildpack: the specification keeps this name for itself"
        );
    }

    #[test]
    fn an_id_that_climbs_stays_in_one_folder() {
        assert_eq!("../x".parse::<BuildpackId>().unwrap().escaped(), ".._x");
    }

    #[test]
    fn process_types() {
        for text in ["web", "env.dotted_name-1", "two words", "ünicode"] {
            assert!(text.parse::<ProcessType>().is_ok(), "{text:?}");
        }
        let long = "a".repeat(300);
        for text in [
            "", ".", "..", "a/b", "a>b", "a<b", "a:b", "a|b", "a&b", "a\\b", "a\nb", &long,
        ] {
            assert!(text.parse::<ProcessType>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn layer_names_and_versions() {
        assert!("node_modules".parse::<LayerName>().is_ok());
        assert!(
            !["launch", "build", "store", "a/b", ""]
                .iter()
                .any(|text| text.parse::<LayerName>().is_ok())
        );
        assert!("1.2.3-rc+4".parse::<BuildpackVersion>().is_ok());
        assert!("../../etc".parse::<BuildpackVersion>().is_err());
    }
}
