//! Build secrets: who sees them, that no log tells them, and that nothing which has one in it leaves or is kept.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::support::app::Folder;
use crate::support::home::Machine;
use crate::support::run::Invocation;
use crate::support::run::Run;

/// No word of any language, so that it is found by no chance.
const TOKEN: &str = "tok/kQ7z-9Vw+3xYb'Lm2";
/// Parts of its usual encodings: hex in both cases, percent, base64 of it alone.
const ENCODED: [&str; 4] = [
    "6b51377a2d3956772b337859",
    "6B51377A2D3956772B337859",
    "kQ7z-9Vw%2B3xYb",
    "dG9rL2tRN3otOVZ3KzN4WWInTG0y",
];
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDTestLineOneXX
q8N2testLineTwoOfTheKeyThatNobodyEverUsedForAnythingAtAll0123456
-----END PRIVATE KEY-----
";

/// A machine with a data directory of its own, an app, and somewhere to put images.
struct Bench {
    machine: Machine,
    app: Folder,
}

impl Bench {
    fn new() -> Self {
        let machine = Machine::alone();
        machine.write("token", &format!("{TOKEN}\n"));
        machine.write("key.pem", KEY);
        Self {
            machine,
            app: Folder::new(&[("file", "1")]),
        }
    }

    fn layout(&self) -> PathBuf {
        self.machine.folder().join("image")
    }

    fn report(&self) -> PathBuf {
        self.machine.folder().join("report")
    }

    fn build(&self, buildpacks: &[&Folder], secrets: &[&str]) -> Invocation {
        let output = format!("oci:{}", self.layout().display());
        let mut build = self
            .machine
            .packhorse(&["build", &self.app.text(), "-o", &output]);
        build = build.arg("--report-output-dir").arg(self.report());
        for buildpack in buildpacks {
            build = build.arg("--buildpack").arg(buildpack.path());
        }
        secrets.iter().fold(build, Invocation::arg)
    }

    /// Everything that a build leaves: the data directory, the image, the report. And what it said.
    #[track_caller]
    fn assert_clean(&self, run: &Run) {
        let mut needles: Vec<Vec<u8>> = ENCODED.iter().map(|text| text.as_bytes().to_vec()).collect();
        needles.extend([TOKEN.as_bytes().to_vec(), TOKEN.replace('\'', "").into_bytes()]);
        needles.extend(
            KEY.lines()
                .filter(|line| !line.starts_with("--"))
                .map(|line| line.as_bytes().to_vec()),
        );
        let told: String = run.all().split_whitespace().collect();
        for needle in &needles {
            assert!(
                !has(told.as_bytes(), needle),
                "the log has {}: {run:?}",
                String::from_utf8_lossy(needle)
            );
        }
        let mut looked = 0;
        for top in [
            self.machine.store().to_owned(),
            self.layout(),
            self.report(),
            self.machine.temporary(),
        ] {
            looked += search_files(&top, &needles);
        }
        assert!(looked > 10, "only {looked} files were looked at");
    }
}

fn has(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Looks through every file below `top` and its name, compressed ones unpacked; but not through the base, whose files
/// are hard links to those of other tests and older than any secret. Gives how many there were.
#[track_caller]
fn search_files(top: &Path, needles: &[Vec<u8>]) -> usize {
    let mut looked = 0;
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            let is_base = kind.is_dir() && ["bases", "layers"].iter().any(|name| path == top.join(name));
            let is_old = kind.is_file()
                && fs::metadata(&path).is_ok_and(|found| std::os::unix::fs::MetadataExt::nlink(&found) > 1);
            if is_base || is_old {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = path.to_string_lossy().into_owned().into_bytes();
            if kind.is_file() {
                bytes.extend(fs::read(&path).unwrap());
            }
            let mut unpacked = Vec::new();
            if let Some(start) = bytes.windows(2).position(|two| two == [0x1f, 0x8b]) {
                // What is no gzip after all ends early.
                let _end = flate2::read::MultiGzDecoder::new(&bytes[start..]).read_to_end(&mut unpacked);
            }
            for needle in needles {
                let found = has(&bytes, needle) || has(&unpacked, needle);
                assert!(
                    !found,
                    "{} has {}",
                    path.display(),
                    String::from_utf8_lossy(needle)
                );
            }
            looked += 1;
        }
    }
    looked
}

