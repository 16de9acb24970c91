//! The exact words of the failures that users meet.

use super::*;
use crate::http::HttpClient;
use crate::integrity::Integrity;
use crate::lockfile::Lockfile;
use crate::node_modules::NodeModulesError;
use crate::npm::RunNpmError;
use crate::project::ReadProjectError;
use crate::project::read_project;
use libcnb::Env;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

fn words(error: NodejsBuildpackError) -> String {
    message(&libcnb::Error::BuildpackError(error)).to_string()
}

fn project_error(files: &[(&str, &str)]) -> ReadProjectError {
    let app = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(app.path().join(name), text).unwrap();
    }
    read_project(app.path(), &Env::new()).unwrap_err()
}

fn npm_error(command: &str, raw_status: i32) -> RunNpmError {
    RunNpmError::Failed {
        command: command.to_string(),
        status: ExitStatus::from_raw(raw_status),
    }
}

fn install_failure(raw_status: i32, differences: &[&str]) -> String {
    words(NodejsBuildpackError::InstallDependencies {
        source: npm_error("npm ci --include=dev", raw_status),
        lockfile: Lockfile::PackageLock,
        differences: differences.iter().map(ToString::to_string).collect(),
    })
}

#[test]
fn broken_package_json() {
    let error = project_error(&[(
        "package.json",
        "{\n  \"name\": \"a\"\n  \"version\": \"1.0.0\"\n}",
    )]);
    assert_eq!(
        words(NodejsBuildpackError::ReadProject(error)),
        "\
error: package.json is not valid
  where: package.json, line 3, column 3
  why: expected `,` or `}`
hint: correct that line, then run `npm pkg get name`; it reads package.json and must succeed"
    );
}

#[test]
fn broken_lock_file() {
    let error = project_error(&[("package.json", "{}"), ("package-lock.json", "{\n<<<<<<< HEAD\n")]);
    assert_eq!(
        words(NodejsBuildpackError::ReadProject(error)),
        "\
error: package-lock.json is not valid
  where: package-lock.json, line 2, column 1
  why: key must be a string
hint: do not repair it by hand: remove package-lock.json and conflict markers (`<<<<<<<`), run `npm install`, commit package-lock.json"
    );
}

#[test]
fn lock_file_of_another_package_manager() {
    let error = project_error(&[("package.json", "{}"), ("yarn.lock", "")]);
    assert_eq!(
        words(NodejsBuildpackError::ReadProject(error)),
        "\
error: Yarn is not supported yet, only npm
  where: yarn.lock
  why: the app has yarn.lock and no package-lock.json, and other versions would be installed with npm
hint: run `npm install` and commit package-lock.json"
    );
}

#[test]
fn version_that_cannot_be_understood() {
    let error = project_error(&[("package.json", "{}"), (".nvmrc", "lts/boron\n")]);
    assert_eq!(
        words(NodejsBuildpackError::ReadProject(error)),
        "\
error: the wanted version of Node.js cannot be understood
  where: .nvmrc
  why: .nvmrc asks for `lts/boron`, which is no long-term support line that is known here; known are krypton, jod, iron, hydrogen, gallium, fermium, erbium
hint: write something like `24` or `lts/krypton`"
    );
}

#[test]
fn version_that_does_not_exist() {
    let source = ResolveReleaseError::NoNode {
        nearest: vec!["24.21.0 (lts/krypton)".to_string(), "26.10.0".to_string()],
    };
    let registry = "https://registry.npmjs.org".to_string();
    assert_eq!(
        words(NodejsBuildpackError::ResolveRelease {
            source,
            asked: "99.x".to_string(),
            origin: Origin::EnginesNode,
            registry
        }),
        "\
error: there is no Node.js `99.x`
  where: `engines.node` in package.json, which asks for `99.x`
  why: no version at https://registry.npmjs.org fits; the nearest are 24.21.0 (lts/krypton), 26.10.0
hint: ask for a line that exists, such as `\"engines\": { \"node\": \"24.x\" }`"
    );
}

#[test]
fn registry_that_cannot_be_reached() {
    // A port that was free a moment ago: nothing listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let client = HttpClient::new(&Env::new()).unwrap();
    let error = client.get(&format!("http://{free}/npm"), "*/*", 1).unwrap_err();
    let source = ResolveReleaseError::Fetch(error);
    let (asked, registry) = ("24".to_string(), format!("http://{free}"));
    assert_eq!(
        words(NodejsBuildpackError::ResolveRelease {
            source,
            asked,
            origin: Origin::Nvmrc,
            registry
        }),
        format!(
            "\
error: the npm registry could not be read
  where: the registry that Node.js and npm come from
  why: GET http://{free}/npm: io: Connection refused (os error 111)
hint: check that the build may reach the registry: its network policy, https_proxy, SSL_CERT_FILE, and \
NPM_CONFIG_REGISTRY for a mirror; or try again later"
        )
    );
}

