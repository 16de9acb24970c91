//! Every recorded failure that ends before the exporter's own work.

use std::path::Path;

use crate::buildpack::tests::comparison::cases;
use crate::buildpack::tests::comparison::compare_detected;
use crate::buildpack::tests::comparison::compare_metadata;
use crate::buildpack::tests::comparison::expected_exit;
use crate::buildpack::tests::fixture::Failed;
use crate::buildpack::tests::fixture::Fixture;
use crate::buildpack::tests::fixture::exit_code;
use crate::buildpack::tests::image::Between;

/// Cases that other parts decide: a file that cannot be read (exporter), no run image, an unknown Platform API.
const OF_OTHERS: [&str; 3] = ["u", "ze", "zf"];

fn run(case: &Path) -> Result<(), Failed> {
    let fixture = Fixture::of_case(case, &toml::Table::new());
    let expected = case.join("expected");
    let detected = fixture.detect()?;
    compare_detected(&detected, &expected);
    let built = fixture.build(&detected)?;
    if expected.join("metadata.toml").exists() {
        compare_metadata(&fixture, &expected);
    }
    Between::new().export(&fixture, &built, None)
}

#[test]
fn failures_have_the_exit_codes_of_the_reference() {
    let cases = cases("failures");
    assert_eq!(cases.len(), 34);
    for case in cases
        .iter()
        .filter(|case| OF_OTHERS.iter().all(|other| !case.ends_with(other)))
    {
        let exit = run(case).map_or_else(|failed| exit_code(failed.code), |()| 0);
        assert_eq!(exit, expected_exit(&case.join("expected")), "{}", case.display());
    }
}

#[test]
fn messages_name_the_buildpack_the_file_and_the_cause() {
    let message = |name: &str| {
        let case = crate::buildpack::tests::fixture::testdata()
            .join("vectors/failures")
            .join(name);
        run(&case).unwrap_err().message
    };
    assert_eq!(
        message("c"),
        "buildpack vec/one@1 failed in its build step: bin/build exited with code 7"
    );
    assert_eq!(
        message("v"),
        "buildpack vec/one@1 failed in its build step: bin/build was ended by signal 9"
    );
    assert_eq!(
        message("s"),
        "buildpack vec/one@1 left what its API does not allow: cannot understand `/layers/vec_one/lay.toml`: \
         the key `launch` should be in the table `types`"
    );
    assert_eq!(
        message("o"),
        "buildpack vec/one@1 left what its API does not allow: cannot understand `/layers/vec_one/launch.toml`: \
         process `web` has the key `direct`, which Buildpack API 0.11 does not have"
    );
    assert_eq!(
        message("zb"),
        "buildpack vec/one@2 is not at hand: the builder has 1"
    );
    assert_eq!(
        message("i"),
        "cannot reuse layer gone of buildpack vec/one: the previous image does not have it"
    );
}
