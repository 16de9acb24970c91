//! Starts that fail, and what a process finds when one succeeds: exit codes, words, descriptors, signals.
//!
//! They need no sandbox, for the launcher takes its folders from variables.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use tempfile::TempDir;

const BUILDPACK: &str = "[[buildpacks]]\nid = 'vec/one'\nversion = '1'\napi = '0.11'\n";

struct Image(TempDir);

impl Image {
    fn new(metadata: &str) -> Self {
        let scratch = TempDir::new().unwrap();
        fs::create_dir_all(scratch.path().join("layers/config")).unwrap();
        fs::create_dir(scratch.path().join("app")).unwrap();
        fs::write(scratch.path().join("layers/config/metadata.toml"), metadata).unwrap();
        Self(scratch)
    }

    fn with_process(process: &str) -> Self {
        let keys = "direct = true\nbuildpack-id = 'vec/one'\n";
        Self::new(&format!(
            "{BUILDPACK}[[processes]]\ntype = 'web'\n{keys}{process}\n"
        ))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "tests start programs themselves")]
    fn launcher(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_launcher"));
        command
            .arg0(name)
            .args(arguments)
            .env_clear()
            .env("PATH", "/cnb/process:/usr/bin:/bin");
        command.env("CNB_PLATFORM_API", "0.15");
        command
            .env("CNB_LAYERS_DIR", self.path("layers"))
            .env("CNB_APP_DIR", self.path("app"));
        command
    }

    fn start(&self, name: &str, arguments: &[&str]) -> (String, i32) {
        outcome(&self.launcher(name, arguments).output().unwrap())
    }
}

fn outcome(output: &Output) -> (String, i32) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        output.status.code().unwrap(),
    )
}

#[test]
fn platform_apis_end_with_11() {
    let image = Image::with_process("command = ['true']");
    let with = |api: &str| {
        outcome(
            &image
                .launcher("web", &[])
                .env("CNB_PLATFORM_API", api)
                .output()
                .unwrap(),
        )
    };
    let (stdout, exit) = outcome(
        &image
            .launcher("web", &[])
            .env_remove("CNB_PLATFORM_API")
            .output()
            .unwrap(),
    );
    assert!(
        stdout.starts_with("ERROR: failed to get platform API version; please set 'CNB_PLATFORM_API'"),
        "{stdout}"
    );
    assert_eq!(exit, 11);
    assert_eq!(
        with("x"),
        ("ERROR: failed to parse platform API 'x'\n".into(), 11)
    );
    assert_eq!(with("0.16").1, 11);
    assert_eq!(with("0.7"), (String::new(), 0));
}

#[test]
fn buildpack_apis_end_with_12() {
    for api in ["0.6", "0.13", "x", ""] {
        let image = Image::new(&BUILDPACK.replace("0.11", api));
        assert_eq!(image.start("launcher", &["true"]).1, 12, "{api}");
    }
}

#[test]
fn metadata_that_cannot_be_read_ends_with_1() {
    let image = Image::new("[[processes\n");
    let (stdout, exit) = image.start("web", &[]);
    assert!(stdout.starts_with("ERROR: failed to read metadata: "), "{stdout}");
    assert_eq!(exit, 1);
    fs::remove_file(image.path("layers/config/metadata.toml")).unwrap();
    let path = image.path("layers/config/metadata.toml");
    let expected = format!("ERROR: failed to read metadata: open {path}: no such file or directory\n");
    assert_eq!(image.start("web", &[]), (expected, 1));
}

#[test]
fn launch_failures_end_with_82() {
    let cases = [
        ("command = []", "no command provided for process type \"web\""),
        (
            "command = ['']",
            "path lookup: exec: \"\": executable file not found in $PATH",
        ),
        (
            "command = ['./no']",
            "path lookup: exec: \"./no\": stat ./no: no such file or directory",
        ),
        (
            "command = ['./data']",
            "path lookup: exec: \"./data\": permission denied",
        ),
        ("command = ['./broken']", "direct exec: no such file or directory"),
        (
            "command = ['true']\nworking-dir = '/no'",
            "change directory: chdir /no: no such file or directory",
        ),
    ];
    for (process, expected) in cases {
        let image = Image::with_process(process);
        image.write("app/data", "", 0o644);
        image.write("app/broken", "#!/no\n", 0o755);
        assert_eq!(
            image.start("web", &[]),
            (format!("ERROR: failed to launch: {expected}\n"), 82),
            "{process}"
        );
    }
}

