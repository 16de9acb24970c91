//! How the app is started when it has no Procfile.

use crate::package_json::PackageJson;
use std::path::Component;
use std::path::Path;

/// The command of the `web` process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WebProcess {
    NpmStart,
    /// `node` with this file, named from the app's folder.
    Node(String),
}

impl WebProcess {
    pub(crate) fn command(&self) -> Vec<String> {
        match self {
            Self::NpmStart => vec!["npm".to_string(), "start".to_string()],
            Self::Node(file) => vec!["node".to_string(), file.clone()],
        }
    }
}

/// The start script, else `server.js` (npm's own fall-back), else `main`, else `index.js`, else nothing.
pub(crate) fn choose_web_process(
    package: &PackageJson,
    is_file: impl Fn(&str) -> bool,
) -> Option<WebProcess> {
    if package.has_start_script() {
        return Some(WebProcess::NpmStart);
    }
    let from_main = package
        .main()
        .filter(|main| is_inside_app(main))
        .map(main_files)
        .unwrap_or_default();
    std::iter::once("server.js".to_string())
        .chain(from_main)
        .chain(std::iter::once("index.js".to_string()))
        .find(|file| is_file(file))
        .map(WebProcess::Node)
}

/// The files that Node.js tries for a `main`, in its order.
fn main_files(main: &str) -> Vec<String> {
    let main = main.trim_end_matches('/');
    vec![main.to_string(), format!("{main}.js"), format!("{main}/index.js")]
}

fn is_inside_app(main: &str) -> bool {
    // A leading dash would be an option of `node`.
    !main.starts_with('-')
        && Path::new(main)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_by_what_the_app_has() {
        let node = |file: &str| Some(WebProcess::Node(file.to_string()));
        for (package, files, expected) in [
            (
                r#"{"scripts": {"start": "node a.js"}}"#,
                vec!["server.js"],
                Some(WebProcess::NpmStart),
            ),
            (
                r#"{"main": "app.js"}"#,
                vec!["server.js", "app.js"],
                node("server.js"),
            ),
            (
                r#"{"main": "app.js"}"#,
                vec!["app.js", "index.js"],
                node("app.js"),
            ),
            (
                r#"{"main": "./lib/app"}"#,
                vec!["./lib/app.js"],
                node("./lib/app.js"),
            ),
            (r#"{"main": "lib/"}"#, vec!["lib/index.js"], node("lib/index.js")),
            (r#"{"main": "gone.js"}"#, vec!["index.js"], node("index.js")),
            (r#"{"main": "../../etc/x.js"}"#, vec!["../../etc/x.js"], None),
            (r#"{"main": "/etc/x.js"}"#, vec!["/etc/x.js"], None),
            (r#"{"main": "--eval"}"#, vec!["--eval"], None),
            (
                r#"{"scripts": {"start": ""}}"#,
                vec!["index.js"],
                node("index.js"),
            ),
            ("{}", vec![], None),
        ] {
            let package_json = PackageJson::parse(package).unwrap();
            let chosen = choose_web_process(&package_json, |file| files.contains(&file));
            assert_eq!(chosen, expected, "{package} {files:?}");
        }
    }
}
