//! The labels that make an image one of buildpacks: what is in its layers, how it was built, from which source.
//!
//! Written as the reference writes them (fields in this order, maps sorted). Read leniently: a field that is absent
//! or `null` has its empty value, as for the reference, and fields that are not known are ignored.

pub mod lifecycle;
pub mod build;
pub mod project;

use serde::Deserialize;
use serde::Deserializer;

/// The key of [`lifecycle::LifecycleLabel`].
pub const LIFECYCLE_LABEL: &str = "io.buildpacks.lifecycle.metadata";
/// The key of [`build::BuildLabel`].
pub const BUILD_LABEL: &str = "io.buildpacks.build.metadata";
/// The key of [`project::ProjectLabel`].
pub const PROJECT_LABEL: &str = "io.buildpacks.project.metadata";
/// The key of the execution environment that an image was built for (Platform API 0.15).
pub const EXEC_ENV_LABEL: &str = "io.buildpacks.exec-env";

/// Go's JSON takes `null` for the empty value of any type.
pub(crate) fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::build::BuildLabel;
    use super::build::LauncherLabel;
    use super::lifecycle::LifecycleLabel;
    use super::project::ProjectLabel;
    use super::*;
    use crate::metadata_toml::BuildMetadata;

    fn labels(config: &str) -> BTreeMap<String, String> {
        let config: Value = serde_json::from_str(config).unwrap();
        serde_json::from_value(config["config"]["Labels"].clone()).unwrap()
    }

    const CONFIGS: [&str; 8] = [
        include_str!("../../../../testdata/vectors/processes/expected/config.json"),
        include_str!("../../../../testdata/vectors/processes-direct/expected/config.json"),
        include_str!("../../../../testdata/vectors/launch-env/expected/config.json"),
        include_str!("../../../../testdata/vectors/profile-execd/expected/config.json"),
        include_str!("../../../../testdata/vectors/spec/config-cache-a.json"),
        include_str!("../../../../testdata/vectors/old-apis/p07/expected/config.json"),
        include_str!("../../../../testdata/vectors/exec-env/expected/build-1/config.json"),
        include_str!("../../../../testdata/vectors/spec/config-mirror.json"),
    ];

    #[test]
    fn the_reference_labels_go_round_byte_for_byte() {
        for config in CONFIGS {
            let labels = labels(config);
            let text = &labels[LIFECYCLE_LABEL];
            assert_eq!(&LifecycleLabel::parse(text).unwrap().to_text().unwrap(), text);
            let text = &labels[BUILD_LABEL];
            assert_eq!(&BuildLabel::parse(text).unwrap().to_text().unwrap(), text);
            let text = &labels[PROJECT_LABEL];
            assert_eq!(&ProjectLabel::parse(text).unwrap().to_text().unwrap(), text);
        }
    }

    #[test]
    fn the_build_label_follows_from_metadata_toml() {
        let pairs = [
            (
                CONFIGS[0],
                include_str!("../../../../testdata/vectors/processes/expected/metadata.toml"),
                false,
            ),
            (
                CONFIGS[1],
                include_str!("../../../../testdata/vectors/processes-direct/expected/metadata.toml"),
                false,
            ),
            (
                CONFIGS[5],
                include_str!("../../../../testdata/vectors/old-apis/p07/expected/metadata.toml"),
                true,
            ),
            (
                CONFIGS[6],
                include_str!("../../../../testdata/vectors/exec-env/expected/build-1/metadata.toml"),
                false,
            ),
        ];
        for (config, metadata, with_bom) in pairs {
            let metadata = BuildMetadata::parse(metadata).unwrap();
            let launcher = LauncherLabel {
                version: "0.21.17".into(),
                ..LauncherLabel::default()
            };
            let label = BuildLabel::new(&metadata, launcher, with_bom).unwrap();
            assert_eq!(label.to_text().unwrap(), labels(config)[BUILD_LABEL]);
        }
    }
}
