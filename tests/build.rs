//! A source becomes an image: outputs, labels, reports, what is printed; read by tools that are not ours.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::flock;
use serde_json::Value;
use serde_json::json;

use crate::support::app::Folder;
use crate::support::home::Machine;
use crate::support::home::succeed;
use crate::support::image::Image;
use crate::support::image::holds_text;
use crate::support::image::is_root;
use crate::support::image::skopeo;
use crate::support::left_out::left_out;
use crate::support::registry::DockerRegistry;
use crate::support::registry::Guard;

/// The first build of an app with the two-script buildpack.
struct Fixture {
    machine: Machine,
    app: Folder,
    buildpack: Folder,
}

impl Fixture {
    fn new() -> Self {
        let app = Folder::new(&[("hello.txt", "hello\n"), ("folder/file", "1")]);
        Self {
            machine: Machine::new(),
            app,
            buildpack: Folder::buildpack("two-scripts"),
        }
    }

    fn layout(&self) -> String {
        format!("oci:{}", self.machine.folder().join("image").display())
    }

    /// `build APP --buildpack …` and more.
    fn arguments<'a>(app: &'a str, buildpack: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["build", app, "--buildpack", buildpack][..], more].concat()
    }

    fn build(&self, more: &[&str]) -> crate::support::run::Run {
        self.machine
            .run(&Self::arguments(&self.app.text(), &self.buildpack.text(), more))
            .ok()
    }
}

#[test]
fn what_a_build_writes_into_its_source_is_no_part_of_it() {
    let fixture = Fixture::new();
    let output = format!("oci:{}/image", fixture.app.text());
    let report = format!("{}/folder/report", fixture.app.text());
    let arguments = ["-o", &output, "--report-output-dir", &report];
    let first = fixture.build(&arguments).digest();
    let again = fixture.build(&arguments);
    assert!(again.all().contains("nothing changed"), "{}", again.all());
    assert_eq!(
        fixture.build(&[&arguments[..], &["--force"]].concat()).digest(),
        first
    );
    // Written by nobody but a user, the same folders are the source's.
    assert_ne!(
        fixture.build(&["-o", &fixture.layout(), "--force"]).digest(),
        first
    );
    assert!(fixture.app.path().join("image/oci-layout").is_file());
    assert!(fixture.app.path().join("folder/report/report.toml").is_file());
}

#[test]
fn a_layout_is_what_the_specification_asks_for() {
    let fixture = Fixture::new();
    let run = fixture.build(&["-o", &fixture.layout()]);
    let image = Image::read(&fixture.layout());
    assert_eq!(image.digest, run.digest());
    assert_eq!(
        image.manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        image.made_by().split_at(1).1,
        [
            "Layer: 'greeting', Created by buildpack: test/two-scripts@1.0.0",
            "Software Bill-of-Materials",
            "Application Layer",
            "Buildpacks Application Launcher",
            "Buildpacks Launcher Config",
            "Buildpacks Process Types",
        ]
    );
    let config = &image.config["config"];
    assert_eq!(config["Entrypoint"], json!(["/cnb/process/web"]));
    assert_eq!(config["Cmd"], Value::Null);
    assert_eq!(config["WorkingDir"], "/workspace");
    assert_eq!(config["User"], "1000:1000");
    assert_eq!(image.config["created"], "1980-01-01T00:00:01Z");
    assert_eq!(
        (&image.config["os"], &image.config["architecture"]),
        (&json!("linux"), &json!("amd64"))
    );
    let environment = image.environment();
    assert!(
        environment["PATH"].starts_with("/cnb/process:/cnb/lifecycle:/usr/local/sbin:"),
        "{environment:?}"
    );
    assert_eq!(environment["CNB_LAYERS_DIR"], "/layers");
    assert_eq!(environment["CNB_APP_DIR"], "/workspace");
    assert_eq!(environment["CNB_PLATFORM_API"], "0.15");

    let lifecycle = image.json_label("io.buildpacks.lifecycle.metadata");
    let diff_ids = image.diff_ids();
    assert_eq!(lifecycle["buildpacks"][0]["key"], "test/two-scripts");
    let greeting = &lifecycle["buildpacks"][0]["layers"]["greeting"];
    assert_eq!(
        *greeting,
        json!({"sha": diff_ids[1], "data": null, "build": false, "launch": true, "cache": false})
    );
    for (position, name) in [(2, "sbom"), (4, "launcher"), (5, "config"), (6, "process-types")] {
        assert_eq!(lifecycle[name]["sha"], json!(diff_ids[position]), "{name}");
    }
    assert_eq!(lifecycle["app"], json!([{"sha": diff_ids[3]}]));
    assert_eq!(lifecycle["runImage"]["topLayer"], json!(diff_ids[0]));
    let build = image.json_label("io.buildpacks.build.metadata");
    assert_eq!(
        build["buildpacks"],
        json!([{"id": "test/two-scripts", "version": "1.0.0"}])
    );
    assert_eq!(build["processes"][0]["type"], "web");
    assert_eq!(
        build["processes"][0]["command"],
        json!(["cat", "/layers/test_two-scripts/greeting/text"])
    );
    assert_eq!(image.label("io.buildpacks.project.metadata"), "{}");
    assert_eq!(image.label("io.buildpacks.exec-env"), "production");
    assert_eq!(image.label("io.buildpacks.base.distro.name"), "debian");
    assert_eq!(image.label("io.buildpacks.base.distro.version"), "13");
}

