//! Bad input: each failure has its exit code, its stable code, one message, and leaves nothing half-made.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::app::Folder;
use crate::support::git::GitServer;
use crate::support::git::Work;
use crate::support::home::Machine;
use crate::support::home::base_store;
use crate::support::home::succeed;
use crate::support::image::Image;
use crate::support::image::is_root;
use crate::support::left_out::left_out;
use crate::support::proxy::Act;
use crate::support::proxy::Proxy;
use crate::support::redact::redact;
use crate::support::registry::DockerRegistry;
use crate::support::registry::Guard;
use crate::support::registry::Response;
use crate::support::registry::Scripted;
use crate::support::run::Run;

/// The message about a limit: what used it up has its numbers replaced, in the order of the alphabet, and only lines with
/// `kept` in them.
fn limit_message(run: &Run, kept: &str) -> String {
    let message = redact(&run.message(), &[]);
    let (mut users, others): (Vec<String>, Vec<String>) = message
        .lines()
        .map(str::to_owned)
        .partition(|line| line.starts_with("  "));
    assert!(!users.is_empty(), "nobody is named: {message}");
    users.retain(|line| line.contains(kept));
    for line in &mut users {
        *line = line
            .chars()
            .map(|letter| if letter.is_ascii_digit() { '#' } else { letter })
            .collect();
        while line.contains("##") {
            *line = line.replace("##", "#");
        }
    }
    users.sort();
    users.dedup();
    let mut lines = others;
    lines.splice(1..1, users);
    lines.join("\n")
}

/// Compares a failure's message with its snapshot.
macro_rules! assert_message {
    ($run:expr, $exit:expr, $code:expr, $($path:expr => $name:expr),* $(,)?) => {{
        let run = $run.fails($exit, $code);
        let message = redact(&run.message(), &[$((Path::new(&$path), $name)),*]);
        insta::assert_snapshot!(message);
        run
    }};
}

fn layout_in(machine: &Machine) -> String {
    format!("oci:{}", machine.folder().join("image").display())
}

/// Builds `app` with `buildpack` into a layout, which a failure must not make.
fn build(app: &Folder, buildpack: &Folder, more: &[&str]) -> Run {
    let machine = Machine::new();
    let layout = layout_in(&machine);
    let (app, buildpack) = (app.text(), buildpack.text());
    let run = machine.run(&[&["build", &app, "--buildpack", &buildpack, "-o", &layout], more].concat());
    let has_image = machine.folder().join("image/index.json").exists() && Image::try_read(&layout);
    assert_eq!(has_image, run.code == Some(0), "{run:?}");
    run
}

/// Builds a fixture with the built-in buildpacks.
fn build_fixture(name: &str) -> (Folder, Run) {
    let machine = Machine::new();
    let app = Folder::fixture(&format!("apps/{name}"));
    let run = machine.run(&["build", &app.text(), "-o", &layout_in(&machine)]);
    (app, run)
}

/// What a message has between two texts.
fn between(run: &Run, before: &str, after: &str) -> String {
    let message = run.message();
    let found = message
        .split_once(before)
        .and_then(|(_, rest)| rest.split_once(after));
    found
        .unwrap_or_else(|| panic!("no {before:?}: {run:?}"))
        .0
        .to_owned()
}

fn some_app() -> Folder {
    Folder::new(&[("hello.txt", "hello")])
}

#[test]
fn no_such_directory() {
    let machine = Machine::new();
    assert_message!(machine.run(&["build", "nowhere"]), 10, "source_not_found", machine.home() => "[HOME]");
}

#[test]
fn no_such_folder_in_the_directory() {
    let machine = Machine::new();
    let app = some_app();
    let run = machine.run(&["build", &format!("{}#:nowhere", app.text())]);
    assert_message!(run, 10, "subdirectory_not_found", app.path() => "[APP]");
}

#[test]
fn no_such_repository() {
    let machine = Machine::new();
    let run = machine.run(&["build", "file:///nowhere/app.git", "-o", &layout_in(&machine)]);
    assert_message!(run, 10, "source_not_found",);
}

#[test]
fn no_such_revision() {
    let machine = Machine::new();
    let work = Work::new();
    work.commit("hello.txt", "1");
    let server = GitServer::start(work.folder.path(), None);
    let url = format!("{}/app/.git#release", server.url());
    assert_message!(
        machine.run(&["build", &url, "-o", &layout_in(&machine)]),
        10,
        "revision_not_found",
    );
}

