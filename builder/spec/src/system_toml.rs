//! `system.toml`: the buildpacks that an operator puts before and after every group (Platform API 0.15).

use serde::Deserialize;

use crate::order_toml::GroupEntry;

/// A parsed `system.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SystemBuildpacks {
    #[serde(default)]
    system: Places,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Places {
    #[serde(default)]
    pre: Entries,
    #[serde(default)]
    post: Entries,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Entries {
    #[serde(default)]
    buildpacks: Vec<GroupEntry>,
}

impl SystemBuildpacks {
    /// Reads the text of a `system.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The buildpacks before each group.
    pub fn pre(&self) -> &[GroupEntry] {
        &self.system.pre.buildpacks
    }

    /// The buildpacks after each group.
    pub fn post(&self) -> &[GroupEntry] {
        &self.system.post.buildpacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_places() {
        let system = SystemBuildpacks::parse(
            "[[system.pre.buildpacks]]\nid='a'\nversion='1'\n[[system.post.buildpacks]]\nid='b'\noptional=true\n",
        )
        .unwrap();
        assert_eq!(system.pre()[0].id, "a");
        assert!(system.post()[0].optional);
        assert!(SystemBuildpacks::parse("").unwrap().pre().is_empty());
    }
}