/// Prints what it sees of the bindings, and leaves a launch layer with what may be told.
fn reads(name: &str, what: &str) -> Folder {
    let build = format!(
        "b=$CNB_PLATFORM_DIR/bindings
        {what}
        mkdir -p \"$1/made\"; echo fine > \"$1/made/file\"; printf '[types]\\nlaunch = true\\ncache = true\\n' > \"$1/made.toml\""
    );
    Folder::scripts(
        name,
        "test -z \"$(ls -A /platform/bindings 2>/dev/null)\"",
        &build,
    )
}

#[test]
fn a_binding_is_there_in_build_steps_and_nowhere_else() {
    let bench = Bench::new();
    let first = reads(
        "first",
        "test \"$(cat $b/npm/value)\" = \"$(printf %s \"tok/kQ7z-9Vw+3xYb'Lm2\")\" && echo same-value
        test \"$(cat $b/npm/type)\" = secret && test -s $b/all/value
        stat -c 'mode %a of %U' $b/npm/value
        grep -c ' /platform/bindings ramfs ro' /proc/mounts
        test \"$TOKEN_HERE\" = \"$(cat $b/npm/value)\" && echo same-variable
        (echo x > $b/npm/new) 2>/dev/null || echo closed
        (echo x > $b/npm/value) 2>/dev/null || echo closed-too
        sleep 600 & echo $! > /tmp/pid; exec 9< $b/npm/value",
    );
    let second = reads(
        "second",
        "test -s $b/all/value && ls $b > /tmp/seen && echo \"sees: $(cat /tmp/seen | tr '\\n' ' ')\"
        test -z \"$TOKEN_HERE\" && echo no-variable
        if grep -lqs 'kQ7[z]' /proc/[0-9]*/environ /proc/[0-9]*/cmdline; then echo found-in-proc; fi
        if test -d /proc/$(cat /tmp/pid); then echo still-there; fi
        if grep -rqs 'kQ7[z]' /tmp /home /dev/shm /var/tmp 2>/dev/null; then echo found-in-files; fi",
    );
    let secrets = [
        "--secret",
        "npm@test/first=token",
        "--secret",
        "all=env:ALL",
        "--secret-env",
        "TOKEN_HERE@test/first=token",
    ];
    let run = bench
        .build(&[&first, &second], &secrets)
        .env("ALL", KEY)
        .run()
        .ok();
    for said in [
        "same-value",
        "mode 400 of cnb",
        "same-variable",
        "closed\n",
        "closed-too",
        "sees: all ",
        "no-variable",
    ] {
        assert!(run.all().contains(said), "{said}: {run:?}");
    }
    for said in ["found-in", "still-there"] {
        assert!(!run.all().contains(said), "{said}: {run:?}");
    }
    bench.assert_clean(&run);
    let key = bench.machine.store().join("secret-key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn no_log_tells_a_secret_in_whatever_form_it_is_printed() {
    let bench = Bench::new();
    let prints = reads(
        "prints",
        "v=$(cat $b/npm/value)
        echo \"plain $v.\"; echo \"errors $v.\" >&2
        printf '%s' \"$v\" | cut -c1-9 | tr -d '\\n'; sleep 0.2; printf '%s' \"$v\" | cut -c10-
        printf '%s' \"$v\" | fold -w 7; echo
        printf '%s' \"$v\" | base64; printf 'u%s' \"$v\" | base64; printf 'us%s' \"$v\" | base64
        printf 'user:%s@' \"$v\" | base64 | tr '+/' '-_'
        printf '%s' \"$v\" | od -An -tx1; printf '%s' \"$v\" | od -An -tx1 | tr 'a-f' 'A-F' | tr -d ' '
        python3 -c 'import sys,json,shlex,urllib.parse; v=sys.argv[1]; print(json.dumps({\"a\": v}), shlex.quote(v), urllib.parse.quote(v, safe=\"\"), urllib.parse.quote_plus(v))' \"$v\"
        cat $b/key/value; sed 's/^/    /' $b/key/value; sed -n 2p $b/key/value; base64 $b/key/value; base64 -w 0 $b/key/value
        set -x; : \"$v\"; set +x
        echo the-end",
    );
    let secrets = ["--secret", "npm=token", "--secret", "key=key.pem"];
    for progress in ["plain", "json"] {
        let run = bench
            .build(&[&prints], &secrets)
            .arg("--force")
            .arg(format!("--progress={progress}"))
            .run()
            .ok();
        assert!(
            run.all().contains("plain [secret npm].") && run.all().contains("the-end"),
            "{run:?}"
        );
        assert!(
            run.all().contains("errors [secret npm].") && run.all().contains("[secret key]"),
            "{run:?}"
        );
        bench.assert_clean(&run);
    }
    let run = bench
        .build(&[&prints], &secrets)
        .arg("--force")
        .on_a_terminal()
        .run()
        .ok();
    assert!(run.all().contains("[secret npm]"), "{run:?}");
    bench.assert_clean(&run);
}

#[test]
fn a_failure_tells_no_secret() {
    let bench = Bench::new();
    let fails = Folder::scripts(
        "fails",
        "exit 0",
        "v=$(cat $CNB_PLATFORM_DIR/bindings/npm/value)
        printf '[[labels]]\\nkey = \"a\"\\nvalue = %s\\n' \"$v\" > \"$1/launch.toml\"; mkdir -p \"$1/tok\"; printf '%s' \"[types]$v\" > \"$1/tok.toml\"",
    );
    let run = bench.build(&[&fails], &["--secret", "npm=token"]).run();
    assert_ne!(run.code, Some(0), "{run:?}");
    bench.assert_clean(&run);
}

/// A build whose buildpack does `what` with the secret must be refused, and leave nothing.
#[track_caller]
fn is_refused(what: &str, more: &[&str], named: &[&str]) {
    let bench = Bench::new();
    let leaks = Folder::scripts(
        "leaks",
        "exit 0",
        &format!("v=$(cat $CNB_PLATFORM_DIR/bindings/npm/value)\n{what}"),
    );
    let secrets: Vec<&str> = ["--secret", "npm=token"].iter().chain(more).copied().collect();
    let run = bench.build(&[&leaks], &secrets).run().fails(62, "secret_found");
    for word in named
        .iter()
        .chain(&["secret npm", "nothing was published and no cache was kept"])
    {
        assert!(run.stderr.contains(word), "{word}: {run:?}");
    }
    assert!(
        !bench.layout().join("index.json").exists()
            || !fs::read_to_string(bench.layout().join("index.json"))
                .unwrap()
                .contains("sha256")
    );
    let report = fs::read_to_string(bench.report().join("report.json")).unwrap();
    assert!(report.contains("secret_found"), "{report}");
    let caches = bench.machine.store().join("caches");
    let states: usize = fs::read_dir(caches)
        .into_iter()
        .flatten()
        .flatten()
        .map(|app| search_count(&app.path(), "state.json"))
        .sum();
    assert_eq!(states, 0, "a cache was kept");
    bench.assert_clean(&run);
}

fn search_count(top: &Path, name: &str) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            count += search_count(&entry.path(), name);
        } else if entry.file_name() == name {
            count += 1;
        }
    }
    count
}

