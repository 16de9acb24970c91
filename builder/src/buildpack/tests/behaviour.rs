//! Buildpacks of our own, one for each behaviour.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::buildpack::build::Built;
use crate::buildpack::detect::Detected;
use crate::buildpack::layers::read_layers;
use crate::buildpack::layers::toml_allowance;
use crate::buildpack::tests::fixture::Failed;
use crate::buildpack::tests::fixture::Fixture;
use crate::buildpack::tests::image::Between;
use crate::buildpack::tests::job::BwrapJob;
use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::events::Stream;

fn of(names: &[&str]) -> Fixture {
    Fixture::of_buildpacks(BwrapJob::new(), names)
}

fn detected(fixture: &Fixture) -> Detected {
    fixture
        .detect()
        .unwrap_or_else(|failed| panic!("{}", failed.message))
}

fn built(fixture: &Fixture) -> Result<Built, Failed> {
    fixture.build(&detected(fixture))
}

#[test]
fn two_scripts_make_a_layer_and_a_process() {
    let fixture = of(&["two-scripts"]);
    let failed = fixture.detect().unwrap_err();
    assert_eq!(failed.code, "no_buildpack_detected");
    assert_eq!(
        failed.message,
        "no buildpack fits the source\n  tried: test/two-scripts@1.0.0 (no hello.txt)"
    );
    fs::write(fixture.job.host("workspace/hello.txt"), "hello\n").unwrap();
    let built = built(&fixture).unwrap();
    assert_eq!(built.default_process_type.as_deref(), Some("web"));
    assert_eq!(built.layers.len(), 1);
    let layer = &built.layers[0];
    assert!(layer.types.launch && layer.has_directory);
    assert_eq!(
        fs::read_to_string(fixture.job.host(layer.directory.join("text"))).unwrap(),
        "hello\n"
    );
    assert_eq!(
        fs::read_to_string(fixture.job.host("layers/sbom/launch/sbom.legacy.json")).unwrap(),
        "null\n"
    );
}

#[test]
fn a_rejected_group_says_why() {
    let fixture = of(&["always-passes", "detect-fails"]);
    let failed = fixture.detect().unwrap_err();
    assert_eq!(failed.code, "no_buildpack_detected");
    assert!(
        failed
            .message
            .contains("(test/detect-fails@1.0.0: no moon in sight)"),
        "{}",
        failed.message
    );
    assert_eq!(fixture.heard.output(), "looking for a moon\nno moon in sight\n");
}

#[test]
fn a_detection_that_cannot_tell_is_another_failure() {
    let failed = of(&["detect-errors"]).detect().unwrap_err();
    assert_eq!(failed.code, "detect_errored");
    assert!(
        failed
            .message
            .contains("bin/detect exited with code 3: cannot read the stars"),
        "{}",
        failed.message
    );
}

#[test]
fn a_failed_build_ends_the_build_and_both_outputs_were_told() {
    let fixture = of(&["build-fails", "always-passes"]);
    let failed = built(&fixture).unwrap_err();
    assert_eq!(failed.code, "buildpack_failed");
    assert!(
        failed.message.contains("test/build-fails@1.0.0"),
        "{}",
        failed.message
    );
    let heard = fixture.heard.0.lock().unwrap();
    let wrote = |wanted: Stream| {
        heard
            .iter()
            .any(|event| matches!(event, Event::Output { stream, .. } if *stream == wanted))
    };
    assert!(wrote(Stream::Stdout) && wrote(Stream::Stderr));
    let started = heard
        .iter()
        .filter(|event| matches!(event, Event::BuildpackStarted { .. }))
        .count();
    assert_eq!(started, 1);
}

#[test]
fn what_hangs_is_ended_by_the_clock() {
    let fixture = Fixture::of_buildpacks(BwrapJob::with_timeout(Duration::from_secs(1)), &["hangs"]);
    assert_eq!(built(&fixture).unwrap_err().code, "buildpack_timed_out");
    let fixture = Fixture::of_buildpacks(BwrapJob::with_timeout(Duration::from_secs(1)), &["detect-hangs"]);
    assert_eq!(fixture.detect().unwrap_err().code, "buildpack_timed_out");
}