#[test]
fn a_layout_without_a_name_holds_the_last_image_alone() {
    let fixture = Fixture::new();
    fixture.build(&["-o", &fixture.layout()]);
    fixture.app.write("hello.txt", "another");
    let second = fixture.build(&["-o", &fixture.layout()]);
    // skopeo refuses a layout from which it cannot choose.
    assert_eq!(Image::read(&fixture.layout()).digest, second.digest());
}

#[test]
fn a_layout_holds_an_image_for_each_name() {
    let fixture = Fixture::new();
    let first = fixture.build(&["-o", &fixture.layout(), "-t", "app.example/app:1"]);
    fixture.app.write("hello.txt", "another");
    let second = fixture.build(&["-o", &fixture.layout(), "-t", "app.example/app:2"]);
    assert_eq!(
        Image::read(&format!("{}:1", fixture.layout())).digest,
        first.digest()
    );
    assert_eq!(
        Image::read(&format!("{}:2", fixture.layout())).digest,
        second.digest()
    );
}

#[test]
fn others_unpack_and_run_the_image() {
    let fixture = Fixture::new();
    fixture.build(&["-o", &fixture.layout()]);
    let unpacked = Image::read(&fixture.layout()).unpack();
    assert_eq!(
        fs::read_to_string(unpacked.path().join("workspace/folder/file")).unwrap(),
        "1"
    );
    assert_eq!(succeed(&mut unpacked.command(None, &[], &[])), "hello\n");
    let user = succeed(&mut unpacked.command(Some("launcher"), &["id -u; id -g; pwd"], &[]));
    assert_eq!(user, "1000\n1000\n/workspace\n");
}

#[test]
fn two_outputs_get_the_same_image_in_one_build() {
    let fixture = Fixture::new();
    let registry = DockerRegistry::start(Guard::Open);
    let tag = format!("{}/team/two-outputs:1.5", registry.host());
    let run = fixture.build(&["-t", &tag, "-o", "registry", "-o", &fixture.layout()]);
    let pushed = Image::read(&format!("docker://{tag}"));
    let written = Image::read(&format!("{}:1.5", fixture.layout()));
    assert_eq!(pushed.digest, run.digest());
    assert_eq!(written.digest, run.digest());
    assert!(run.all().contains(&tag), "{run:?}");
    // What skopeo fetches is checked by it, blob by blob.
    let copied = format!("oci:{}:x", fixture.machine.folder().join("copied").display());
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        &format!("docker://{tag}"),
        &copied,
    ]);
    assert_eq!(Image::read(&copied).digest, run.digest());
}

#[test]
fn two_tags_are_pushed_in_one_build() {
    let fixture = Fixture::new();
    let registry = DockerRegistry::start(Guard::Open);
    let tags = ["1", "latest"].map(|tag| format!("{}/two-tags:{tag}", registry.host()));
    let run = fixture.build(&["-t", &tags[0], "-t", &tags[1]]);
    for tag in &tags {
        assert_eq!(Image::read(&format!("docker://{tag}")).digest, run.digest());
    }
}

