//! `packhorse run` on real images: variables, volumes, entrypoints, signals, exit codes, input, terminals; and the shell of
//! `build --shell-on-failure`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::app::Folder;
use crate::support::home::Machine;
use crate::support::run::Invocation;
use crate::support::run::Running;
use crate::support::terminal::Terminal;

/// What the image runs: the first argument says what it does.
const APP: &str = r#"#!/bin/sh
case "$1" in
show) echo "A=$A B=$B C=$C D=$D"; echo "arguments:$*" ;;
code) exit "$2" ;;
kill) kill -s "$2" $$ ;;
traps)
    for name in USR1 USR2 WINCH; do trap "echo got $name" "$name"; done
    trap 'echo got HUP; exit 41' HUP
    trap 'echo got INT; exit 42' INT
    trap 'echo got QUIT; exit 43' QUIT
    trap 'echo got TERM; exit 44' TERM
    echo ready
    while :; do sleep 0.1; done ;;
deaf)
    trap '' INT TERM HUP
    echo ready
    while :; do sleep 0.1; done ;;
count) echo "bytes: $(wc -c)" ;;
reader) read -r line; echo "read: $line" ;;
terminal)
    tty
    echo "size $(stty size) $TERM"
    trap 'echo "size $(stty size)"' WINCH
    trap 'echo interrupted; exit 45' INT
    echo ready
    while :; do read -r line && echo "<$line>"; done ;;
esac
"#;

/// A machine with an image of `APP` and of a process `other`.
struct Trial {
    machine: Machine,
    layout: String,
}

impl Trial {
    fn new() -> Self {
        let machine = Machine::new();
        let app = Folder::new(&[("app.sh", APP), ("file.txt", "of the image\n")]);
        app.shell("chmod +x app.sh");
        let buildpack = Folder::scripts(
            "trial",
            "exit 0",
            "cat >\"$1/launch.toml\" <<'END'\n\
             [[processes]]\ntype = \"web\"\ncommand = [\"/workspace/app.sh\"]\ndefault = true\n\
             [[processes]]\ntype = \"other\"\ncommand = [\"/workspace/app.sh\", \"show\", \"other\"]\nEND",
        );
        let layout = format!("oci:{}", machine.folder().join("image").display());
        let build = [
            "build",
            &app.text(),
            "--buildpack",
            &buildpack.text(),
            "-o",
            &layout,
        ];
        machine.run(&build).ok();
        Self { machine, layout }
    }

    /// `packhorse run OPTIONS IMAGE -- ARGUMENTS`, within the user's home folder.
    fn invocation(&self, options: &[&str], arguments: &[&str]) -> Invocation {
        let mut words = vec!["run"];
        words.extend(options);
        words.push(&self.layout);
        if !arguments.is_empty() {
            words.push("--");
            words.extend(arguments);
        }
        self.machine.packhorse(&words)
    }
}

/// Sends a signal and waits until the app has said so.
fn answered(running: &mut Running, signal: Signal, name: &str) {
    running.signal(signal);
    running.until_said(&format!("got {name}"));
}

#[test]
fn variables_come_from_files_and_the_command_line_is_stronger() {
    let trial = Trial::new();
    let file = trial
        .machine
        .write("vars", "# comment\nA=of the file\nB='as it is'\nC\nNOT_SET\n");
    let file = file.display().to_string();
    let run = trial.invocation(&["--env-file", &file, "-e", "A=1", "-e", "D"], &["show"]);
    let run = run.env("C", "from here").env("D", "too").run().ok();
    assert!(
        run.stdout.contains("A=1 B='as it is' C=from here D=too\n"),
        "{run:?}"
    );

    let broken = trial.machine.write("broken", "A=1\nB C=canary\n");
    let broken = broken.display().to_string();
    let run = trial.invocation(&["--env-file", &broken], &["show"]).run();
    let run = run.fails(82, "env_file_unusable");
    assert!(
        run.stderr.contains(&format!("cannot use `{broken}`: line 2: ")),
        "{run:?}"
    );
    assert!(!run.all().contains("canary"), "{run:?}");
    let missing = trial.invocation(&["--env-file", "nowhere"], &["show"]).run();
    missing.fails(82, "env_file_unusable");

    // Entrypoints and process types, of the same image.
    let run = trial.invocation(&["--process", "other"], &[]).run().ok();
    assert!(run.stdout.contains("arguments:show other\n"), "{run:?}");
    let run = trial
        .invocation(&["--entrypoint", "sh"], &["-c", "pwd"])
        .run()
        .ok();
    assert_eq!(run.stdout, "/workspace\n");
    let run = trial.invocation(&["--entrypoint", "no-such-program"], &[]).run();
    run.fails(82, "process_not_started");
}

