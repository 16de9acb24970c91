//! Layers over several builds against the recorded cases.

use std::path::Path;

use packhorse_spec::labels::lifecycle::LifecycleLabel;
use serde_json::Value;

use crate::buildpack::tests::comparison::cases;
use crate::buildpack::tests::comparison::compare_disk;
use crate::buildpack::tests::comparison::compare_metadata;
use crate::buildpack::tests::comparison::expected_exit;
use crate::buildpack::tests::fixture::Failed;
use crate::buildpack::tests::fixture::Fixture;
use crate::buildpack::tests::fixture::exit_code;
use crate::buildpack::tests::fixture::read_toml;
use crate::buildpack::tests::image::Between;

#[test]
fn layers_come_back_as_the_reference_restores_them() {
    let cases = cases("cache");
    assert_eq!(cases.len(), 16);
    for case in cases {
        let mut between = Between::new();
        let builds = read_toml(&case.join("case.toml"))["build"]
            .as_array()
            .unwrap()
            .clone();
        for (number, build) in (1..).zip(&builds) {
            run(
                &case,
                build,
                &case.join(format!("expected/build-{number}")),
                &mut between,
            );
        }
    }
}

fn run(case: &Path, build: &toml::Value, expected: &Path, between: &mut Between) {
    let fixture = Fixture::of_case(case, &toml::Table::new());
    fixture.set_up(build["setup"].as_str().unwrap());
    if build.get("fresh_cache").is_some() {
        between.forget_cache();
    }
    let has_argument = |wanted: &str| {
        let arguments = build.get("args").and_then(toml::Value::as_array);
        arguments.is_some_and(|arguments| arguments.iter().any(|one| one.as_str() == Some(wanted)))
    };
    let previous = between.image.clone().filter(|_| !has_argument("-previous-image"));
    let detected = fixture.detect().unwrap();
    between.restore(
        &fixture,
        &detected,
        previous.as_ref(),
        has_argument("-skip-restore"),
    );
    let result: Result<(), Failed> = fixture
        .build(&detected)
        .and_then(|built| between.export(&fixture, &built, previous.as_ref()));
    compare_disk(&fixture, expected, &|_, text| text);
    let exit = result.map_or_else(|failed| exit_code(failed.code), |()| 0);
    assert_eq!(exit, expected_exit(expected), "{}", expected.display());
    if exit == 0 {
        compare_metadata(&fixture, expected);
        compare_label(between.image.as_ref().unwrap(), expected);
    }
}

/// Compares the buildpacks' part of the lifecycle label, but for the digests, which depend on the form of the tar.
fn compare_label(label: &LifecycleLabel, expected: &Path) {
    let without_shas = |buildpacks: &Value| {
        let mut buildpacks = buildpacks.clone();
        for buildpack in buildpacks.as_array_mut().unwrap() {
            for layer in buildpack["layers"].as_object_mut().unwrap().values_mut() {
                layer["sha"] = Value::Null;
            }
        }
        buildpacks
    };
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(expected.join("config.json")).unwrap()).unwrap();
    let recorded = &config["labels_decoded"]["io.buildpacks.lifecycle.metadata"]["buildpacks"];
    let ours: Value = serde_json::from_str(&label.to_text().unwrap()).unwrap();
    assert_eq!(
        without_shas(&ours["buildpacks"]),
        without_shas(recorded),
        "{}",
        expected.display()
    );
}