#[test]
fn no_such_subdirectory() {
    let machine = Machine::new();
    let work = Work::new();
    work.commit("hello.txt", "1");
    let url = format!("file://{}#main:web", work.path().display());
    let run = machine.run(&["build", &url, "-o", &layout_in(&machine)]);
    assert_message!(run, 10, "subdirectory_not_found", work.folder.path() => "[WORK]");
}

#[test]
fn the_repository_needs_credentials() {
    let machine = Machine::new();
    let work = Work::new();
    work.commit("hello.txt", "1");
    let server = GitServer::start(work.folder.path(), Some("me:s3cret"));
    for url in [
        format!("{}/app/.git", server.url()),
        format!("http://me:wrong@{}/app/.git", server.authority()),
    ] {
        let run = machine.run(&["build", &url, "-o", &layout_in(&machine)]);
        assert!(!run.all().contains("wrong"), "{run:?}");
        run.fails(10, "source_credentials_needed");
    }
    let run = machine.run(&[
        "build",
        &format!("{}/app/.git", server.url()),
        "-o",
        &layout_in(&machine),
    ]);
    assert_message!(run, 10, "source_credentials_needed",);
}

#[test]
fn the_git_server_does_not_answer() {
    let machine = Machine::new();
    let port = crate::support::ask::free_port();
    let run = machine.run(&[
        "build",
        &format!("http://127.0.0.1:{port}/app.git"),
        "-o",
        &layout_in(&machine),
    ]);
    assert_message!(run, 75, "source_unreachable",);
}

#[test]
fn no_buildpack_fits() {
    let machine = Machine::new();
    let app = Folder::new(&[("readme.txt", "nothing that anybody builds")]);
    let run = machine.run(&["build", &app.text(), "-o", &layout_in(&machine)]);
    assert_message!(run, 20, "no_buildpack_detected", app.path() => "[APP]");
}

#[test]
fn no_named_buildpack_fits() {
    let app = some_app();
    let run = build(&app, &Folder::buildpack("detect-fails"), &[]);
    assert_message!(run, 20, "no_buildpack_detected", app.path() => "[APP]");
}

#[test]
fn a_detect_script_that_cannot_tell() {
    let app = some_app();
    let run = build(&app, &Folder::buildpack("detect-errors"), &[]);
    assert_message!(run, 21, "detect_errored", app.path() => "[APP]");
}

#[test]
fn a_buildpack_that_is_none() {
    let machine = Machine::new();
    let (app, empty) = (some_app(), Folder::new(&[]));
    let run = machine.run(&[
        "build",
        &app.text(),
        "--buildpack",
        &empty.text(),
        "-o",
        &layout_in(&machine),
    ]);
    assert_message!(run, 1, "buildpack_missing", empty.path() => "[BUILDPACK]");
}

#[test]
fn a_buildpack_of_another_api() {
    let app = some_app();
    let buildpack = Folder::buildpack("two-scripts");
    buildpack.shell("sed -i 's/api = \"0.11\"/api = \"0.2\"/' buildpack.toml");
    let run = build(&app, &buildpack, &[]);
    assert_message!(run, 12, "buildpack_api_unsupported", buildpack.path() => "[BUILDPACK]");
}

#[test]
fn a_broken_package_json() {
    let (app, run) = build_fixture("node-broken-package-json");
    assert_message!(run, 51, "buildpack_failed", app.path() => "[APP]");
}

#[test]
fn a_broken_lock_file() {
    let machine = Machine::new();
    let app = Folder::fixture("apps/node-express");
    app.shell("head -c 1000 package-lock.json > cut && mv cut package-lock.json");
    let run = machine.run(&["build", &app.text(), "-o", &layout_in(&machine)]);
    let told = run.stderr.clone();
    assert_message!(run, 51, "buildpack_failed", app.path() => "[APP]");
    assert!(told.contains("package-lock.json"), "{told}");
}

#[test]
fn a_broken_procfile() {
    let (app, run) = build_fixture("procfile-broken");
    let told = run.stderr.clone();
    assert_message!(run, 51, "buildpack_failed", app.path() => "[APP]");
    assert!(told.contains("Procfile") && told.contains("line 3"), "{told}");
}