#[test]
fn volumes_are_read_only_unless_they_say_otherwise() {
    let trial = Trial::new();
    trial.machine.write("data/file.txt", "of the machine\n");
    let folder = trial.machine.home().join("data");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let sh = |options: &[&str], line: &str| {
        let options = [&["--entrypoint", "sh"], options].concat();
        trial.invocation(&options, &["-c", line]).run()
    };
    let run = sh(
        &["-v", "./data:/mnt/data"],
        "cat /mnt/data/file.txt; echo x >/mnt/data/new",
    )
    .code;
    assert_eq!(run, Some(2), "written to what is read-only");
    assert!(!folder.join("new").exists());

    let run = sh(
        &[
            "-v",
            "./data:/mnt/data:rw",
            "-v",
            "./data/file.txt:/workspace/file.txt",
        ],
        "cat /workspace/file.txt; echo written >/mnt/data/new",
    );
    assert_eq!(run.ok().stdout, "of the machine\n");
    assert_eq!(fs::read_to_string(folder.join("new")).unwrap(), "written\n");

    // Nobody but its owner may write: that is told, and the kernel holds to it.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let run = sh(&["-v", "./data:/mnt/data:rw"], "echo x >/mnt/data/other");
    assert!(
        run.stderr
            .contains("the process is user 1000 and cannot write to it"),
        "{run:?}"
    );
    assert_eq!(run.code, Some(2), "{run:?}");

    let run = sh(&["-v", "./nowhere:/mnt/data"], "true").fails(82, "volume_unusable");
    assert!(run.stderr.contains("`./nowhere`"), "{run:?}");
    assert!(!trial.machine.home().join("nowhere").exists(), "docker's habit");
    for target in ["/", "/proc", "/dev/x", "/sys", "data", "/a/../proc"] {
        sh(&["-v", &format!("./data:{target}")], "true").fails(2, "usage");
    }
    sh(&["-v", "data:/mnt/data"], "true").fails(2, "usage");
}

#[test]
fn the_exit_code_is_the_processs_own() {
    let trial = Trial::new();
    for (arguments, code) in [
        (["code", "0"], 0),
        (["code", "7"], 7),
        (["code", "255"], 255),
        (["kill", "TERM"], 143),
        (["kill", "KILL"], 137),
    ] {
        let run = trial.invocation(&[], &arguments).run();
        assert_eq!(run.code, Some(code), "{run:?}");
    }
}

#[test]
fn signals_are_the_processs() {
    let trial = Trial::new();
    let start = |what: &str| {
        let mut running = trial.invocation(&[], &[what]).start();
        running.until_said("ready");
        running
    };
    for (signal, name, code) in [
        (Signal::INT, "INT", 42),
        (Signal::TERM, "TERM", 44),
        (Signal::HUP, "HUP", 41),
        (Signal::QUIT, "QUIT", 43),
    ] {
        let mut running = start("traps");
        answered(&mut running, Signal::USR1, "USR1");
        answered(&mut running, Signal::USR2, "USR2");
        answered(&mut running, Signal::WINCH, "WINCH");
        running.signal(signal);
        let run = running.wait();
        assert_eq!(run.code, Some(code), "{run:?}");
        assert!(run.stdout.contains(&format!("got {name}\n")), "{run:?}");
    }

    // A second Ctrl-C is not asked for leave.
    let mut running = start("deaf");
    running.interrupt();
    std::thread::sleep(Duration::from_millis(500));
    running.until("still ran", |run| {
        crate::support::processes::descendants(run.id()).len() > 1
    });
    running.interrupt();
    assert_eq!(running.wait().code, Some(137));

    // Nor is TERM, when its time is over.
    let mut running = start("deaf");
    running.signal(Signal::TERM);
    let began = Instant::now();
    assert_eq!(running.wait().code, Some(137));
    let waited = began.elapsed();
    assert!(
        waited > Duration::from_secs(9) && waited < Duration::from_secs(30),
        "{waited:?}"
    );
}

