//! The programs that go into images: small, static, and without what crashes in a static program.
//!
//! The C library finds users and hosts by loading shared libraries, as `/etc/nsswitch.conf` says; in a static program
//! that ends in a crash on some images. All of its calls that do so ask its daemon first, and the name of that source
//! file is in an assertion of theirs: so it is in every program that has such a call, stripped or not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

#[path = "../builder/program_digest.rs"]
mod program_digest;

use packhorse::store::embedded::BUILDPACKS;
use packhorse::store::embedded::Embedded;
use packhorse::store::embedded::launcher;
use tempfile::TempDir;

use self::program_digest::program_digest;

/// Bytes of the launcher, which is in every image.
const LAUNCHER_BYTES_MAX: usize = 2 << 20;
/// What is in a program that calls `getpw*`, `getgr*`, `gethostby*` or `getaddrinfo`. Not the name of
/// `/etc/nsswitch.conf`: a program that was linked without a whole-program pass may have that without any of them.
const NAME_SERVICE: &[u8] = b"nscd_helper";
/// A user in no `/etc/passwd`.
const FOREIGN_USER: &str = "54321";

#[test]
fn another_program_has_another_digest() {
    let workspace = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = workspace.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let files = [
        "Cargo.lock",
        "Cargo.toml",
        "builder/Cargo.toml",
        "builder/data/keys/a",
        "builder/spec/src/lib.rs",
        "builder/src/lib.rs",
    ];
    for file in files {
        write(file, "1");
    }
    let digest = |compiler: &[u8]| program_digest(workspace.path(), compiler).unwrap();
    let mut last = digest(b"rustc 1");
    assert_eq!(digest(b"rustc 1"), last);
    for file in files {
        write(file, "2");
        let next = digest(b"rustc 1");
        assert_ne!(next, last, "{file} counts");
        last = next;
    }
    assert_ne!(digest(b"rustc 2"), last, "the compiler counts");
}

#[test]
fn the_launcher_is_small() {
    let size = launcher().unwrap().len();
    assert!(
        size <= LAUNCHER_BYTES_MAX,
        "the launcher has {size} bytes, {LAUNCHER_BYTES_MAX} at most"
    );
}

#[test]
fn the_programs_are_static() {
    let (scratch, embedded) = laid_out();
    for program in programs(&scratch, &embedded) {
        assert!(
            !has_interpreter(&fs::read(&program).unwrap()),
            "{} is linked dynamically",
            program.display()
        );
    }
    assert!(
        has_interpreter(&fs::read("/proc/self/exe").unwrap()),
        "the check does not see an interpreter"
    );
}

#[test]
fn the_programs_never_ask_the_c_library_for_users_or_hosts() {
    let (scratch, embedded) = laid_out();
    for program in programs(&scratch, &embedded) {
        let has_it = contains(&fs::read(&program).unwrap(), NAME_SERVICE);
        assert!(
            !has_it,
            "{} has a call like getpwuid or getaddrinfo in it",
            program.display()
        );
    }
    let library = fs::read(c_library()).unwrap();
    assert!(
        contains(&library, NAME_SERVICE),
        "this C library has not the word that is looked for"
    );
}

#[test]
fn the_launcher_runs_as_a_user_whom_nobody_knows() {
    let (scratch, _) = laid_out();
    let config = scratch.path().join("layers/config");
    fs::create_dir_all(&config).unwrap();
    let metadata = "[[buildpacks]]\nid = 'test/one'\nversion = '1'\napi = '0.11'\n\
        [[processes]]\ntype = 'web'\ncommand = ['sh', '-c', 'echo user $(/usr/bin/stat -c %u /proc/self) home ${HOME-unset}']\n\
        direct = true\nbuildpack-id = 'test/one'\n";
    fs::write(config.join("metadata.toml"), metadata).unwrap();
    let mut bubblewrap = foreign(&scratch);
    bubblewrap
        .arg("--ro-bind")
        .arg(scratch.path().join("layers"))
        .arg("/layers");
    bubblewrap
        .arg("--ro-bind")
        .arg(laid_out_launcher(&scratch))
        .arg("/cnb/process/web");
    let variables = [
        ("PATH", "/usr/bin"),
        ("CNB_PLATFORM_API", "0.15"),
        ("CNB_LAYERS_DIR", "/layers"),
        ("CNB_APP_DIR", "/workspace"),
    ];
    set(&mut bubblewrap, &variables);
    let output = bubblewrap.arg("/cnb/process/web").output().unwrap();
    assert_eq!(text(&output), format!("user {FOREIGN_USER} home unset\n exit 0"));
}

