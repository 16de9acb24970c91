//! `doctor`, `config`, `completions` and `man`, as root and as a plain user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::home::Machine;
use crate::support::image::is_root;
use crate::support::left_out::left_out;
use crate::support::registry::DockerRegistry;
use crate::support::registry::Guard;
use crate::support::run::Invocation;
use crate::support::run::Run;
use crate::support::user::PlainUser;

/// The report of `doctor --json`.
fn report(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

/// The rows of that name.
fn rows<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    let rows = report["rows"].as_array().unwrap();
    let found: Vec<&Value> = rows.iter().filter(|row| row["name"] == name).collect();
    assert!(!found.is_empty(), "no row {name}: {report:#}");
    found
}

fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    rows(report, name)[0]
}

/// Without the proxies of the surroundings, which are not what is tested.
fn without_proxies(invocation: Invocation) -> Invocation {
    [
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
    ]
    .into_iter()
    .fold(invocation, |invocation, name| invocation.env(name, ""))
}

fn doctor(machine: &Machine, arguments: &[&str]) -> Invocation {
    let words: Vec<&str> = ["doctor"].iter().chain(arguments).copied().collect();
    without_proxies(machine.packhorse(&words))
}

#[test]
fn the_doctor_names_the_rung_that_a_build_uses() {
    if !is_root() {
        left_out("only root can be root");
        return;
    }
    let machine = Machine::bare();
    let run = doctor(&machine, &["--json"]).run().ok();
    let report = report(&run);
    assert!(report["rung"].is_string(), "{report:#}");
    assert_eq!(row(&report, "user namespace")["state"], "ok");
    assert_eq!(row(&report, "data directory")["state"], "ok");
    assert_eq!(row(&report, "clock")["state"], "ok");
    let text = doctor(&machine, &[]).run().ok();
    assert!(text.stdout.contains("Builds are possible here"), "{text:?}");
    // Other commands take the same rungs and refuse the same.
    let asks_for = |rung: &str| {
        let doctor = doctor(&machine, &["--json", "--sandbox", rung]).run();
        let other = machine.run(&["base", "inspect", "--sandbox", rung]);
        (doctor.code, other.code)
    };
    assert_eq!(asks_for(report["rung"].as_str().unwrap()), (Some(0), Some(1)));
    for rung in packhorse::model::rung::Rung::ALL {
        let (doctor, other) = asks_for(rung.name());
        assert_eq!(
            doctor == Some(77),
            other == Some(77),
            "{rung}: {doctor:?}, {other:?}"
        );
    }
}

#[test]
fn a_plain_user_is_told_of_ids_with_and_without_them() {
    if !is_root() {
        left_out("only root can be two users");
        return;
    }
    let user = PlainUser::new();
    let machine = Machine::bare();
    let with = user.runs(doctor(&machine, &["--json"])).run();
    let with = report(&with.ok());
    assert_eq!(with["rung"], "rootless", "{with:#}");
    assert_eq!(row(&with, "ids")["state"], "ok");
    assert_eq!(row(&with, "newuidmap")["state"], "ok");

    for file in ["subuid", "subgid"] {
        fs::write(user.path(file), "somebody:100000:65536\n").unwrap();
    }
    let without = user.runs(doctor(&machine, &[])).run().ok();
    assert!(
        without
            .stdout
            .contains("usermod --add-subuids 165536-231071 --add-subgids 165536-231071 plain"),
        "{without:?}"
    );
    assert!(without.stdout.contains("on the rung `single-id`"), "{without:?}");
}

#[test]
fn a_minimum_that_is_not_reached_ends_with_77() {
    if !is_root() {
        left_out("only root can be two users");
        return;
    }
    let user = PlainUser::new();
    let machine = Machine::bare();
    let file = user.path("packhorse.toml");
    fs::write(&file, "[sandbox]\nminimum = \"full\"\n").unwrap();
    let invocation = user.runs(doctor(&machine, &["--json"]).env("PACKHORSE_CONFIG", &file));
    let run = invocation.run();
    assert_eq!(run.code, Some(77), "{run:?}");
    let report = report(&run);
    assert_eq!(report["rung"], Value::Null);
    let found = row(&report, "rung")["found"].as_str().unwrap();
    assert!(found.contains("`full` is the configured minimum"), "{found}");
}

#[test]
fn what_a_build_would_fail_for_ends_with_1() {
    let machine = Machine::bare();
    fs::set_permissions(machine.store(), fs::Permissions::from_mode(0o755)).unwrap();
    let config = "{\"credsStore\":\"absent\",\"auths\":{\"r.example\":{\"auth\":\"s3cret!\"}}}";
    machine.write(".docker/config.json", config);
    let run = doctor(&machine, &["--json"])
        .env("https_proxy", "http://me:s3cret@127.0.0.1:1")
        .env("SSL_CERT_FILE", machine.home().join("absent.pem"))
        .env("CNB_REGISTRY_AUTH", "s3cret")
        .run();
    assert_eq!(run.code, Some(1), "{run:?}");
    let report = report(&run);
    for name in ["data directory", "https proxy", "authorities", "credentials"] {
        for row in rows(&report, name) {
            assert_eq!(row["state"], "fail", "{row:#}");
            assert_ne!(row["cures"], Value::Array(Vec::new()), "{row:#}");
        }
    }
    assert_eq!(rows(&report, "credentials").len(), 2);
    assert!(!run.all().contains("s3cret"), "{run:?}");
}