#[test]
fn standard_input_comes_through_a_pipe() {
    let trial = Trial::new();
    let piped = |options: &[&str], arguments: &[&str], producer: &str| {
        let script = format!("{producer} | \"$@\"");
        trial
            .invocation(options, arguments)
            .through(&["sh", "-c", &script, "sh"])
            .run()
    };
    let run = piped(&["-i"], &["count"], "head -c 3000000 /dev/zero").ok();
    assert_eq!(run.stdout, "bytes: 3000000\n");
    // Who reads one line holds nobody up who has more to say.
    let run = piped(&["-i"], &["reader"], "yes hello").ok();
    assert_eq!(run.stdout, "read: hello\n");
    // Without -i there is nothing to read, whatever there is.
    let run = piped(&[], &["count"], "echo hello").ok();
    assert_eq!(run.stdout, "bytes: 0\n");
    piped(&["-it"], &["count"], "echo hello").fails(2, "usage");
}

#[test]
fn a_terminal_of_the_sandboxs_own_stands_for_the_users() {
    let trial = Trial::new();
    for options in [&["-i"], &["-it"]] {
        let mut terminal = Terminal::new(30, 100);
        let mut running = trial
            .invocation(options, &["terminal"])
            .env("TERM", "vt100")
            .start_on(&mut terminal);
        running.until_said("ready");
        assert!(
            running.stdout().contains("/dev/pts/0\r\nsize 30 100 vt100\r\n"),
            "{}",
            running.stdout()
        );
        assert!(terminal.is_raw());
        terminal.type_in("hello\r");
        running.until_said("<hello>");
        terminal.resize(40, 120);
        running.until_said("size 40 120");
        running.note_processes();
        terminal.type_in("\u{3}");
        let run = running.wait();
        assert_eq!(run.code, Some(45), "{run:?}");
        assert!(run.stdout.contains("interrupted\r\n"), "{run:?}");
        assert!(terminal.is_usual(), "raw mode was left on: {run:?}");
    }

    // A signal from elsewhere ends it too, and leaves the terminal as it was.
    let mut terminal = Terminal::new(30, 100);
    let mut running = trial.invocation(&["-it"], &["terminal"]).start_on(&mut terminal);
    running.until_said("ready");
    running.signal(Signal::TERM);
    let run = running.wait();
    assert_eq!(run.code, Some(143), "{run:?}");
    assert!(terminal.is_usual(), "raw mode was left on: {run:?}");

    // Nobody types into it from inside (TIOCSTI), whose terminal it ever is.
    let typing = "my $key = 'x'; print ioctl(STDIN, 0x5412, $key) ? 'typed' : \"refused: $!\"";
    let run = trial
        .invocation(&["-t", "--entrypoint", "perl"], &["-e", typing])
        .run()
        .ok();
    assert_eq!(run.stdout, "refused: Operation not permitted");

    // With -t alone there is a screen, and the user's own terminal stays as it is.
    let mut running = trial.invocation(&["-t"], &["terminal"]).start();
    running.until_said("/dev/pts/0\r\n");
    running.until_said("ready");
    running.interrupt();
    assert_eq!(running.wait().code, Some(45));
}