#[test]
fn an_unknown_node_version() {
    let (_app, run) = build_fixture("node-unknown-version");
    // Which versions are nearest changes with every release.
    let nearest = between(&run, "the nearest are ", "\n");
    assert!(nearest.starts_with("22."), "{nearest}");
    assert_message!(run, 51, "buildpack_failed", nearest => "[VERSIONS]");
}

#[test]
fn a_build_script_that_fails() {
    let run = build(
        &some_app(),
        &Folder::scripts("fails", "exit 0", "echo to be or not >&2; exit 7"),
        &[],
    );
    assert!(run.stderr.contains("    to be or not\n"), "{run:?}");
    assert_message!(run, 51, "buildpack_failed",);
}

#[test]
fn a_build_script_that_hangs_past_the_timeout() {
    let run = build(&some_app(), &Folder::buildpack("hangs"), &["--timeout", "3s"]);
    let elapsed = run.elapsed;
    insta::assert_snapshot!(limit_message(&run.fails(51, "buildpack_timed_out"), ""));
    assert!(elapsed < Duration::from_secs(30), "{elapsed:?}");
}

#[test]
fn a_detect_script_that_hangs_past_the_timeout() {
    let run = build(
        &some_app(),
        &Folder::buildpack("detect-hangs"),
        &["--timeout", "3s"],
    );
    let elapsed = run.elapsed;
    assert_message!(run, 51, "buildpack_timed_out",);
    assert!(elapsed < Duration::from_secs(30), "{elapsed:?}");
}

#[test]
fn a_build_script_that_floods_its_output() {
    let run = build(
        &some_app(),
        &Folder::buildpack("floods-output"),
        &["--output-limit", "1M"],
    );
    let told = run.all().len();
    assert!(told < 12 << 20, "{told} bytes came through");
    assert_message!(run, 51, "buildpack_output_limit",);
}

#[test]
fn a_build_script_that_uses_up_its_memory() {
    let run = build(
        &some_app(),
        &Folder::buildpack("eats-memory"),
        &["--memory", "64M"],
    );
    insta::assert_snapshot!(limit_message(&run.fails(51, "buildpack_out_of_memory"), "awk ("));
}

#[test]
fn a_build_script_that_starts_too_many_processes() {
    let forks = "i=0; while [ $i -lt 200 ]; do sleep 30 & i=$((i+1)); done; wait";
    let buildpack = Folder::scripts("forks", "exit 0", forks);
    let run = build(&some_app(), &buildpack, &["--processes", "40"]);
    insta::assert_snapshot!(limit_message(
        &run.fails(51, "buildpack_processes_limit"),
        "sleep"
    ));
}

#[test]
fn a_build_script_that_falls_silent() {
    let buildpack = Folder::scripts("silent", "exit 0", "echo going to wait; sleep 300; echo never");
    let run = build(&some_app(), &buildpack, &["--idle-timeout", "2s"]);
    assert!(run.elapsed < Duration::from_secs(60), "{:?}", run.elapsed);
    insta::assert_snapshot!(limit_message(&run.fails(51, "buildpack_idle"), ""));
}

#[test]
fn a_build_script_that_fills_the_disk() {
    let fills = "mkdir -p $1/large/deep/deeper; head -c 60M /dev/zero > $1/large/deep/deeper/file; \
                 head -c 5M /dev/zero > /tmp/file; sleep 60";
    let buildpack = Folder::scripts("fills", "exit 0", fills);
    let run = build(&some_app(), &buildpack, &["--disk", "30M"]);
    insta::assert_snapshot!(limit_message(&run.fails(51, "buildpack_disk_limit"), "/large"));
}

#[test]
fn a_build_script_that_makes_too_many_files() {
    let litters =
        "mkdir -p many/more; i=0; while [ $i -lt 3000 ]; do : > many/more/$i; i=$((i+1)); done; sleep 60";
    let buildpack = Folder::scripts("litters", "exit 0", litters);
    let run = build(&some_app(), &buildpack, &["--disk-files", "1000"]);
    insta::assert_snapshot!(limit_message(
        &run.fails(51, "buildpack_disk_limit"),
        "/workspace/many"
    ));
}

