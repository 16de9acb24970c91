//! Environments and processes against the recorded cases.

use crate::buildpack::tests::comparison::compare_detected;
use crate::buildpack::tests::comparison::compare_disk;
use crate::buildpack::tests::comparison::compare_metadata;
use crate::buildpack::tests::fixture::Fixture;
use crate::buildpack::tests::fixture::read_toml;
use crate::buildpack::tests::fixture::testdata;

#[test]
fn programs_get_the_environment_that_the_reference_gives_them() {
    let case = testdata().join("vectors/build-env");
    let environment = read_toml(&case.join("case.toml"))["env"]
        .as_table()
        .unwrap()
        .clone();
    let fixture = Fixture::of_case(&case, &environment);
    let detected = fixture.detect().unwrap();
    compare_detected(&detected, &case.join("expected"));
    fixture.build(&detected).unwrap();
    // Where the folder of a plan lies is no part of the contract.
    compare_disk(&fixture, &case.join("expected"), &|_, text| text);
    compare_metadata(&fixture, &case.join("expected"));
}

#[test]
fn processes_are_merged_as_the_reference_does() {
    for name in ["processes", "processes-direct"] {
        let case = testdata().join("vectors").join(name);
        let fixture = Fixture::of_case(&case, &toml::Table::new());
        let detected = fixture.detect().unwrap();
        fixture.build(&detected).unwrap();
        compare_metadata(&fixture, &case.join("expected"));
    }
}
