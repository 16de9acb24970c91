//! Starts the images of the golden vectors and compares with what the reference launcher did.
//!
//! Each image is rebuilt by running the case's buildpacks, and presented at its real paths in a sandbox of
//! bubblewrap. Without bubblewrap, or where the machine allows no user namespace, these tests fail.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod case;
mod image;
mod recorded;
mod sandbox;

use case::Case;
use image::Image;

/// Launches that the launcher has no part in: the container engine refused the name, or it ran another program.
const NOT_THE_LAUNCHER: [(&str, usize); 2] = [("processes", 13), ("processes", 20)];

/// Starts all that the case recorded and returns how many starts were compared.
fn compare(name: &str) -> usize {
    let mut compared = 0;
    for build in Case::read(name).builds {
        let image = Image::rebuild(&build);
        for (index, launch) in build.launches.iter().enumerate() {
            let number = index + 1;
            if NOT_THE_LAUNCHER.contains(&(name, number)) {
                continue;
            }
            let expected = recorded::read(&build.expected.join(format!("run-{number}.txt")));
            let actual = image.start(launch);
            let context = format!(
                "{name}, {}, launch {number}: {launch:?}\nstderr: {}",
                build.expected.display(),
                actual.stderr
            );
            assert_eq!(
                recorded::comparable(&actual.stdout),
                recorded::comparable(&expected.stdout),
                "{context}"
            );
            assert_eq!(actual.exit, expected.exit, "{context}");
            compared += 1;
        }
    }
    compared
}

#[test]
fn environment_of_layers() {
    assert_eq!(compare("launch-env"), 8);
}

#[test]
fn processes() {
    assert_eq!(compare("processes"), 18);
}

#[test]
fn processes_before_buildpack_api_0_9() {
    assert_eq!(compare("processes-direct"), 11);
}

#[test]
fn profiles_and_exec_d() {
    assert_eq!(compare("profile-execd"), 10);
}

#[test]
fn execution_environments() {
    assert_eq!(compare("exec-env"), 40);
}

#[test]
fn every_supported_api() {
    let cases = [
        "a7", "a8", "a9", "a10", "a11", "a12", "m", "p07", "p09", "p10", "p11", "p12", "p13", "p14",
    ];
    assert_eq!(
        cases
            .iter()
            .map(|case| compare(&format!("old-apis/{case}")))
            .sum::<usize>(),
        14 * 4
    );
}