#[test]
fn download_with_another_hash() {
    let error = InstallNodeError::Integrity {
        package: "npm",
        version: "11.0.0".to_string(),
        url: "https://me:secret@mirror.example/npm.tgz".to_string(),
        listed: Integrity::of_digest([0; 64]),
        found: Integrity::of_digest([1; 64]),
    };
    let (zeros, ones) = (Integrity::of_digest([0; 64]), Integrity::of_digest([1; 64]));
    assert_eq!(
        words(NodejsBuildpackError::InstallNode(error)),
        format!(
            "\
error: the download of npm 11.0.0 is not what was published
  where: https://mirror.example/npm.tgz
  why: its hash is {ones}, but the registry lists {zeros}; nothing of it was used
hint: build again; if it comes back, a mirror or proxy on the way changes or mixes up files"
        )
    );
}

#[test]
fn install_that_fails_with_and_without_a_known_reason() {
    assert_eq!(
        install_failure(1 << 8, &[]),
        "\
error: the dependencies could not be installed
  where: package.json and package-lock.json
  why: `npm ci --include=dev` exited with code 1; npm's own error is above
hint: run the same command in a clean checkout; it must succeed there first"
    );
    assert_eq!(
        install_failure(
            1 << 8,
            &["express: package.json asks for ^5, the lock file was made for ^4"]
        ),
        "\
error: the dependencies could not be installed: package.json and the lock file do not agree
  where: package.json and package-lock.json
  why: `npm ci --include=dev` exited with code 1; npm's own error is above
       express: package.json asks for ^5, the lock file was made for ^4
hint: run `npm install` and commit both files"
    );
    assert!(install_failure(1 << 8, &["a"; 12]).contains("\n       and 2 more\n"));
}

#[test]
fn dependencies_that_cannot_be_linked() {
    let error = NodejsBuildpackError::NodeModules(NodeModulesError {
        action: "make the link",
        path: "/workspace/node_modules".into(),
        source: io::Error::from_raw_os_error(13),
    });
    assert_eq!(
        words(error),
        "\
error: the dependencies could not be put in their place
  where: /workspace/node_modules
  why: cannot make the link `/workspace/node_modules`: Permission denied (os error 13)
hint: the folders of the layers and of the app must be writable for the build's user"
    );
}

#[test]
fn build_script_that_fails() {
    assert_eq!(
        words(NodejsBuildpackError::BuildScript(npm_error(
            "npm run build",
            2 << 8
        ))),
        "\
error: the app's build script failed
  where: `scripts.build` in package.json
  why: `npm run build` exited with code 2; its own output is above
hint: run `npm ci` and `npm run build` in a clean checkout; they must succeed there first"
    );
}

#[test]
fn a_killed_command_points_to_memory() {
    let told = words(NodejsBuildpackError::BuildScript(npm_error("npm run build", 9)));
    assert!(told.contains("was killed by signal 9"), "{told}");
    assert!(
        told.ends_with("hint: most often the build ran out of memory; give it more"),
        "{told}"
    );
}

#[test]
fn a_full_disk_is_told_whoever_notices_it() {
    let full = || io::Error::from_raw_os_error(28);
    for (error, why) in [
        (
            NodejsBuildpackError::NodeModules(NodeModulesError {
                action: "copy",
                path: "/layers/a".into(),
                source: full(),
            }),
            "cannot copy `/layers/a`: No space left on device (os error 28)",
        ),
        (
            NodejsBuildpackError::InstallNode(InstallNodeError::Download {
                package: "npm",
                version: "11.0.0".to_string(),
                source: HttpError::Write(full()),
            }),
            "cannot download `npm` 11.0.0: cannot write a download to the disk: No space left on device (os error 28)",
        ),
        (
            NodejsBuildpackError::BuildScript(npm_error("npm run build", 228 << 8)),
            "`npm run build` exited with code 228; its own output is above",
        ),
    ] {
        assert_eq!(
            words(error),
            format!(
                "\
error: the disk is full
  where: the build's layers, app or temporary folder
  why: {why}
hint: give builds more room, or remove what the app does not need"
            )
        );
    }
}

#[test]
fn an_architecture_without_node() {
    assert_eq!(
        words(NodejsBuildpackError::UnsupportedArchitecture(
            "riscv64".to_string()
        )),
        "\
error: there is no Node.js for riscv64
  where: the target architecture of the image
  why: Node.js comes from npm packages that exist for amd64 and arm64
hint: build for linux/amd64 or linux/arm64"
    );
}
