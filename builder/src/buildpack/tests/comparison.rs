//! Compares a build with what the reference lifecycle recorded.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use packhorse_spec::group_toml::ChosenGroup;
use packhorse_spec::plan_toml::BuildPlan;

use crate::buildpack::detect::Detected;
use crate::buildpack::tests::fixture::Fixture;
use crate::buildpack::tests::fixture::read_toml;

/// The recorded exit code.
pub(super) fn expected_exit(expected: &Path) -> i64 {
    read_toml(&expected.join("exit"))["exit"].as_integer().unwrap()
}

/// Compares group.toml byte for byte and plan.toml as a map from names to entries, as their order is random there.
pub(super) fn compare_detected(detected: &Detected, expected: &Path) {
    let members = detected
        .group
        .iter()
        .map(|participant| participant.member.clone())
        .collect();
    let group = ChosenGroup {
        group: members,
        group_extensions: Vec::new(),
    };
    assert_eq!(
        group.to_text(),
        fs::read_to_string(expected.join("group.toml")).unwrap(),
        "{}",
        expected.display()
    );
    let recorded = BuildPlan::parse(&fs::read_to_string(expected.join("plan.toml")).unwrap()).unwrap();
    assert_eq!(
        by_name(&detected.plan),
        by_name(&recorded),
        "{}",
        expected.display()
    );
    let our_text = detected.plan.to_text();
    assert_eq!(
        BuildPlan::parse(&our_text).unwrap(),
        detected.plan,
        "the plan survives its file"
    );
}

fn by_name(plan: &BuildPlan) -> BTreeMap<String, packhorse_spec::plan_toml::PlanEntry> {
    plan.entries
        .iter()
        .map(|entry| (entry.requires[0].name.clone(), entry.clone()))
        .collect()
}

/// Compares every file that was kept of the build's disk. `adapt` may undo what must differ; it is told the path.
pub(super) fn compare_disk(fixture: &Fixture, expected: &Path, adapt: &dyn Fn(&str, String) -> String) {
    let disk = expected.join("disk");
    assert!(disk.is_dir(), "{} has recorded files", expected.display());
    let mut files = Vec::new();
    collect_files(&disk, &mut files);
    for file in files {
        let path = file.strip_prefix(&disk).unwrap();
        let name = path.to_str().unwrap();
        let ours = fs::read_to_string(fixture.job.host(path))
            .unwrap_or_else(|why| panic!("{} of {}: {why}", path.display(), expected.display()));
        let recorded = fs::read_to_string(&file).unwrap();
        assert_eq!(
            adapt(name, ours),
            adapt(name, recorded),
            "{} of {}",
            path.display(),
            expected.display()
        );
    }
}

fn collect_files(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Compares `config/metadata.toml` byte for byte.
pub(super) fn compare_metadata(fixture: &Fixture, expected: &Path) {
    let ours = fs::read_to_string(fixture.job.host("layers/config/metadata.toml")).unwrap();
    assert_eq!(
        ours,
        fs::read_to_string(expected.join("metadata.toml")).unwrap(),
        "{}",
        expected.display()
    );
}

/// The folders of the cases in `testdata/vectors/<group>`, by name.
pub(super) fn cases(group: &str) -> Vec<std::path::PathBuf> {
    let folder = crate::buildpack::tests::fixture::testdata()
        .join("vectors")
        .join(group);
    let mut cases: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|why| panic!("{}: {why}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
}