#[test]
fn a_missing_app_folder_ends_with_82() {
    let image = Image::with_process("command = ['true']");
    fs::remove_dir(image.path("app")).unwrap();
    let path = image.path("app");
    let expected = format!(
        "ERROR: failed to launch: change to app directory: chdir {path}: no such file or directory\n"
    );
    assert_eq!(image.start("web", &[]), (expected, 82));
}

#[test]
fn a_dangling_environment_file_ends_with_82() {
    let image = Image::with_process("command = ['true']");
    fs::create_dir_all(image.path("layers/vec_one/a/env")).unwrap();
    std::os::unix::fs::symlink("/no", image.path("layers/vec_one/a/env/X")).unwrap();
    let (stdout, exit) = image.start("web", &[]);
    assert!(
        stdout.starts_with("ERROR: failed to launch: modify env: "),
        "{stdout}"
    );
    assert_eq!(exit, 82);
}

#[test]
fn exec_d_programs_that_cannot_run_end_with_82() {
    for (content, mode, cause) in [
        ("#!/bin/sh\n", 0o644, "permission denied"),
        ("#!/no\n", 0o755, "no such file or directory"),
    ] {
        let image = Image::with_process("command = ['true']");
        image.write("layers/vec_one/a/exec.d/p", content, mode);
        let path = image.path("layers/vec_one/a/exec.d/p");
        let expected = format!(
            "ERROR: failed to launch: exec.d: failed to execute exec.d file at path '{path}': fork/exec {path}: {cause}\n"
        );
        assert_eq!(image.start("web", &[]), (expected, 82), "{mode:o}");
    }
}

#[test]
fn exec_d_has_no_input_and_may_write_more_than_a_pipe_holds() {
    let image = Image::with_process("command = ['sh', '-c', 'echo ${#LONG} $MODE; cat']");
    let program = "#!/bin/sh\ncat\nhead -c 300000 /dev/zero | tr '\\0' x > long\n\
        printf 'MODE = \"set\"\\n' >&3\nprintf 'LONG = \"' >&3; head -c 100000 long >&3; printf '\"\\n' >&3\n\
        printf '# ' >&3; cat long >&3; printf '\\n' >&3\n";
    image.write("layers/vec_one/a/exec.d/p", program, 0o755);
    image.write("input", "from the user\n", 0o644);
    let input = fs::File::open(image.path("input")).unwrap();
    let output = image.launcher("web", &[]).stdin(input).output().unwrap();
    assert_eq!(outcome(&output), ("100000 set\nfrom the user\n".into(), 0));
}

#[test]
fn the_process_keeps_exit_codes_signals_and_inherited_descriptors() {
    let image = Image::with_process("command = ['sh', '-c']\nargs = ['exit 7']");
    image.write(
        "layers/vec_one/a/exec.d/p",
        "#!/bin/sh\nprintf 'A = \"a\"\\n' >&3\n",
        0o755,
    );
    assert_eq!(image.start("web", &[]), (String::new(), 7));
    let killed = image.launcher("web", &["kill -TERM $$"]).output().unwrap();
    assert_eq!(killed.status.signal(), Some(15));

    // A descriptor 3 from outside, as socket activation gives one, is the process's own after exec.d used that number.
    let socket = image.path("inherited");
    fs::write(&socket, "inherited\n").unwrap();
    let launcher = env!("CARGO_BIN_EXE_launcher");
    let script = format!("exec -a web '{launcher}' 'read line <&3; echo \"$A $line\"' 3< '{socket}'");
    let mut command = image.launcher("web", &[]);
    let environment: Vec<_> = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.unwrap().to_owned()))
        .collect();
    command = bash(&script);
    assert_eq!(
        outcome(&command.env_clear().envs(environment).output().unwrap()),
        ("a inherited\n".into(), 0)
    );
}

#[expect(clippy::disallowed_methods, reason = "tests start programs themselves")]
fn bash(script: &str) -> Command {
    let mut command = Command::new(Path::new("/bin/bash"));
    command.args(["-c", script]);
    command
}

#[test]
fn a_relative_program_is_found_in_the_app_and_run_in_the_working_folder() {
    let image = Image::with_process("command = ['./p']\nworking-dir = '/'");
    image.write("app/p", "#!/bin/sh\n", 0o755);
    let expected = "ERROR: failed to launch: direct exec: no such file or directory\n";
    assert_eq!(image.start("web", &[]), (expected.into(), 82));
}

/// The reference says "exec format error"; the C library's way, which ours is, has always been to ask the shell.
#[test]
fn a_script_without_an_interpreter_is_run_by_the_shell() {
    let image = Image::with_process("command = ['./p']");
    image.write("app/p", "echo from the shell\n", 0o755);
    assert_eq!(image.start("web", &[]), ("from the shell\n".into(), 0));
}