#[test]
fn a_registry_with_a_password_takes_what_docker_is_logged_in_to() {
    let fixture = Fixture::new();
    let registry = DockerRegistry::start(Guard::Password);
    let tag = format!("{}/with-password:1", registry.host());
    // me:s3cret
    let login = json!({"auths": {registry.host(): {"auth": "bWU6czNjcmV0"}}});
    fixture.machine.write(".docker/config.json", &login.to_string());
    let run = fixture.build(&["-t", &tag]);
    let raw = skopeo(&[
        "inspect",
        "--tls-verify=false",
        "--creds",
        "me:s3cret",
        "--raw",
        &format!("docker://{tag}"),
    ]);
    assert_eq!(crate::support::image::digest_of(raw.as_bytes()), run.digest());
    assert!(!run.all().contains("s3cret") && !run.all().contains("bWU6czNjcmV0"));
    for secret in ["s3cret", "bWU6czNjcmV0"] {
        assert_eq!(
            holds_text(&fixture.machine.store().join("receipts"), secret),
            [] as [&Path; 0]
        );
    }
}

#[test]
fn a_registry_with_a_private_authority_is_trusted_when_its_certificate_is() {
    let fixture = Fixture::new();
    let registry = DockerRegistry::start(Guard::Tls);
    let tag = format!("{}/with-tls:1", registry.host());
    // The system's authorities must stay: the base may be missing still.
    let both = fixture.machine.folder().join("both.pem");
    let system = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap();
    fs::write(
        &both,
        format!("{system}\n{}", fs::read_to_string(registry.ca_file()).unwrap()),
    )
    .unwrap();
    let (app, buildpack) = (fixture.app.text(), fixture.buildpack.text());
    let build = fixture
        .machine
        .packhorse(&Fixture::arguments(&app, &buildpack, &["-t", &tag]));
    let run = build.env("SSL_CERT_FILE", &both).run().ok();
    assert_eq!(Image::read(&format!("docker://{tag}")).digest, run.digest());
}

#[test]
fn without_an_output_the_image_is_in_the_local_store_under_the_apps_name() {
    let machine = Machine::alone();
    let app = machine.folder().join("shop");
    fs::create_dir(&app).unwrap();
    fs::write(app.join("hello.txt"), "local\n").unwrap();
    let buildpack = Folder::buildpack("two-scripts");
    let build = machine
        .run(&[
            "build",
            &app.display().to_string(),
            "--buildpack",
            &buildpack.text(),
        ])
        .ok();
    assert_eq!(machine.run(&["run", "shop"]).ok().stdout, "local\n");
    let inspected = machine.run(&["inspect", "shop"]).ok().stdout;
    assert!(
        inspected.contains(&build.digest()) && inspected.contains("test/two-scripts"),
        "{inspected}"
    );
    let json: Value = serde_json::from_str(&machine.run(&["inspect", "shop", "--json"]).ok().stdout).unwrap();
    assert!(json.to_string().contains(&build.digest()), "{json}");
}

#[test]
fn the_image_in_a_registry_or_a_layout_can_be_inspected() {
    let fixture = Fixture::new();
    let registry = DockerRegistry::start(Guard::Open);
    let tag = format!("{}/inspected:1", registry.host());
    let run = fixture.build(&["-t", &tag, "-o", "registry", "-o", &fixture.layout()]);
    for name in [&tag, &fixture.layout()] {
        let text = fixture.machine.run(&["inspect", name]).ok().stdout;
        assert!(
            text.contains(&run.digest()) && text.contains("greeting") && text.contains("web"),
            "{name}: {text}"
        );
        let json: Value =
            serde_json::from_str(&fixture.machine.run(&["inspect", "--json", name]).ok().stdout).unwrap();
        assert!(json.is_object(), "{json}");
    }
}

#[test]
fn quiet_prints_the_digest_and_nothing_else() {
    let fixture = Fixture::new();
    let run = fixture.build(&["-q", "-o", &fixture.layout()]);
    assert_eq!(run.stdout.trim_end(), Image::read(&fixture.layout()).digest);
    assert_eq!((run.stdout.lines().count(), run.stderr.as_str()), (1, ""));
}

#[test]
fn json_progress_is_one_object_a_line() {
    let fixture = Fixture::new();
    let run = fixture.build(&["--progress", "json", "-o", &fixture.layout()]);
    let lines: Vec<Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    assert!(lines.len() > 5 && lines.iter().all(Value::is_object), "{lines:?}");
    let all = run.stdout;
    for phase in ["source", "detect", "restore", "build", "export", "publish"] {
        assert!(all.contains(&format!("\"{phase}\"")), "{phase}: {all}");
    }
    assert!(all.contains(&Image::read(&fixture.layout()).digest));
}

