//! Builds the launcher and the shipped buildpacks as static programs and packs them for `store/embedded.rs`.
#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told everything by its environment, and runs cargo"
)]

mod program_digest;

use std::env;
use std::error::Error;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use sha2::Digest as _;
use sha2::Sha256;

/// Folder in `buildpacks/`, which is also the name of its program.
const BUILDPACKS: [&str; 2] = ["nodejs", "procfile"];

fn main() -> Result<(), Box<dyn Error>> {
    let builder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = builder.parent().ok_or("the package has no workspace")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for input in program_digest::INPUTS
        .into_iter()
        .chain(["buildpacks", "builder/launcher"])
    {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }

    let programs = build_programs(workspace, &out)?;
    let packed = out.join("embedded.tar.zst");
    pack(workspace, &programs, &packed)?;

    let embedded = hex(&Sha256::digest(fs::read(&packed)?));
    println!("cargo::rustc-env=PACKHORSE_EMBEDDED_DIGEST={embedded}");
    // Cargo runs this again for another compiler.
    let compiler = Command::new(env::var("RUSTC")?).arg("-vV").output()?.stdout;
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rustc-env=PACKHORSE_BUILT_AT={}", built_at()?);
    let program = hex(&program_digest::program_digest(workspace, &compiler)?);
    println!("cargo::rustc-env=PACKHORSE_PROGRAM_DIGEST={program}");
    Ok(())
}

/// When the program is built, in seconds since 1970; builds that are to be reproducible say it (reproducible-builds.org).
fn built_at() -> Result<u64, Box<dyn Error>> {
    match env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => Ok(seconds.trim().parse()?),
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    }
}

/// Where cargo, run again, has left the programs.
struct Programs {
    launcher: PathBuf,
    buildpacks: PathBuf,
}

/// Runs cargo again, with target directories of its own so that it and the outer one never wait for each other.
fn build_programs(workspace: &Path, out: &Path) -> Result<Programs, Box<dyn Error>> {
    let target_directory = out
        .ancestors()
        .find(|ancestor| ancestor.file_name().is_some_and(|name| name == "build"))
        .and_then(|build| build.parent()?.parent())
        .ok_or("OUT_DIR is not in a target directory")?;
    let optimised = target_directory.join("embedded");
    let launcher = run_cargo(workspace, &optimised, &["packhorse-launcher".to_owned()], &[])?;
    let names: Vec<String> = BUILDPACKS
        .iter()
        .map(|name| format!("packhorse-buildpack-{name}"))
        .collect();
    let buildpacks = if is_release()? {
        run_cargo(workspace, &optimised, &names, &[])?
    } else {
        // Whoever changes code and runs tests should not wait for the linker's whole-program pass.
        let quick = [
            ("CARGO_PROFILE_EMBEDDED_LTO", "off"),
            ("CARGO_PROFILE_EMBEDDED_CODEGEN_UNITS", "16"),
            ("CARGO_PROFILE_EMBEDDED_OPT_LEVEL", "1"),
        ];
        run_cargo(
            workspace,
            &target_directory.join("embedded-quick"),
            &names,
            &quick,
        )?
    };
    Ok(Programs { launcher, buildpacks })
}

/// Builds packages as static programs; says in which folder they are.
fn run_cargo(
    workspace: &Path,
    target_directory: &Path,
    packages: &[String],
    settings: &[(&str, &str)],
) -> Result<PathBuf, Box<dyn Error>> {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH")?;
    let target = format!("{architecture}-unknown-linux-gnu");
    let home = env::var("CARGO_HOME").or_else(|_| env::var("HOME").map(|home| format!("{home}/.cargo")))?;
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=packhorse", workspace.display()),
        format!("--remap-path-prefix={home}=cargo"),
    ];
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--locked",
            "--profile",
            "embedded",
            "--target",
            &target,
            "--target-dir",
        ])
        .arg(target_directory)
        .args(packages.iter().flat_map(|package| ["--package", package]));
    // What the outer cargo (or clippy) set for this package is not meant for those.
    for variable in [
        "RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
    ] {
        cargo.env_remove(variable);
    }
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .envs(settings.iter().copied());
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("building {} failed: {status}", packages.join(" and ")).into());
    }
    Ok(target_directory.join(target).join("embedded"))
}

/// `launcher` and `buildpacks/NAME/{buildpack.toml,bin/build,bin/detect}`, in one zstd tar with fixed owners and times.
fn pack(workspace: &Path, programs: &Programs, destination: &Path) -> Result<(), Box<dyn Error>> {
    let encoder = zstd::Encoder::new(File::create(destination)?, compression_level()?)?.auto_finish();
    let mut archive = tar::Builder::new(encoder);
    append_file(
        &mut archive,
        "launcher",
        &fs::read(programs.launcher.join("launcher"))?,
        0o755,
    )?;
    for name in BUILDPACKS {
        let descriptor = fs::read(workspace.join("buildpacks").join(name).join("buildpack.toml"))?;
        append_file(
            &mut archive,
            &format!("buildpacks/{name}/buildpack.toml"),
            &descriptor,
            0o644,
        )?;
        append_file(
            &mut archive,
            &format!("buildpacks/{name}/bin/build"),
            &fs::read(programs.buildpacks.join(name))?,
            0o755,
        )?;
        let mut link = header(0, 0o777);
        link.set_entry_type(tar::EntryType::Symlink);
        archive.append_link(&mut link, format!("buildpacks/{name}/bin/detect"), "build")?;
    }
    archive.finish()?;
    Ok(())
}

/// Nobody ships a debug build, and packing hard takes seconds.
fn compression_level() -> Result<i32, env::VarError> {
    Ok(if is_release()? { 19 } else { 1 })
}

fn is_release() -> Result<bool, env::VarError> {
    Ok(env::var("PROFILE")? == "release")
}

fn append_file(
    archive: &mut tar::Builder<impl std::io::Write>,
    path: &str,
    contents: &[u8],
    mode: u32,
) -> std::io::Result<()> {
    archive.append_data(&mut header(contents.len() as u64, mode), path, contents)
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(315_532_801);
    header
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