#[test]
fn a_cancelled_build_ends_at_once() {
    struct CancelOnOutput(Cancel);
    impl Events for CancelOnOutput {
        fn tell(&self, event: Event) {
            if matches!(event, Event::Output { .. }) {
                self.0.cancel();
            }
        }
    }
    let fixture = of(&["hangs"]);
    let detected = detected(&fixture);
    let failed = fixture
        .build_told_to(&detected, &CancelOnOutput(fixture.job.cancel.clone()))
        .unwrap_err();
    assert_eq!(failed.code, "interrupted");
}

#[test]
fn output_is_told_whole_in_a_build_and_bounded_in_a_detection() {
    let fixture = of(&["floods-output"]);
    built(&fixture).unwrap();
    let output = fixture.heard.output();
    assert!(
        output.len() > 100 << 20 && output.ends_with("\nthat was a lot\n"),
        "{} bytes",
        output.len()
    );
    let fixture = of(&["floods-output", "detect-fails"]);
    fixture.detect().unwrap_err();
    assert!(fixture.heard.output().len() < 2 << 20);
}

/// Runs both buildpacks once; gives what was told.
fn build_layers(between: &mut Between) -> (Fixture, Built) {
    let fixture = of(&["writes-layers", "reads-layers"]);
    let detected = detected(&fixture);
    let previous = between.image.clone();
    between.restore(&fixture, &detected, previous.as_ref(), false);
    let built = fixture.build(&detected).unwrap();
    between.export(&fixture, &built, previous.as_ref()).unwrap();
    (fixture, built)
}

#[test]
fn cached_layers_are_found_again_and_build_layers_reach_later_buildpacks() {
    let mut between = Between::new();
    let (first, built) = build_layers(&mut between);
    let common = "TEST_LAYER=from-a-layer\ntool\n";
    assert_eq!(
        first.heard.output(),
        format!("made launch-layer\nmade build-layer\nmade cache-layer\n{common}")
    );
    let names: Vec<_> = built.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["both", "build-layer", "cache-layer", "launch-layer"]);
    assert!(first.job.host("layers/test_writes-layers/unused.ignore").is_dir());
    assert!(
        first
            .job
            .host("layers/sbom/cache/test_writes-layers/both/sbom.cdx.json")
            .is_file()
    );
    let (second, _) = build_layers(&mut between);
    assert_eq!(
        second.heard.output(),
        format!("made launch-layer\nmade build-layer\nfound cache-layer\n{common}")
    );
    between.lose_layer("test_writes-layers/cache-layer");
    let (third, _) = build_layers(&mut between);
    assert!(third.heard.output().contains("made cache-layer"));
    assert!(
        third
            .heard
            .warnings()
            .contains("layer cache-layer of test/writes-layers is not in the cache any more")
    );
}

#[test]
fn a_build_may_talk_to_itself() {
    let fixture = of(&["starts-server"]);
    built(&fixture).unwrap();
    assert_eq!(fixture.heard.output(), "hello from the build\n");
}

#[test]
fn links_are_followed_only_inside_the_job() {
    let fixture = of(&["leaves-links"]);
    let failed = built(&fixture).unwrap_err();
    assert_eq!(failed.code, "build_output_invalid");
    assert!(
        failed.message.contains("`/layers/test_leaves-links/launch.toml`"),
        "{}",
        failed.message
    );
    assert!(
        !failed.message.contains("root:"),
        "that would be the host's file: {}",
        failed.message
    );
}

#[test]
fn many_detections_run_at_the_same_time_without_mixing_their_plans() {
    let names = [
        "always-passes",
        "build-fails",
        "hangs",
        "floods-output",
        "writes-layers",
        "reads-layers",
        "starts-server",
    ];
    let fixture = of(&names);
    let detected = detected(&fixture);
    assert_eq!(detected.group.len(), names.len());
    assert!(detected.plan.entries.is_empty());
}

#[test]
fn many_files_are_too_much_where_each_of_them_is_not() {
    let job = BwrapJob::new();
    fs::create_dir(job.host("layers/a")).unwrap();
    let comment = "#".repeat(4 << 20);
    for number in 0..17 {
        fs::write(job.host(format!("layers/a/{number}.toml")), &comment).unwrap();
    }
    let mut allowance = toml_allowance();
    let error = read_layers(&job, "a", Path::new("/layers/a"), &mut allowance).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("of all such files 67108864 bytes are read"),
        "{error}"
    );
}