#[test]
fn what_the_lowest_rung_cannot_give_is_said() {
    let trial = Trial::new();
    for (option, code) in [
        ("-t", "terminal_missing"),
        ("-v.:/mnt/x", "volume_without_mounts"),
    ] {
        let run = trial
            .invocation(&["--sandbox", "chroot", option], &["code", "0"])
            .run();
        if run.stderr.contains("code: sandbox_forbidden") {
            crate::support::left_out::left_out("this machine has no rung `chroot`");
            return;
        }
        run.fails(82, code);
    }
}

/// A build that opens a shell.
fn build_with_a_shell(machine: &Machine, app: &Folder, buildpack: &Folder) -> Invocation {
    let layout = format!("oci:{}", machine.folder().join("image").display());
    machine
        .packhorse(&[
            "build",
            &app.text(),
            "--buildpack",
            &buildpack.text(),
            "-o",
            &layout,
        ])
        .arg("--shell-on-failure")
        .env("TERM", "vt100")
}

#[test]
fn a_shell_opens_where_a_build_step_has_failed() {
    let machine = Machine::new();
    let app = Folder::new(&[("hello.txt", "hello\n")]);
    let buildpack = Folder::scripts(
        "fails",
        "exit 0",
        "echo left >\"$1/left\"; echo seen >made.txt; exit 7",
    );
    let mut terminal = Terminal::new(30, 100);
    let mut running = build_with_a_shell(&machine, &app, &buildpack)
        .arg("--timeout")
        .arg("15s")
        .start_on(&mut terminal);
    running.until_said("the build then ends with this failure");
    running.until("was in raw mode", |_| terminal.is_raw());
    // Longer than the build may take: a person is not counted.
    std::thread::sleep(Duration::from_secs(16));
    terminal.type_in("echo [$(pwd)] [$(id -u)] [$(cat made.txt)] [${CNB_BP_PLAN_PATH##*/}] [$(tty)]\r");
    running.until_said("[/workspace] [1000] [seen] [plan.toml]");
    terminal.type_in("test -f \"$CNB_BP_PLAN_PATH\" && cat \"$CNB_LAYERS_DIR/left\" && ls /cnb/buildpacks\r");
    running.until_said("\rleft\r\n");
    running.note_processes();
    terminal.type_in("exit 99\r");
    let run = running.wait();
    assert_eq!(run.code, Some(51), "{run:?}");
    assert!(run.stdout.contains("bin/build exited with code 7"), "{run:?}");
    assert!(run.stdout.contains("/dev/pts/0"), "{run:?}");
    assert!(run.stdout.contains("buildpack_failed\r\n"), "{run:?}");
    assert!(terminal.is_usual(), "raw mode was left on: {run:?}");
}

#[test]
fn a_shell_opens_where_a_detect_step_has_failed() {
    let machine = Machine::new();
    let app = Folder::new(&[("hello.txt", "hello\n")]);
    let buildpack = Folder::scripts("cannot-tell", "echo why >&2; exit 3", "exit 0");
    let mut terminal = Terminal::new(30, 100);
    let mut running = build_with_a_shell(&machine, &app, &buildpack).start_on(&mut terminal);
    running.until_said("the build then ends with this failure");
    running.until("was in raw mode", |_| terminal.is_raw());
    terminal.type_in("cat hello.txt; echo [${CNB_BUILD_PLAN_PATH##*/}]\r");
    running.until_said("[plan.toml]");
    // What ends the build from elsewhere ends the shell.
    running.interrupt();
    let run = running.wait();
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(run.stdout.contains("failed in its detect step"), "{run:?}");
    assert!(terminal.is_usual(), "raw mode was left on: {run:?}");
}

#[test]
fn without_a_terminal_there_is_no_shell_and_no_build() {
    let machine = Machine::new();
    let app = Folder::new(&[("hello.txt", "hello\n")]);
    let buildpack = Folder::scripts("fails", "exit 0", "exit 7");
    let run = build_with_a_shell(&machine, &app, &buildpack)
        .run()
        .fails(2, "usage");
    assert!(
        run.stderr.contains("--shell-on-failure needs a terminal"),
        "{run:?}"
    );
    assert!(!run.stderr.contains("exited with code 7"), "{run:?}");
}