#[test]
fn output_into_a_pipe_has_no_colours() {
    let fixture = Fixture::new();
    let (app, buildpack, layout) = (fixture.app.text(), fixture.buildpack.text(), fixture.layout());
    let arguments = Fixture::arguments(&app, &buildpack, &["--force", "-o", &layout]);
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "xterm-256color")] {
        let run = fixture.machine.packhorse(&arguments).env(name, value).run().ok();
        assert!(!run.all().contains('\u{1b}'), "{run:?}");
    }
}

/// Builds and pushes everything to a new registry, on a terminal.
fn push_on_a_terminal(fixture: &Fixture, variables: &[(&str, &str)]) -> crate::support::run::Run {
    let registry = DockerRegistry::start(Guard::Open);
    let (app, buildpack) = (fixture.app.text(), fixture.buildpack.text());
    let tag = format!("{}/on-a-terminal:1", registry.host());
    let arguments = Fixture::arguments(&app, &buildpack, &["--force", "-t", &tag]);
    let invocation = fixture.machine.packhorse(&arguments);
    let invocation = variables.iter().fold(invocation, |invocation, (name, value)| {
        invocation.env(name, value)
    });
    invocation.on_a_terminal().run().ok()
}

const ERASE_LINE: &str = "\u{1b}[2K";

#[test]
fn on_a_terminal_transfers_move_and_words_have_colours() {
    let run = push_on_a_terminal(&Fixture::new(), &[("TERM", "xterm-256color")]);
    // How fast it goes is told by what moves alone.
    for wanted in [ERASE_LINE, "B/s", "\u{1b}[1m"] {
        assert!(run.stdout.contains(wanted), "{wanted:?}: {run:?}");
    }
}

#[test]
fn on_a_terminal_without_colours_transfers_move() {
    let variables = [("TERM", "xterm-256color"), ("NO_COLOR", "1")];
    let run = push_on_a_terminal(&Fixture::new(), &variables);
    for wanted in [ERASE_LINE, "B/s"] {
        assert!(run.stdout.contains(wanted), "{wanted:?}: {run:?}");
    }
    // What sets colours and weight ends with an `m`.
    let mut sequences = run.stdout.split("\u{1b}[").skip(1);
    let is_style = |text: &str| text.chars().find(char::is_ascii_alphabetic) == Some('m');
    assert!(!sequences.any(is_style), "{run:?}");
}

#[test]
fn on_a_terminal_that_cannot_move_transfers_are_lines() {
    let run = push_on_a_terminal(&Fixture::new(), &[("TERM", "dumb")]);
    assert!(!run.stdout.contains('\u{1b}'), "{run:?}");
    assert!(run.stdout.contains("\n  push "), "{run:?}");
}

#[test]
fn a_person_sees_phases_buildpacks_layers_and_where_the_time_went() {
    let fixture = Fixture::new();
    let noisy = Folder::scripts(
        "noisy",
        "exit 0",
        "echo \"  as it is\tto the letter\"; echo warning >&2",
    );
    let (app, buildpack, layout) = (fixture.app.text(), noisy.text(), fixture.layout());
    let run = fixture
        .machine
        .run(&Fixture::arguments(&app, &buildpack, &["-o", &layout]))
        .ok();
    for wanted in [
        "test/noisy",
        "      as it is\tto the letter\n",
        "    warning\n",
        "layers",
        "added",
        "time ",
        "digest sha256:",
    ] {
        assert!(run.all().contains(wanted), "{wanted:?}:\n{}", run.all());
    }
}

#[test]
fn a_report_is_written() {
    let fixture = Fixture::new();
    let folder = fixture.machine.folder().join("report");
    let run = fixture.build(&[
        "-o",
        &fixture.layout(),
        "--report-output-dir",
        &folder.display().to_string(),
    ]);
    let report: toml::Value =
        toml::from_str(&fs::read_to_string(folder.join("report.toml")).unwrap()).unwrap();
    assert_eq!(report["image"]["digest"].as_str(), Some(run.digest().as_str()));
    let manifest = skopeo(&["inspect", "--raw", &fixture.layout()]);
    assert_eq!(
        report["image"]["manifest-size"].as_integer(),
        Some(i64::try_from(manifest.len()).unwrap())
    );
    let json: Value = serde_json::from_str(&fs::read_to_string(folder.join("report.json")).unwrap()).unwrap();
    assert!(json.to_string().contains(&run.digest()), "{json}");
}

