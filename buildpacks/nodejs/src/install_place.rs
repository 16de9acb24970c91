//! Whether an app's dependencies can be installed apart from it, in layers, or only in its own folder.

use crate::lockfile::Lockfile;
use crate::npmrc::setting_with_app_file;
use crate::project::Project;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The app's own scripts that npm runs when it installs.
const INSTALL_SCRIPTS: [&str; 10] = [
    "preinstall",
    "install",
    "postinstall",
    "prepublish",
    "preprepare",
    "prepare",
    "postprepare",
    "predependencies",
    "dependencies",
    "postdependencies",
];
/// Packages that do not work from a linked folder, and why.
const BOUND_TO_APP: [(&str, &str); 2] = [
    ("next", "whose bundler takes no linked node_modules"),
    ("@prisma/client", "whose install script reads the app's schema"),
];

/// Why the app's own folder is the only place for its dependencies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WhyInApp {
    #[error("there is no lock file")]
    NoLockfile,
    #[error("the lock file does not list packages in a way that is known here")]
    OddLockfile,
    #[error("node_modules is part of the source")]
    NodeModulesInSource,
    #[error("the app has workspaces")]
    Workspaces,
    #[error("`{}` is installed from the app's own files", .0.escape_debug())]
    LocalPackage(String),
    #[error("the app has {0}, which npm runs when it installs")]
    InstallScript(String),
    #[error("the app uses `{0}`, {1}")]
    BoundPackage(&'static str, &'static str),
    #[error("`{}` in .npmrc names a file of the app", .0.escape_debug())]
    FileInNpmrc(String),
}

/// The first reason, or `None` where layers will do.
pub(crate) fn why_in_app(project: &Project) -> Option<WhyInApp> {
    if project.has_node_modules {
        return Some(WhyInApp::NodeModulesInSource);
    }
    if project.lockfile == Lockfile::Missing {
        return Some(WhyInApp::NoLockfile);
    }
    let package = &project.package;
    if package.has_workspaces() {
        return Some(WhyInApp::Workspaces);
    }
    if let Some(name) = INSTALL_SCRIPTS
        .into_iter()
        .find(|name| package.script(name).is_some())
    {
        return Some(WhyInApp::InstallScript(format!("the script `{name}`")));
    }
    if project.has_binding_gyp {
        return Some(WhyInApp::InstallScript("a binding.gyp".to_string()));
    }
    let wanted = package.dependencies.wanted();
    if let Some((name, _)) = wanted.iter().find(|(_, version)| is_local(version)) {
        return Some(WhyInApp::LocalPackage((*name).to_string()));
    }
    if let Some((name, why)) = BOUND_TO_APP
        .into_iter()
        .find(|(name, _)| wanted.contains_key(name))
    {
        return Some(WhyInApp::BoundPackage(name, why));
    }
    if let Some(name) = project.npmrc.as_deref().and_then(setting_with_app_file) {
        return Some(WhyInApp::FileInNpmrc(name.to_string()));
    }
    why_by_lockfile(&project.lockfile_text)
}

/// A path in place of a version; `~/` is the home folder, but `~1.2` is a range.
fn is_local(version: &str) -> bool {
    ["file:", "link:", "./", "../", "/", "~/"]
        .into_iter()
        .any(|prefix| version.starts_with(prefix))
        || matches!(version, "." | "..")
}

/// The parts of a lock file that name places; `dependencies` is the form of npm 6.
#[derive(Deserialize)]
struct LockedTree {
    packages: Option<BTreeMap<String, LockedPackage>>,
    #[serde(default)]
    dependencies: BTreeMap<String, LockedDependency>,
}

#[derive(Deserialize)]
struct LockedPackage {
    link: Option<Value>,
    resolved: Option<Value>,
}

#[derive(Deserialize)]
struct LockedDependency {
    version: Option<Value>,
}

