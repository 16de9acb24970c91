//! What a second build does not do again.

use std::fs;

use crate::support::app::Folder;
use crate::support::home::Machine;
use crate::support::image::Image;
use crate::support::proxy::Proxy;
use crate::support::registry::DockerRegistry;
use crate::support::registry::Guard;

/// A machine, and a registry that notes what it is asked.
struct Fixture {
    machine: Machine,
    app: Folder,
    buildpack: Folder,
    _registry: DockerRegistry,
    proxy: Proxy,
}

impl Fixture {
    fn new(buildpack: &str) -> Self {
        let registry = DockerRegistry::start(Guard::Open);
        let proxy = Proxy::recording(&registry.host());
        Self {
            machine: Machine::new(),
            app: Folder::new(&[("hello.txt", "hello"), ("other.txt", "1")]),
            buildpack: Folder::buildpack(buildpack),
            _registry: registry,
            proxy,
        }
    }

    fn build(&self, more: &[&str]) -> crate::support::run::Run {
        let (app, buildpack, tag) = (self.app.text(), self.buildpack.text(), self.tag());
        let arguments = ["build", &app, "--buildpack", &buildpack, "-t", &tag];
        self.machine.run(&[&arguments, more].concat())
    }

    fn tag(&self) -> String {
        format!("{}/reuse:1", self.proxy.host())
    }

    fn image(&self) -> Image {
        let image = Image::read(&format!("docker://{}", self.tag()));
        self.proxy.take();
        image
    }
}

#[test]
fn nothing_changed_is_one_head_and_no_sandbox() {
    let fixture = Fixture::new("two-scripts");
    let first = fixture.build(&[]).ok();
    fixture.proxy.take();
    let second = fixture.build(&[]).ok();
    assert_eq!(fixture.proxy.take(), ["HEAD /v2/reuse/manifests/1"]);
    assert_eq!(second.digest(), first.digest());
    assert!(second.all().contains("nothing changed"), "{second:?}");
    assert!(
        !second.all().contains("test/two-scripts"),
        "a buildpack ran: {second:?}"
    );
}

#[test]
fn a_touched_file_is_no_change() {
    let fixture = Fixture::new("two-scripts");
    fixture.build(&[]).ok();
    fixture
        .app
        .shell("touch -d 2001-01-01 hello.txt; touch other.txt");
    let second = fixture.build(&[]).ok();
    assert!(second.all().contains("nothing changed"), "{second:?}");
}

#[test]
fn forced_it_is_built_anyway_and_nothing_is_sent_again() {
    let fixture = Fixture::new("two-scripts");
    let first = fixture.build(&[]).ok();
    fixture.proxy.take();
    let second = fixture.build(&["--force"]).ok();
    assert_eq!(second.digest(), first.digest());
    assert!(second.all().contains("test/two-scripts"), "{second:?}");
    let sent: Vec<_> = fixture
        .proxy
        .take()
        .into_iter()
        .filter(|request| request.starts_with("PATCH") || request.starts_with("PUT /v2/reuse/blobs"))
        .collect();
    assert_eq!(sent, [] as [&str; 0]);
}

#[test]
fn a_tag_that_was_moved_by_another_is_built_again() {
    let fixture = Fixture::new("two-scripts");
    let first = fixture.build(&[]).ok();
    fixture.app.write("other.txt", "2");
    let second = fixture.build(&[]).ok();
    assert_ne!(first.digest(), second.digest());
    fixture.app.write("other.txt", "1");
    let third = fixture.build(&[]).ok();
    assert_eq!(third.digest(), first.digest());
    assert_eq!(fixture.image().digest, first.digest());
}