#[test]
fn a_build_script_that_writes_what_cannot_be_read() {
    let run = build(
        &some_app(),
        &Folder::scripts("writes", "exit 0", "echo '[types' > $1/a.toml; mkdir $1/a"),
        &[],
    );
    assert_message!(run, 52, "build_output_invalid",);
}

#[test]
fn a_tag_that_is_not_one() {
    let machine = Machine::new();
    let app = some_app();
    assert_message!(
        machine.run(&["build", &app.text(), "-t", "registry.example/Shop:1"]),
        2,
        "reference_invalid",
    );
}

#[test]
fn a_tag_that_is_a_digest() {
    let digest = "a".repeat(64);
    let run = Machine::new().run(&[
        "build",
        &some_app().text(),
        "-t",
        &format!("registry.example/shop@sha256:{digest}"),
    ]);
    assert_message!(run, 2, "output_invalid",);
}

#[test]
fn a_layout_in_a_folder_with_other_files() {
    let app = some_app();
    let output = format!("oci:{}", app.text());
    let run = Machine::new().run(&["build", &app.text(), "-o", &output]);
    assert_message!(run, 10, "layout_invalid", app.path() => "[APP]");
}

#[test]
fn standard_output_is_full() {
    let app = some_app();
    let buildpack = Folder::buildpack("two-scripts");
    let machine = Machine::new();
    let invocation = machine.packhorse(&["-q", "build", &app.text(), "--buildpack", &buildpack.text()]);
    let run = invocation
        .through(&["sh", "-c", "exec \"$@\" >/dev/full", "sh"])
        .run();
    assert_message!(run, 1, "result_unwritable",);
}

#[test]
fn an_output_that_is_not_one() {
    let machine = Machine::new();
    let app = some_app();
    assert_message!(
        machine.run(&["build", &app.text(), "-o", "floppy"]),
        2,
        "output_invalid",
    );
    machine
        .run(&["build", &app.text(), "-o", "registry"])
        .fails(2, "output_invalid");
}

#[test]
fn a_layout_that_cannot_be_written() {
    let machine = Machine::new();
    let app = some_app();
    std::fs::write(machine.folder().join("file"), "").unwrap();
    let layout = format!("oci:{}", machine.folder().join("file").display());
    let run = machine.run(&["build", &app.text(), "-o", &layout]);
    assert_message!(run, 10, "output_unwritable", machine.folder() => "[FOLDER]");
}

#[test]
fn the_registry_is_unreachable() {
    let machine = Machine::new();
    let app = some_app();
    let tag = format!("127.0.0.1:{}/app:1", crate::support::ask::free_port());
    assert_message!(
        machine.run(&["build", &app.text(), "-t", &tag]),
        75,
        "registry_unreachable",
    );
}

#[test]
fn the_registrys_certificate_is_unknown() {
    let machine = Machine::new();
    let app = some_app();
    let registry = DockerRegistry::start(Guard::Tls);
    let tag = format!("{}/app:1", registry.host());
    assert_message!(
        machine.run(&["build", &app.text(), "-t", &tag]),
        65,
        "registry_certificate",
    );
}

#[test]
fn the_registry_wants_a_password() {
    let machine = Machine::new();
    let app = some_app();
    let registry = DockerRegistry::start(Guard::Password);
    let tag = format!("{}/app:1", registry.host());
    assert_message!(
        machine.run(&["build", &app.text(), "-t", &tag]),
        65,
        "push_unauthorized",
    );
    let login = json!({"auths": {registry.host(): {"auth": "bWU6d3Jvbmc="}}});
    machine.write(".docker/config.json", &login.to_string());
    let run = machine
        .run(&["build", &app.text(), "-t", &tag])
        .fails(65, "push_unauthorized");
    assert!(
        !run.all().contains("bWU6d3Jvbmc=") && !run.all().contains("me:wrong"),
        "{run:?}"
    );
}

#[test]
fn the_registry_denies_the_push() {
    let machine = Machine::new();
    let app = some_app();
    let registry = DockerRegistry::start(Guard::Open);
    let denied =
        "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"requested access to the resource is denied\"}]}";
    let proxy = Proxy::start(&registry.host(), move |method, _| match method {
        "GET" | "HEAD" => Act::Forward,
        _ => Act::Answer("403 Forbidden", denied),
    });
    let tag = format!("{}/app:1", proxy.host());
    let run = machine.run(&["build", &app.text(), "-t", &tag]);
    // Found out before any work was done.
    assert!(!run.stderr.contains("two-scripts"), "{run:?}");
    assert_message!(run, 65, "push_denied",);
}