#[test]
fn a_report_is_written_of_a_failure_too() {
    let fixture = Fixture::new();
    let folder = fixture.machine.folder().join("report");
    let failing = Folder::buildpack("build-fails");
    let (app, buildpack, report) = (fixture.app.text(), failing.text(), folder.display().to_string());
    let more = ["-o", &fixture.layout(), "--report-output-dir", &report];
    fixture
        .machine
        .run(&Fixture::arguments(&app, &buildpack, &more))
        .fails(51, "buildpack_failed");
    let json: Value = serde_json::from_str(&fs::read_to_string(folder.join("report.json")).unwrap()).unwrap();
    assert!(json.to_string().contains("buildpack_failed"), "{json}");
}

#[test]
fn a_plan_says_who_would_build_and_builds_nothing() {
    let machine = Machine::new();
    let app = Folder::new(&[("hello.txt", "plan")]);
    let (fits, does_not) = (
        Folder::buildpack("two-scripts"),
        Folder::buildpack("detect-fails"),
    );
    let text = machine
        .run(&["plan", &app.text(), "--buildpack", &fits.text()])
        .ok()
        .stdout;
    assert!(text.contains("test/two-scripts"), "{text}");
    let text = machine
        .run(&["plan", "--json", &app.text(), "--buildpack", &fits.text()])
        .ok()
        .stdout;
    let plan: Value = serde_json::from_str(&text).unwrap();
    assert!(plan.to_string().contains("test/two-scripts"), "{plan}");
    let run = machine.run(&["plan", &app.text(), "--buildpack", &does_not.text()]);
    run.fails(20, "no_buildpack_detected");
    assert_eq!(fs::read_dir(app.path()).unwrap().count(), 1);
}

#[test]
fn gits_ignore_list_does_not_count_and_its_own_folder_is_left_out() {
    let fixture = Fixture::new();
    fixture.app.write(".gitignore", "ignored\n");
    fixture.app.write("ignored", "x");
    fixture.app.shell("git init -q . && git add -A");
    fixture.build(&["-o", &fixture.layout()]);
    let image = Image::read(&fixture.layout());
    assert_eq!(image.file("workspace/ignored").as_deref(), Some("x"));
    assert_eq!(image.file("workspace/.git/HEAD"), None);
    let with_git = format!("{}-with-git", fixture.layout());
    fixture.build(&["-o", &with_git, "--keep-git"]);
    assert!(Image::read(&with_git).file("workspace/.git/HEAD").is_some());
}