#[test]
fn the_buildpacks_run_as_a_user_whom_nobody_knows() {
    let (scratch, embedded) = laid_out();
    let workspace = scratch.path().join("workspace");
    fs::write(workspace.join("Procfile"), "web: true\n").unwrap();
    fs::write(workspace.join("package.json"), "{}").unwrap();
    for name in BUILDPACKS {
        let mut bubblewrap = foreign(&scratch);
        bubblewrap
            .arg("--ro-bind")
            .arg(embedded.buildpack(name))
            .arg("/buildpack");
        let variables = [
            ("CNB_BUILDPACK_DIR", "/buildpack"),
            ("CNB_PLATFORM_DIR", "/platform"),
            ("CNB_BUILD_PLAN_PATH", "/tmp/plan.toml"),
            ("CNB_TARGET_OS", "linux"),
            ("CNB_TARGET_ARCH", "amd64"),
            ("CNB_TARGET_DISTRO_NAME", "debian"),
            ("CNB_TARGET_DISTRO_VERSION", "13"),
        ];
        set(&mut bubblewrap, &variables);
        let output = bubblewrap
            .args(["/buildpack/bin/detect", "/platform", "/tmp/plan.toml"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", text(&output));
    }
}

/// The programs, laid out in a scratch folder.
fn laid_out() -> (TempDir, Embedded) {
    let scratch = TempDir::new().unwrap();
    let embedded = Embedded::lay_out(scratch.path()).unwrap();
    for folder in ["etc", "workspace"] {
        fs::create_dir(scratch.path().join(folder)).unwrap();
    }
    (scratch, embedded)
}

/// The launcher as it is in an image.
fn laid_out_launcher(scratch: &TempDir) -> PathBuf {
    let path = scratch.path().join("launcher");
    fs::write(&path, launcher().unwrap()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn programs(scratch: &TempDir, embedded: &Embedded) -> Vec<PathBuf> {
    let buildpacks = BUILDPACKS
        .iter()
        .map(|name| embedded.buildpack(name).join("bin/build"));
    [laid_out_launcher(scratch)]
        .into_iter()
        .chain(buildpacks)
        .collect()
}

/// A command in a root with the machine's programs, a user that nobody knows, no home folder, and a name service that
/// asks modules which a static program cannot load.
fn foreign(scratch: &TempDir) -> Command {
    fs::write(
        scratch.path().join("etc/nsswitch.conf"),
        "passwd: files systemd\ngroup: files systemd\nhosts: files resolve\n",
    )
    .unwrap();
    let mut command = Command::new("bwrap");
    command.args([
        "--unshare-all",
        "--die-with-parent",
        "--clearenv",
        "--uid",
        FOREIGN_USER,
        "--gid",
        FOREIGN_USER,
    ]);
    command.args([
        "--ro-bind",
        "/usr",
        "/usr",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
        "--dir",
        "/platform/env",
    ]);
    for link in ["bin", "lib", "lib64"] {
        command.args(["--symlink", &format!("usr/{link}"), &format!("/{link}")]);
    }
    command
        .arg("--ro-bind")
        .arg(scratch.path().join("etc"))
        .arg("/etc");
    command
        .arg("--bind")
        .arg(scratch.path().join("workspace"))
        .arg("/workspace");
    command.args(["--chdir", "/workspace"]);
    command
}

fn set(command: &mut Command, variables: &[(&str, &str)]) {
    for (name, value) in variables {
        command.args(["--setenv", name, value]);
    }
}

fn text(output: &Output) -> String {
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!("{stdout}{stderr} exit {}", output.status.code().unwrap_or(-1))
}

/// The C library that this very program runs with.
fn c_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let library = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("/libc.so"));
    Path::new(library.unwrap()).to_owned()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Whether an ELF program names a dynamic linker (elf(5): a program header of type `PT_INTERP`).
fn has_interpreter(program: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    assert_eq!(program[..5], *b"\x7fELF\x02", "not a 64-bit ELF program");
    let number = |at: usize, bytes: usize| -> u64 {
        program[at..at + bytes]
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let at = |value: u64| usize::try_from(value).unwrap();
    let (first, size, count) = (at(number(32, 8)), at(number(54, 2)), at(number(56, 2)));
    (0..count).any(|index| number(first + index * size, 4) == PT_INTERP)
}
