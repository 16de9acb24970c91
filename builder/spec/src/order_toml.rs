//! `order.toml`, and the same tables in `builder.toml` and `buildpack.toml`: which buildpacks to try, in which groups.

use serde::Deserialize;
use serde::Serialize;

use crate::identifier::BuildpackId;
use crate::identifier::BuildpackVersion;

/// A parsed `order.toml` (Platform spec, "order.toml").
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Order {
    /// The groups, in the order in which they are tried.
    #[serde(default)]
    pub order: Vec<Group>,
    /// The groups of image extensions.
    #[serde(default, rename = "order-extensions")]
    pub order_extensions: Vec<Group>,
}

impl Order {
    /// Reads the text of an `order.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// One of `[[order]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Group {
    /// Its buildpacks, in the order in which they build.
    #[serde(default)]
    pub group: Vec<GroupEntry>,
}

/// One of `[[order.group]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct GroupEntry {
    /// The buildpack's id.
    pub id: BuildpackId,
    /// Its version; without one there must be a single version to choose from.
    #[serde(
        default,
        deserialize_with = "empty_as_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub version: Option<BuildpackVersion>,
    /// Whether the group passes without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// The reference takes `version = ""` for none.
pub(crate) fn empty_as_none<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BuildpackVersion>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_groups_and_extensions() {
        let order = Order::parse(
            "[[order]]\n[[order.group]]\nid='a/b'\nversion='1'\n[[order.group]]\nid='c'\noptional=true\nversion=''\n\
             [[order]]\n[[order-extensions]]\n[[order-extensions.group]]\nid='e'\n",
        )
        .unwrap();
        assert_eq!(order.order.len(), 2);
        assert_eq!(order.order[0].group[0].version.as_ref().unwrap(), &"1");
        assert_eq!(order.order[0].group[1].version, None);
        assert!(order.order[0].group[1].optional && !order.order[0].group[0].optional);
        assert_eq!(order.order_extensions[0].group[0].id, "e");
    }

    #[test]
    fn an_empty_file_is_no_order() {
        assert_eq!(Order::parse("").unwrap(), Order::default());
        assert!(Order::parse("[[order.group]]\nid='a'\n").is_err());
        assert!(Order::parse("[[order]]\n[[order.group]]\nversion='1'\n").is_err());
    }
}