#[test]
fn a_registry_is_asked_whether_it_takes_an_image() {
    let machine = Machine::bare();
    let open = DockerRegistry::start(Guard::Open);
    let image = format!("{}/app", open.host());
    let report_of = |image: &str| report(&doctor(&machine, &["--json", image]).run());
    let answer = report_of(&image);
    assert_eq!(row(&answer, "push")["state"], "ok", "{answer:#}");
    let clock = row(&answer, "clock")["found"].as_str().unwrap();
    assert!(clock.ends_with("the registry's"), "{clock}");

    let guarded = DockerRegistry::start(Guard::Password);
    let image = format!("{}/app", guarded.host());
    let answer = report_of(&image);
    assert_eq!(answer["exit_code"], 1);
    let push = row(&answer, "push");
    assert_eq!(push["state"], "fail");
    assert!(
        push["cures"][0]["lines"]
            .as_str()
            .unwrap()
            .contains("docker login"),
        "{push:#}"
    );
    // `me:s3cret`
    let config = format!(
        "{{\"auths\":{{\"{}\":{{\"auth\":\"bWU6czNjcmV0\"}}}}}}",
        guarded.host()
    );
    machine.write(".docker/config.json", &config);
    assert_eq!(row(&report_of(&image), "push")["state"], "ok");
    let wrong = doctor(&machine, &["not a name"]).run();
    wrong.fails(2, "reference_invalid");
}

#[test]
fn every_setting_is_told_with_its_origin() {
    let machine = Machine::bare();
    let file = machine.write(
        ".config/packhorse/packhorse.toml",
        "[base]\nmirror = \"https://me:s3cret@mirror.example/debian\"\n[sandbox]\nrung = \"outer-proc\"\n",
    );
    let run = without_proxies(machine.packhorse(&["config", "--json", "--sandbox", "auto"]))
        .env("http_proxy", "http://me:s3cret@proxy.example:3128")
        .env("CNB_REGISTRY_AUTH", "s3cret")
        .run()
        .ok();
    assert!(!run.all().contains("s3cret"), "{run:?}");
    let settings: Value = serde_json::from_str(&run.stdout).unwrap();
    let of = |name: &str| {
        let all = settings["settings"].as_array().unwrap();
        let row = all.iter().find(|row| row["name"] == name).unwrap();
        let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
        (text("value"), text("origin"))
    };
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    let in_file = format!("file {}", file.display());
    assert_eq!(of("home").1, "environment variable PACKHORSE_HOME");
    assert_eq!(of("config-file"), pair(&file.display().to_string(), "default"));
    assert_eq!(of("base.mirror"), pair("https://mirror.example/debian", &in_file));
    assert_eq!(of("sandbox.rung"), pair("auto", "option --sandbox"));
    assert_eq!(of("sandbox.minimum"), pair("-", "default"));
    assert_eq!(
        of("network.http-proxy"),
        pair("http://proxy.example:3128/", "environment variable http_proxy")
    );
    assert_eq!(of("registry-credentials").0, "(set, not shown)");
    let asked = machine
        .packhorse(&["config", "--json"])
        .env("PACKHORSE_SANDBOX", "auto");
    assert!(
        asked
            .run()
            .ok()
            .stdout
            .contains("environment variable PACKHORSE_SANDBOX")
    );
    let text = machine.packhorse(&["config"]).run().ok().stdout;
    assert!(
        text.lines()
            .any(|line| line.starts_with("sandbox.rung") && line.ends_with(&in_file)),
        "{text}"
    );
}

#[test]
fn completions_and_manual_are_written_without_a_configuration() {
    let machine = Machine::bare();
    machine.write(".config/packhorse/packhorse.toml", "nonsense = 1\n");
    machine.run(&["config"]).fails(2, "usage");
    for (shell, word) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef packhorse"),
        ("fish", "complete -c packhorse"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let run = machine.run(&["completions", shell]).ok();
        assert!(
            run.stdout.contains(word) && run.stdout.contains("doctor"),
            "{shell}"
        );
    }
    let page = machine.run(&["man"]).ok().stdout;
    assert!(page.contains(".TH packhorse 1"), "{page}");
    let folder = machine.folder().join("man");
    let text = folder.display().to_string();
    machine.run(&["man", "--output-directory", &text]).ok();
    assert!(
        fs::read_to_string(folder.join("packhorse-base-create.1"))
            .unwrap()
            .contains("lock")
    );
    let blocked = machine.write("file", "");
    machine
        .run(&["man", "--output-directory", &blocked.display().to_string()])
        .fails(1, "output_unwritable");
}