#[test]
fn one_changed_line_makes_one_new_layer() {
    let fixture = Fixture::new("two-scripts");
    fixture.build(&[]).ok();
    let before = fixture.image();
    fixture.app.write("other.txt", "2");
    let run = fixture.build(&[]).ok();
    let sent = fixture.proxy.take();
    let after = fixture.image();
    let differ: Vec<_> = (0..before.blobs().len())
        .filter(|at| before.blobs()[*at] != after.blobs()[*at])
        .collect();
    assert_eq!(differ.len(), 1, "{run:?}");
    assert_eq!(after.made_by()[differ[0]], "Application Layer");
    // The layer and the configuration.
    let uploads = sent
        .iter()
        .filter(|request| request.starts_with("PUT /v2/reuse/blobs/"))
        .count();
    assert_eq!(uploads, 2, "{sent:?}");
    let said = run.all();
    let added: Vec<_> = said
        .lines()
        .filter(|line| line.trim_start().starts_with("added "))
        .collect();
    assert_eq!(added.len(), 1, "{run:?}");
}

#[test]
fn cached_layers_come_back() {
    let fixture = Fixture::new("writes-layers");
    let first = fixture.build(&[]).ok();
    for made in ["made launch-layer", "made build-layer", "made cache-layer"] {
        assert!(first.all().contains(made), "{first:?}");
    }
    let second = fixture.build(&["--force"]).ok();
    assert!(second.all().contains("found cache-layer"), "{second:?}");
    // Without `cache` a layer's files do not come back.
    assert!(
        second.all().contains("made launch-layer") && second.all().contains("made build-layer"),
        "{second:?}"
    );
    assert_eq!(first.digest(), second.digest());
}

#[test]
fn a_failed_build_changes_nothing() {
    let fixture = Fixture::new("writes-layers");
    let first = fixture.build(&[]).ok();
    let script = fixture.buildpack.path().join("bin/build");
    let good = fs::read_to_string(&script).unwrap();
    // It destroys the cached layer and then fails.
    fs::write(&script, "#!/bin/sh\nrm -rf \"$1\"/*\nmkdir \"$1/cache-layer\"\necho broken > \"$1/cache-layer/content\"\nexit 3\n").unwrap();
    fixture.build(&[]).fails(51, "buildpack_failed");
    assert_eq!(fixture.image().digest, first.digest());
    fs::write(&script, good).unwrap();
    let again = fixture.build(&["--force"]).ok();
    assert!(again.all().contains("found cache-layer"), "{again:?}");
    assert_eq!(again.digest(), first.digest());
}

#[test]
fn a_cache_belongs_to_the_repository_and_not_to_the_tag() {
    let fixture = Fixture::new("writes-layers");
    fixture.build(&[]).ok();
    let (app, buildpack) = (fixture.app.text(), fixture.buildpack.text());
    let build = |tag: &str| {
        fixture
            .machine
            .run(&["build", &app, "--buildpack", &buildpack, "-t", tag])
            .ok()
    };
    let other_tag = build(&format!("{}/reuse:2", fixture.proxy.host()));
    assert!(other_tag.all().contains("found cache-layer"), "{other_tag:?}");
    let other_repository = build(&format!("{}/reuse-not:1", fixture.proxy.host()));
    assert!(
        other_repository.all().contains("made cache-layer"),
        "{other_repository:?}"
    );
}