fn why_by_lockfile(text: &str) -> Option<WhyInApp> {
    let Ok(tree) = serde_json::from_str::<LockedTree>(text) else {
        return Some(WhyInApp::OddLockfile);
    };
    let is_local_text = |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(is_local);
    let Some(packages) = tree.packages else {
        let local = tree.dependencies.into_iter();
        return local
            .filter(|(_, locked)| is_local_text(locked.version.as_ref()))
            .map(|(name, _)| WhyInApp::LocalPackage(name))
            .next();
    };
    packages
        .into_iter()
        .filter(|(path, _)| !path.is_empty())
        .find(|(path, locked)| {
            !path.starts_with("node_modules/")
                || locked.link.as_ref().and_then(Value::as_bool) == Some(true)
                || is_local_text(locked.resolved.as_ref())
        })
        .map(|(path, _)| {
            let name = path.strip_prefix("node_modules/").unwrap_or(&path);
            WhyInApp::LocalPackage(name.to_string())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::read_project;
    use libcnb::Env;
    use std::fs;

    fn why(package: &str, lockfile: &str, more: &[(&str, &str)]) -> String {
        let app = tempfile::tempdir().unwrap();
        let both = [("package.json", package), ("package-lock.json", lockfile)];
        for (name, text) in both.iter().chain(more).filter(|(_, text)| !text.is_empty()) {
            fs::write(app.path().join(name), text).unwrap();
        }
        let project = read_project(app.path(), &Env::new()).unwrap();
        why_in_app(&project).map_or("in layers".to_string(), |why| why.to_string())
    }

    const LOCK: &str = r#"{"packages": {"": {}, "node_modules/a": {"version": "1.0.0",
        "resolved": "https://registry.npmjs.org/a/-/a-1.0.0.tgz"}}}"#;

    #[test]
    fn an_ordinary_app_gets_layers() {
        for (package, lockfile) in [
            (r#"{"dependencies": {"a": "~1.0", "b": "github:x/y"}}"#, LOCK),
            (
                r#"{"scripts": {"build": "x", "start": "y", "prepare": " "}}"#,
                LOCK,
            ),
            ("{}", r#"{"dependencies": {"a": {"version": "1.0.0"}}}"#),
            ("{}", r#"{"packages": {"": {}}}"#),
        ] {
            assert_eq!(why(package, lockfile, &[]), "in layers", "{package} {lockfile}");
        }
        let npmrc = [(".npmrc", "fund=false")];
        assert_eq!(why("{}", LOCK, &npmrc), "in layers");
    }

    #[test]
    fn what_needs_the_app_stays_in_it() {
        for (package, lockfile, more, expected) in [
            ("{}", "", ("x", ""), "there is no lock file"),
            (
                "{}",
                LOCK,
                ("node_modules", "x"),
                "node_modules is part of the source",
            ),
            (
                r#"{"workspaces": ["a"]}"#,
                LOCK,
                ("x", ""),
                "the app has workspaces",
            ),
            (
                r#"{"scripts": {"postinstall": "patch-package"}}"#,
                LOCK,
                ("x", ""),
                "the app has the script `postinstall`, which npm runs when it installs",
            ),
            (
                "{}",
                LOCK,
                ("binding.gyp", "{}"),
                "the app has a binding.gyp, which npm runs when it installs",
            ),
            (
                r#"{"devDependencies": {"own": "file:own"}}"#,
                LOCK,
                ("x", ""),
                "`own` is installed from the app's own files",
            ),
            (
                r#"{"dependencies": {"next": "16"}}"#,
                LOCK,
                ("x", ""),
                "the app uses `next`, whose bundler takes no linked node_modules",
            ),
            (
                "{}",
                LOCK,
                (".npmrc", "cafile=ca.pem"),
                "`cafile` in .npmrc names a file of the app",
            ),
        ] {
            assert_eq!(why(package, lockfile, &[more]), expected, "{package} {lockfile}");
        }
    }

    #[test]
    fn lock_files_tell_what_is_local() {
        let local = "`own` is installed from the app's own files";
        for (lockfile, expected) in [
            (
                r#"{"packages": {"": {}, "node_modules/own": {"resolved": "lib/own", "link": true}}}"#,
                local,
            ),
            (
                r#"{"packages": {"node_modules/own": {"resolved": "file:own.tgz"}}}"#,
                local,
            ),
            (r#"{"packages": {"own": {"version": "1.0.0"}}}"#, local),
            (r#"{"dependencies": {"own": {"version": "file:own"}}}"#, local),
            (
                r#"{"packages": []}"#,
                "the lock file does not list packages in a way that is known here",
            ),
        ] {
            assert_eq!(why("{}", lockfile, &[]), expected, "{lockfile}");
        }
    }
}