const LAUNCH: &str =
    "printf '[types]\\nlaunch = true\\ncache = true\\n' > \"$1/a.toml\"; mkdir -p \"$1/a/deep\"";

#[test]
fn a_secret_in_a_launch_layer_is_found() {
    let npmrc =
        format!("{LAUNCH}; (head -c 300000 /dev/zero; echo \"_authToken=$v\") > \"$1/a/deep/.npmrc\"");
    is_refused(
        &npmrc,
        &[],
        &[
            "`/layers/test_leaks/a/deep/.npmrc`",
            "layer `a` of buildpack test/leaks",
            "as it is",
        ],
    );
    let basic = format!("{LAUNCH}; printf 'user:%s' \"$v\" | base64 > \"$1/a/deep/auth\"");
    is_refused(&basic, &[], &["/layers/test_leaks/a/deep/auth", "in base64"]);
    let link = format!("{LAUNCH}; ln -s \"x$v\" \"$1/a/link\"");
    is_refused(&link, &[], &["a name in layer `a` of buildpack test/leaks"]);
}

#[test]
fn a_secret_in_the_app_a_label_or_an_env_file_is_found() {
    is_refused(
        "echo \"$v\" > /workspace/out",
        &[],
        &["`/workspace/out`", "layer `app`"],
    );
    let env = format!("{LAUNCH}; mkdir \"$1/a/env\"; printf '%s' \"$v\" > \"$1/a/env/TOKEN\"");
    is_refused(&env, &[], &["`/layers/test_leaks/a/env/TOKEN`"]);
    let label = "printf '[[labels]]\\nkey = \"made-by\"\\nvalue = \"%s\"\\n' \"$v\" > \"$1/launch.toml\"";
    is_refused(label, &[], &["secret npm"]);
    let metadata = format!("{LAUNCH}; printf '[metadata]\\ntoken = \"%s\"\\n' \"$v\" >> \"$1/a.toml\"");
    is_refused(&metadata, &[], &["secret npm"]);
    let store = "printf '[metadata]\\ntoken = \"%s\"\\n' \"$v\" > \"$1/store.toml\"";
    is_refused(store, &[], &["label `io.buildpacks.lifecycle.metadata`"]);
}