#[test]
fn a_layer_that_is_kept_without_its_contents_gets_to_every_output() {
    let (here, there) = (
        DockerRegistry::start(Guard::Open),
        DockerRegistry::start(Guard::Open),
    );
    let writes = "if test -e $1/kept.toml; then echo 'kept it'; \
         else mkdir $1/kept; echo kept > $1/kept/file; fi; printf '[types]\\nlaunch = true\\n' > $1/kept.toml";
    let (app, buildpack) = (
        Folder::new(&[("hello.txt", "kept")]),
        Folder::scripts("keeps", "exit 0", writes),
    );
    let (app, buildpack) = (app.text(), buildpack.text());
    let [first, second] = [&here, &there].map(|registry| format!("{}/kept:1", registry.host()));
    let arguments = ["build", &app, "--buildpack", &buildpack, "-t", &first];
    let digest = Machine::alone().run(&arguments).ok().digest();

    // Another machine, which never had the layer.
    let other = Machine::alone();
    let layout = other.folder().join("layout").display().to_string();
    let into_layout = format!("oci:{layout}");
    let more = ["-t", &second, "-o", "registry", "-o", &into_layout, "--force"];
    let run = other.run(&[&arguments[..], &more].concat()).ok();
    assert!(run.all().contains("kept it"), "{run:?}");
    assert_eq!(run.digest(), digest);
    for image in [format!("docker://{second}"), format!("{into_layout}:1")] {
        assert_eq!(Image::read(&image).digest, digest);
    }
    let kept = Image::read(&format!("{into_layout}:1")).file("layers/test_keeps/kept/file");
    assert_eq!(kept.as_deref(), Some("kept\n"));
    // What is in a layout alone gets to a registry, too.
    let third = format!("{}/third:1", there.host());
    let from_layout = [
        "build",
        &app,
        "--buildpack",
        &buildpack,
        "-o",
        &into_layout,
        "-o",
        "registry",
        "-t",
        &third,
        "--force",
    ];
    let run = Machine::alone().run(&from_layout).ok();
    assert!(run.all().contains("kept it"), "{run:?}");
    assert_eq!(Image::read(&format!("docker://{third}")).digest, digest);
}

#[test]
fn a_layer_that_a_later_buildpack_changes_is_in_the_image_as_it_ended() {
    let machine = Machine::new();
    let app = Folder::new(&[("hello.txt", "late")]);
    let first = Folder::scripts(
        "first",
        "exit 0",
        "mkdir $1/layer; echo early > $1/layer/file; printf '[types]\\nlaunch = true\\n' > $1/layer.toml",
    );
    // By then the layer has been written, with what the first left in it.
    let later = Folder::scripts(
        "later",
        "exit 0",
        "sleep 1; echo late > $1/../test_first/layer/file",
    );
    let layout = format!("oci:{}", machine.folder().join("image").display());
    let [app, first, later] = [&app, &first, &later].map(Folder::text);
    let run = machine
        .run(&[
            "build",
            &app,
            "--buildpack",
            &first,
            "--buildpack",
            &later,
            "-o",
            &layout,
        ])
        .ok();
    let file = Image::read(&layout).file("layers/test_first/layer/file");
    assert_eq!(file.as_deref(), Some("late\n"), "{run:?}");
    assert!(
        run.all()
            .contains("warning: layer layer of test/first was changed by a later buildpack"),
        "{run:?}"
    );
}

#[test]
fn a_changed_variable_or_buildpack_is_a_change() {
    let fixture = Fixture::new("two-scripts");
    fixture.build(&[]).ok();
    // Variables and comments do not end in the image, so an earlier run of this test has receipts of them: these are
    // new each time.
    let unique = fixture.machine.folder().display().to_string();
    for more in [
        &["--env", &format!("A=1{unique}")][..],
        &["--env", &format!("A=2{unique}")],
        &["--creation-time", "5"],
    ] {
        let run = fixture.build(more).ok();
        assert!(!run.all().contains("nothing changed"), "{more:?}: {run:?}");
        let again = fixture.build(more).ok();
        assert!(again.all().contains("nothing changed"), "{more:?}: {again:?}");
    }
    fixture
        .buildpack
        .shell(&format!("echo '# {unique}' >> bin/build"));
    assert!(!fixture.build(&[]).ok().all().contains("nothing changed"));
}

#[test]
fn two_builds_of_one_app_at_once_both_succeed() {
    let fixture = Fixture::new("writes-layers");
    let (app, buildpack, tag) = (fixture.app.text(), fixture.buildpack.text(), fixture.tag());
    let arguments = ["build", &app, "--buildpack", &buildpack, "-t", &tag, "--force"];
    let running = [(); 2].map(|()| fixture.machine.packhorse(&arguments).start());
    let [first, second] = running.map(|one| one.wait_with_others().ok());
    assert_eq!(first.digest(), second.digest());
    assert!(
        fixture
            .build(&["--force"])
            .ok()
            .all()
            .contains("found cache-layer")
    );
}
