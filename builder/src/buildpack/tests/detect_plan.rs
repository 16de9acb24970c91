//! Detection and plan resolution against the recorded cases.

use std::fs;
use std::path::Path;

use crate::buildpack::tests::comparison::cases;
use crate::buildpack::tests::comparison::compare_detected;
use crate::buildpack::tests::comparison::compare_disk;
use crate::buildpack::tests::comparison::expected_exit;
use crate::buildpack::tests::fixture::Fixture;
use crate::buildpack::tests::fixture::exit_code;

/// Runs a case; gives the exit code.
fn run(folder: &Path) -> i64 {
    let fixture = Fixture::of_case(folder, &toml::Table::new());
    let expected = folder.join("expected");
    let detected = match fixture.detect() {
        Ok(detected) => detected,
        Err(failed) => {
            assert!(
                !expected.join("group.toml").exists(),
                "{}: {}",
                folder.display(),
                failed.message
            );
            return exit_code(failed.code);
        }
    };
    compare_detected(&detected, &expected);
    assert!(
        fs::read_dir(fixture.job.host("tmp")).unwrap().next().is_none(),
        "no plan file is left"
    );
    let exit = match fixture.build(&detected) {
        Ok(_) => 0,
        Err(failed) => exit_code(failed.code),
    };
    compare_disk(&fixture, &expected, &|path, text| match path {
        // The recording ran each bin/detect twice, in two processes.
        "workspace/ran.txt" => {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            lines.dedup();
            lines.join("\n")
        }
        // Entries of different names come in any order there.
        path if path.ends_with("plan.toml") => {
            let mut entries: Vec<&str> = text.split("\n\n").map(str::trim_end).collect();
            entries.sort_by_key(|entry| entry.lines().nth(1).map(str::to_owned));
            entries.join("\n\n")
        }
        _ => text,
    });
    exit
}

#[test]
fn groups_plans_and_exit_codes_are_those_of_the_reference() {
    let cases = cases("detect-plan");
    assert_eq!(cases.len(), 20);
    for case in cases {
        assert_eq!(
            run(&case),
            expected_exit(&case.join("expected")),
            "{}",
            case.display()
        );
    }
}

#[test]
fn each_buildpack_gets_the_plan_that_the_reference_gives_it() {
    let cases = cases("plan-resolution");
    assert_eq!(cases.len(), 5);
    for case in cases {
        assert_eq!(
            run(&case),
            expected_exit(&case.join("expected")),
            "{}",
            case.display()
        );
    }
}

#[test]
fn each_bin_detect_runs_once() {
    let fixture = Fixture::of_case(
        &crate::buildpack::tests::fixture::testdata().join("vectors/detect-plan/p"),
        &toml::Table::new(),
    );
    fixture.detect().unwrap();
    let ran = fs::read_to_string(fixture.job.host("workspace/ran.txt")).unwrap();
    assert_eq!(
        ran, "one\ntwo\n",
        "three is never asked, since the second group passes"
    );
}

#[test]
fn output_is_shown_of_those_that_could_not_tell() {
    let fixture = Fixture::of_case(
        &crate::buildpack::tests::fixture::testdata().join("vectors/detect-plan/s"),
        &toml::Table::new(),
    );
    fixture.detect().unwrap();
    let output = fixture.heard.output();
    assert!(
        output.contains("two on stdout") && output.contains("two on stderr"),
        "{output}"
    );
    assert!(!output.contains("one on stdout"), "{output}");
    assert!(
        fixture.heard.warnings().contains("vec/two@1 could not tell"),
        "{}",
        fixture.heard.warnings()
    );
}