#[test]
fn a_secret_in_a_layer_that_only_the_cache_keeps_is_found_when_asked_for() {
    let cached =
        "mkdir -p \"$1/c\"; echo \"$v\" > \"$1/c/file\"; printf '[types]\\ncache = true\\n' > \"$1/c.toml\"";
    is_refused(
        cached,
        &["--check-secrets"],
        &["`/layers/test_leaks/c/file`", "layer `c` of buildpack test/leaks"],
    );
}

#[test]
fn a_layer_that_was_made_before_its_secret_was_known_is_searched() {
    let bench = Bench::new();
    let makes = Folder::scripts(
        "makes",
        "exit 0",
        "test -d \"$1/a\" && echo found-a || { mkdir \"$1/a\"; echo \"tok/kQ7z-9Vw+3xYb'Lm2\" > \"$1/a/file\"; }
        printf '[types]\\nlaunch = true\\ncache = true\\n' > \"$1/a.toml\"",
    );
    bench.build(&[&makes], &[]).run().ok();
    let run = bench
        .build(&[&makes], &["--secret", "npm=token"])
        .run()
        .fails(62, "secret_found");
    assert!(
        run.stderr.contains("`/layers/test_makes/a/file`") && run.all().contains("found-a"),
        "{run:?}"
    );
}

#[test]
fn a_changed_secret_builds_again_and_the_same_does_not() {
    let bench = Bench::new();
    let made = reads("made", "test -s $b/npm/value");
    let build = |secrets: &[&str]| bench.build(&[&made], secrets).run().ok();
    let is_unchanged = |run: &Run| {
        let report = fs::read_to_string(bench.report().join("report.json")).unwrap();
        assert!(!report.contains(TOKEN), "{run:?}");
        report.contains("\"unchanged\": true")
    };
    assert!(!is_unchanged(&build(&["--secret", "npm=token"])));
    assert!(is_unchanged(&build(&["--secret", "npm=token"])));
    bench.machine.write("token", "another-token-of-mine\n");
    let run = build(&["--secret", "npm=token"]);
    assert!(!is_unchanged(&run));
    assert!(is_unchanged(&build(&["--secret", "npm=token"])));
    assert!(
        !is_unchanged(&build(&["--secret", "npm@test/made=token"])),
        "who gets it is input too"
    );
    bench.assert_clean(&run);
}

#[test]
fn what_is_no_secret_is_refused_before_anything_is_done() {
    let bench = Bench::new();
    let nothing = Folder::scripts("nothing", "exit 0", "exit 0");
    for (words, code, said) in [
        (["--secret", "a b=token"], "secret_invalid", "`a b`"),
        (["--secret", "npm@a b=token"], "secret_invalid", "`a b`"),
        (["--secret", "npm="], "secret_invalid", "nothing behind its `=`"),
        (
            ["--secret", "id=npm,src=token"],
            "secret_invalid",
            "Docker's form",
        ),
        (
            ["--secret-env", "NPM=token"],
            "secret_invalid",
            "names no buildpack",
        ),
        (
            ["--secret", "npm=s3cret-that-is-no-file"],
            "secret_unreadable",
            "there is no file of the name behind its `=`",
        ),
        (["--secret", "npm=/"], "secret_unreadable", "directory"),
        (
            ["--secret", "NOT_SET_ANYWHERE"],
            "secret_unreadable",
            "NOT_SET_ANYWHERE",
        ),
        (["--secret", "EMPTY"], "secret_invalid", "is empty"),
        (["--secret", "SHORT"], "secret_invalid", "fewer than 8"),
        (["--secret", "LONG"], "secret_invalid", "64 KiB"),
    ] {
        let run = bench
            .build(&[&nothing], &words)
            .env("EMPTY", "\n")
            .env("SHORT", "s3cret")
            .env("LONG", "x".repeat((64 << 10) + 1))
            .run()
            .fails(2, code);
        assert!(
            run.stderr.contains(said) && !run.all().contains("s3cret"),
            "{run:?}"
        );
    }
    let run = bench
        .build(&[&nothing], &["--secret", "npm@test/absent=token"])
        .run()
        .ok();
    assert!(
        run.all()
            .contains("nobody gets secret npm: buildpack test/absent takes no part"),
        "{run:?}"
    );
}