#[test]
fn the_registry_breaks_down_during_the_push() {
    let machine = Machine::new();
    let (app, buildpack) = (some_app(), Folder::buildpack("two-scripts"));
    let registry = DockerRegistry::start(Guard::Open);
    let proxy = Proxy::start(&registry.host(), |method, target| match method {
        "PUT" if target.contains("/manifests/") => Act::Answer("503 Service Unavailable", "{}"),
        _ => Act::Forward,
    });
    let tag = format!("{}/app:1", proxy.host());
    let run = machine.run(&["build", &app.text(), "--buildpack", &buildpack.text(), "-t", &tag]);
    assert_message!(run, 75, "registry_error",);
    let tags = Command::new("skopeo")
        .args([
            "list-tags",
            "--tls-verify=false",
            &format!("docker://{}/app", registry.host()),
        ])
        .output()
        .unwrap();
    assert!(
        !String::from_utf8_lossy(&tags.stdout).contains("\"1\""),
        "nothing may be published"
    );
}

/// `packhorse base create` with archives that answer as a test says; nothing of a base may stay.
fn create_base(mirror: &str) -> (Machine, Run) {
    let machine = Machine::bare();
    let config = machine.write(
        "packhorse.toml",
        &format!("[base]\nmirror = \"http://{mirror}/debian\"\nsecurity-mirror = \"http://{mirror}/debian-security\"\n"),
    );
    let run = machine
        .packhorse(&["base", "create"])
        .env("PACKHORSE_CONFIG", config)
        .run();
    let mut find = Command::new("find");
    find.arg(machine.store().join("bases")).args([
        "-name",
        "fs",
        "-o",
        "-name",
        "base.json",
        "-o",
        "-name",
        "current.json",
        "-o",
        "-name",
        "*.tmp*",
    ]);
    let left = String::from_utf8_lossy(&find.output().unwrap().stdout).into_owned();
    assert_eq!(left, "", "{run:?}");
    (machine, run)
}

/// What Debian's archive has there.
fn from_debian(target: &str) -> Option<Vec<u8>> {
    let fetched = Command::new("curl")
        .args([
            "-fsSL",
            "--max-time",
            "120",
            &format!("http://deb.debian.org{target}"),
        ])
        .output()
        .unwrap();
    fetched.status.success().then_some(fetched.stdout)
}