#[test]
fn the_time_of_creation_is_the_users_or_1980() {
    let fixture = Fixture::new();
    fixture.build(&["-o", &fixture.layout(), "--creation-time", "1700000000"]);
    let image = Image::read(&fixture.layout());
    assert_eq!(image.config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(
        image.label("org.opencontainers.image.created"),
        "2023-11-14T22:13:20Z"
    );
    let (app, buildpack, layout) = (
        fixture.app.text(),
        fixture.buildpack.text(),
        format!("{}-2", fixture.layout()),
    );
    let build = fixture
        .machine
        .packhorse(&Fixture::arguments(&app, &buildpack, &["-o", &layout]));
    build.env("SOURCE_DATE_EPOCH", "1600000000").run().ok();
    assert_eq!(Image::read(&layout).config["created"], "2020-09-13T12:26:40Z");
}

#[test]
fn what_is_kept_is_listed_and_pruned() {
    let machine = Machine::alone();
    let (app, buildpack) = (
        Folder::new(&[("hello.txt", "prune")]),
        Folder::buildpack("two-scripts"),
    );
    machine
        .run(&["build", &app.text(), "--buildpack", &buildpack.text()])
        .ok();
    let listed = machine.run(&["cache", "list"]).ok().stdout;
    assert!(!listed.trim().is_empty(), "{listed}");
    let list = || machine.run(&["cache", "list", "--json"]).ok().stdout;
    assert!(serde_json::from_str::<Value>(&list()).unwrap().is_object());
    let receipts = || {
        let mut find = std::process::Command::new("find");
        succeed(find.arg(machine.store().join("receipts")).args(["-type", "f"]))
            .lines()
            .count()
    };
    assert_eq!(receipts(), 1);
    machine.run(&["cache", "prune", "--older-than", "30d"]).ok();
    assert_eq!(receipts(), 1, "nothing was old");
    let store = machine.store().display();
    succeed(std::process::Command::new("sh").args([
        "-c",
        &format!("find {store}/receipts -type f -exec touch -d '2 hours ago' {{}} +"),
    ]));
    machine.run(&["cache", "prune", "--older-than", "1h"]).ok();
    assert_eq!(receipts(), 0, "{}", list());
    // What was pruned is made again; nothing of it was needed.
    machine
        .run(&["build", &app.text(), "--buildpack", &buildpack.text()])
        .ok();
}

#[test]
fn no_image_is_written_while_its_blobs_could_be_pruned() {
    let machine = Machine::alone();
    let (app, buildpack) = (
        Folder::new(&[("hello.txt", "prune beside")]),
        Folder::buildpack("two-scripts"),
    );
    // As `cache prune` holds it while it removes what no image has.
    let lock = fs::File::create(machine.store().join("images.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let mut build = machine
        .packhorse(&["build", &app.text(), "--buildpack", &buildpack.text()])
        .arg("--progress=json")
        .start();
    build.until_said("process-types");
    std::thread::sleep(Duration::from_secs(3));
    let blobs = machine.store().join("images/blobs/sha256");
    let written = fs::read_dir(&blobs).into_iter().flatten().count();
    assert_eq!(written, 0, "blobs were written into a prune");
    drop(lock);
    build.wait().ok();
    assert!(fs::read_dir(&blobs).unwrap().count() > 0);
}

#[test]
fn a_tree_that_is_hard_to_remove_does_not_fill_the_trash() {
    if !is_root() {
        left_out("only root can mount something that cannot be removed");
        return;
    }
    let machine = Machine::bare();
    let trash = machine.store().join("trash");
    for name in ["a", "b", "c", "d", "e", "f"] {
        let top = trash.join(name);
        fs::create_dir_all(&top).unwrap();
        let mut folder = rustix::fs::open(&top, OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&folder, "d", Mode::RWXU).unwrap();
            folder = rustix::fs::openat(&folder, "d", OFlags::PATH, Mode::empty()).unwrap();
        }
    }
    fs::create_dir(trash.join("mounted")).unwrap();
    let mount = format!(
        "mount -t tmpfs tmpfs {}; ulimit -n 256; exec \"$@\"",
        trash.join("mounted").display()
    );
    let prune = machine.packhorse(&["cache", "prune"]).through(&[
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        &mount,
        "sh",
    ]);
    prune.run().fails(1, "store_unusable");
    let left: Vec<_> = fs::read_dir(&trash)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["mounted"]);
    machine.run(&["cache", "prune"]).ok();
    assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
}

#[test]
fn the_base_can_be_looked_into() {
    let machine = Machine::new();
    let text = machine.run(&["base", "inspect"]).ok().stdout;
    assert!(text.contains("trixie") || text.contains("13"), "{text}");
    let json: Value = serde_json::from_str(&machine.run(&["base", "inspect", "--json"]).ok().stdout).unwrap();
    assert!(json.to_string().contains("libc6"), "{json}");
    let lock = machine.run(&["base", "inspect", "--lock"]).ok().stdout;
    assert!(lock.contains("libc6") && lock.contains("sha256"), "{lock}");
}

#[test]
fn every_help_fits_eighty_columns() {
    let machine = Machine::new();
    let commands: [&[&str]; 9] = [
        &[],
        &["build"],
        &["plan"],
        &["run"],
        &["inspect"],
        &["base", "create"],
        &["base", "inspect"],
        &["cache", "list"],
        &["cache", "prune"],
    ];
    for command in commands {
        let run = machine
            .packhorse(&[command, &["--help"]].concat())
            .env("COLUMNS", "80")
            .run()
            .ok();
        let long: Vec<_> = run
            .stdout
            .lines()
            .filter(|line| line.chars().count() > 80)
            .collect();
        assert!(
            long.is_empty() && run.stdout.contains("Usage"),
            "{command:?}: {long:#?}"
        );
    }
}
