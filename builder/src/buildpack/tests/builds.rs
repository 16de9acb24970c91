//! Whole builds against the recorded cases: environments, processes, SBOM files, execution environments, old APIs.

use std::path::Path;
use std::path::PathBuf;

use crate::buildpack::tests::comparison::cases;
use crate::buildpack::tests::comparison::compare_detected;
use crate::buildpack::tests::comparison::compare_disk;
use crate::buildpack::tests::comparison::compare_metadata;
use crate::buildpack::tests::comparison::expected_exit;
use crate::buildpack::tests::fixture::Failed;
use crate::buildpack::tests::fixture::Fixture;
use crate::buildpack::tests::fixture::exit_code;
use crate::buildpack::tests::fixture::read_toml;
use crate::buildpack::tests::fixture::testdata;
use crate::buildpack::tests::image::Between;

/// Runs every build of a case, one after another, and compares all that was recorded of it.
fn run_case(case: &Path) {
    let description = read_toml(&case.join("case.toml"));
    let builds = description.get("build").and_then(toml::Value::as_array).cloned();
    let only_one = builds.is_none();
    let builds = builds.unwrap_or_else(|| vec![toml::Value::Table(description.clone())]);
    let mut between = Between::new();
    for (number, build) in (1..).zip(&builds) {
        // Older Platform APIs are another's.
        if build.get("platform_api").is_some() {
            continue;
        }
        let expected = if only_one {
            case.join("expected")
        } else {
            case.join(format!("expected/build-{number}"))
        };
        let table = |value: Option<&toml::Value>| value.and_then(toml::Value::as_table).cloned();
        let environment = table(build.get("env").or(description.get("env"))).unwrap_or_default();
        let fixture = Fixture::of_case(case, &environment);
        if let Some(setup) = build.get("setup").and_then(toml::Value::as_str) {
            fixture.set_up(setup);
        }
        let exit =
            run_build(&fixture, &expected, &mut between).map_or_else(|failed| exit_code(failed.code), |()| 0);
        assert_eq!(exit, expected_exit(&expected), "{}", expected.display());
        if expected.join("metadata.toml").exists() {
            compare_metadata(&fixture, &expected);
        }
        if expected.join("disk").exists() {
            compare_disk(&fixture, &expected, &|_, text| text);
        }
    }
}

fn run_build(fixture: &Fixture, expected: &Path, between: &mut Between) -> Result<(), Failed> {
    let detected = fixture.detect()?;
    compare_detected(&detected, expected);
    let previous = between.image.clone();
    between.restore(fixture, &detected, previous.as_ref(), false);
    let built = fixture.build(&detected)?;
    between.export(fixture, &built, previous.as_ref())
}

fn vector(name: &str) -> PathBuf {
    testdata().join("vectors").join(name)
}

#[test]
fn programs_get_the_environment_that_the_reference_gives_them() {
    run_case(&vector("build-env"));
}

#[test]
fn processes_are_merged_as_the_reference_does() {
    run_case(&vector("processes"));
    run_case(&vector("processes-direct"));
}

#[test]
fn sbom_files_go_and_come_back_as_in_the_reference() {
    run_case(&vector("sbom"));
    run_case(&vector("sbom-undeclared"));
}

#[test]
fn execution_environments_choose_buildpacks_as_in_the_reference() {
    run_case(&vector("exec-env"));
}

#[test]
fn the_systems_buildpacks_take_part_as_in_the_reference() {
    let cases = cases("system-buildpacks");
    assert_eq!(cases.len(), 2);
    for case in &cases {
        run_case(case);
    }
}

#[test]
fn buildpacks_of_apis_0_7_to_0_12_run_side_by_side() {
    for name in ["a7", "a8", "a9", "a10", "a11", "a12", "m"] {
        run_case(&vector("old-apis").join(name));
    }
}