/// A mirror of Debian's archive that turns one bit around in the middle of files whose path has `part`.
fn tampering_mirror(part: &'static str) -> Scripted {
    Scripted::start(move |request| {
        let Some(mut body) = from_debian(&request.target) else {
            return Response::status(404);
        };
        if request.target.contains(part) {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        Response::status(200).body(body)
    })
}

#[test]
fn the_archive_mirror_is_unreachable() {
    let (_machine, run) = create_base(&format!("127.0.0.1:{}", crate::support::ask::free_port()));
    assert_message!(run, 75, "base_mirror_unreachable",);
}

#[test]
fn the_archives_signature_does_not_match() {
    let mirror = tampering_mirror("/trixie/InRelease");
    let (_machine, run) = create_base(&mirror.host());
    assert_message!(run, 22, "base_signature_invalid",);
}

#[test]
fn an_index_of_the_archive_does_not_match_its_hash() {
    let mirror = tampering_mirror("/dists/trixie/main/");
    let (_machine, run) = create_base(&mirror.host());
    assert_message!(run, 75, "base_hash_mismatch",);
}

#[test]
fn a_package_of_the_archive_does_not_match_its_hash() {
    let mirror = tampering_mirror("/pool/main/b/base-files/");
    let (_machine, run) = create_base(&mirror.host());
    let version = between(&run, "cannot fetch package base-files ", " for ");
    assert_message!(run, 75, "base_hash_mismatch", version => "[VERSION]");
}

/// Runs packhorse with its home on a file system of this size, with the base that all tests share.
fn on_a_small_disk(machine: &Machine, size: &str, arguments: &[&str]) -> Run {
    let small = machine.folder().join("small");
    std::fs::create_dir(&small).unwrap();
    let (shared, small_text) = (base_store().display(), small.display());
    let mount = format!("mount -t tmpfs -o mode=700,size={size} tmpfs {small_text}");
    let bases = format!("mkdir {small_text}/bases; mount --bind {shared}/bases {small_text}/bases");
    // The base counts on its layer's blob, which is bound too, so that nothing of it is made again.
    let blobs = format!(
        "mkdir -p {small_text}/blobs/sha256; for blob in $(find {shared}/blobs/sha256 -size +20M); do \
         touch {small_text}/blobs/sha256/${{blob##*/}}; mount --bind $blob {small_text}/blobs/sha256/${{blob##*/}}; done"
    );
    let script = format!("set -e; {mount}; {bases}; {blobs}; exec \"$@\"");
    let invocation = machine.packhorse(arguments).env("PACKHORSE_HOME", &small);
    invocation
        .through(&[
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
            "sh",
        ])
        .run()
}

#[test]
fn the_disk_is_full_when_the_source_is_copied() {
    if !is_root() {
        left_out("only root can mount a small disk");
        return;
    }
    let machine = Machine::new();
    let (app, buildpack) = (some_app(), Folder::buildpack("two-scripts"));
    app.shell("head -c 80M /dev/zero > large");
    let run = on_a_small_disk(
        &machine,
        "40M",
        &[
            "build",
            &app.text(),
            "--buildpack",
            &buildpack.text(),
            "-o",
            &layout_in(&machine),
        ],
    );
    assert_message!(run, 22, "disk_full", machine.folder() => "[FOLDER]");
}

#[test]
fn the_disk_is_full_when_a_layer_is_written() {
    if !is_root() {
        left_out("only root can mount a small disk");
        return;
    }
    let machine = Machine::new();
    let writes = "mkdir $1/large; head -c 30M /dev/urandom > $1/large/file; printf '[types]\\nlaunch = true\\n' > $1/large.toml";
    let (app, buildpack) = (some_app(), Folder::scripts("large", "exit 0", writes));
    let run = on_a_small_disk(
        &machine,
        "50M",
        &[
            "build",
            &app.text(),
            "--buildpack",
            &buildpack.text(),
            "-o",
            &layout_in(&machine),
        ],
    );
    assert_message!(run, 62, "disk_full", machine.folder() => "[FOLDER]");
}

#[test]
fn the_disk_is_full_when_the_base_is_made() {
    if !is_root() {
        left_out("only root can mount a small disk");
        return;
    }
    let machine = Machine::bare();
    let store = machine.store().display();
    let script = format!("set -e; mount -t tmpfs -o mode=700,size=20M tmpfs {store}; exec \"$@\"");
    let create = machine.packhorse(&["base", "create"]);
    let run = create
        .through(&[
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
            "sh",
        ])
        .run();
    // Which of the packages does not fit is a matter of luck.
    let package = between(&run, "cannot fetch package ", " for the Debian base");
    assert_message!(run, 22, "disk_full", machine.store() => "[STORE]", package => "[PACKAGE]");
}

#[test]
fn user_namespaces_are_forbidden_and_asked_for() {
    if !is_root() {
        left_out("only root can make a user namespace with every id, in which to forbid further ones");
        return;
    }
    let machine = Machine::new();
    let (app, buildpack) = (some_app(), Folder::buildpack("two-scripts"));
    let build = || {
        machine.packhorse(&[
            "build",
            &app.text(),
            "--buildpack",
            &buildpack.text(),
            "-o",
            &layout_in(&machine),
            "--force",
        ])
    };
    let holder = "unshare --user sleep 300 >/dev/null 2>&1 & holder=$!
        until test \"$(readlink /proc/$holder/ns/user)\" != \"$(readlink /proc/self/ns/user)\"; do sleep 0.05; done
        for map in uid_map gid_map; do echo 0 0 4294967295 > /proc/$holder/$map; done";
    let forbidden = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let enter =
        format!("nsenter --user --target $holder --setuid 0 --setgid 0 sh -c '{forbidden}' sh \"$@\"");
    let script = format!("{holder}; {enter}; code=$?; kill $holder; exit $code");
    let around = ["sh", "-c", &script, "sh"];
    let run = build().through(&around).run().ok();
    assert!(run.all().contains("sandbox no-user-namespace"), "{}", run.all());
    assert_eq!(run.digest(), build().run().digest());
    let run = build().arg("--sandbox=full").through(&around).run();
    assert_message!(run, 77, "sandbox_forbidden",);
}

#[test]
fn too_few_ids_are_mapped_for_what_is_asked() {
    let works = Command::new("unshare")
        .args(["--user", "--map-root-user", "true"])
        .status()
        .unwrap()
        .success();
    if !works {
        left_out("this machine forbids user namespaces");
        return;
    }
    let machine = Machine::new();
    let (app, buildpack) = (some_app(), Folder::buildpack("two-scripts"));
    let build = || {
        machine.packhorse(&[
            "build",
            &app.text(),
            "--buildpack",
            &buildpack.text(),
            "-o",
            &layout_in(&machine),
            "--force",
        ])
    };
    let around = ["unshare", "--user", "--map-root-user"];
    let run = build().through(&around).run().ok();
    assert!(run.all().contains("sandbox single-id"), "{}", run.all());
    assert_eq!(run.digest(), build().run().digest());
    let run = build().arg("--sandbox=rootless").through(&around).run();
    assert_message!(run, 77, "sandbox_forbidden",);
}

#[test]
fn a_store_that_is_open_to_others() {
    let machine = Machine::bare();
    succeed(Command::new("chmod").arg("755").arg(machine.store()));
    let run = machine.run(&["build", &some_app().text()]);
    assert_message!(run, 1, "store_open_to_others", machine.store() => "[STORE]");
}

#[test]
fn a_process_type_that_is_another_folder() {
    let launch = "printf '[[processes]]\\ntype = \"..\"\\ncommand = [\"true\"]\\n' > $1/launch.toml";
    let buildpack = Folder::scripts("climbs", "exit 0", launch);
    let machine = Machine::new();
    let run = machine.run(&[
        "build",
        &some_app().text(),
        "--buildpack",
        &buildpack.text(),
        "-o",
        &layout_in(&machine),
    ]);
    run.fails(62, "process_type_invalid");
}

#[test]
fn a_failure_before_the_build_begins_is_reported() {
    let machine = Machine::bare();
    succeed(Command::new("chmod").arg("755").arg(machine.store()));
    let folder = machine.folder().join("report");
    machine
        .run(&[
            "build",
            &some_app().text(),
            "--report-output-dir",
            &folder.display().to_string(),
        ])
        .fails(1, "store_open_to_others");
    let report = std::fs::read_to_string(folder.join("report.toml")).unwrap();
    let report: toml::Value = toml::from_str(&report).unwrap();
    assert_eq!(report["succeeded"].as_bool(), Some(false));
    assert_eq!(report["failure"]["code"].as_str(), Some("store_open_to_others"));
    assert!(report.get("rung").is_none(), "{report:?}");
}

#[test]
fn an_image_that_is_not_there() {
    let machine = Machine::new();
    for command in ["run", "inspect"] {
        let run = machine.run(&[command, "never-built"]);
        assert!(
            run.code != Some(0) && run.stderr.contains("never-built"),
            "{run:?}"
        );
    }
}

#[test]
fn nobody_reads_the_events() {
    let machine = Machine::bare();
    let build = machine.packhorse(&["build", "nowhere", "--progress", "json"]);
    // The reader is gone before the first event.
    let script = "{ sleep 1; \"$@\"; echo \"exit code $?\" >&2; } | true";
    let run = build.through(&["sh", "-c", script, "sh"]).run();
    assert_eq!(run.stderr, "exit code 10\n");
}

#[test]
fn arguments_that_cannot_be_meant() {
    let machine = Machine::new();
    for arguments in [
        &["build", "--timeout", "soon"][..],
        &["build", "a", "b"],
        &["fly"],
        &["run"],
        &["cache", "prune", "--keep", "1X"],
    ] {
        assert_eq!(machine.run(arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn every_code_is_in_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documented = std::fs::read_to_string(root.parent().unwrap().join("docs/errors.md")).unwrap();
    let source = succeed(
        Command::new("grep")
            .args([
                "-rhoE",
                "Facts::(user|platform|temporary|bug)\\(\"[a-z_]+\"\\)",
                "--include=*.rs",
            ])
            .arg(root.join("src")),
    );
    let codes = source.lines().filter_map(|line| line.split('"').nth(1));
    let missing: std::collections::BTreeSet<_> = codes
        .filter(|code| !documented.contains(&format!("`{code}`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
}
