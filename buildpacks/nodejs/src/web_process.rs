//! How the app is started when it has no Procfile.

use crate::package_json::PackageJson;
use std::path::Component;
use std::path::Path;

/// The command of the `web` process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WebProcess {
    NpmStart,
    /// `node` with the words of the start script after it, or with one file, named from the app's folder.
    Node(Vec<String>),
}

impl WebProcess {
    pub(crate) fn command(&self) -> Vec<String> {
        match self {
            Self::NpmStart => vec!["npm".to_string(), "start".to_string()],
            Self::Node(arguments) => std::iter::once("node")
                .chain(arguments.iter().map(String::as_str))
                .map(ToString::to_string)
                .collect(),
        }
    }
}

/// The start script, else `server.js` (npm's own fall-back), else `main`, else `index.js`, else nothing.
pub(crate) fn choose_web_process(
    package: &PackageJson,
    is_file: impl Fn(&str) -> bool,
) -> Option<WebProcess> {
    if let Some(script) = package.script("start") {
        let has_more_scripts = ["prestart", "poststart"]
            .into_iter()
            .any(|name| package.script(name).is_some());
        return Some(match node_arguments(script) {
            Some(arguments) if !has_more_scripts => WebProcess::Node(arguments),
            _ => WebProcess::NpmStart,
        });
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
        .map(|file| WebProcess::Node(vec![file]))
}

/// The arguments of a script that is `node` and plain words, which needs neither npm nor a shell to run.
///
/// npm is a process of its own in between: it does not pass every signal on, and ends with a code of its own.
fn node_arguments(script: &str) -> Option<Vec<String>> {
    let is_plain = |letter: char| {
        letter.is_ascii_alphanumeric()
            || letter.is_ascii_whitespace()
            || matches!(letter, '-' | '_' | '.' | '/' | ':' | '=' | ',' | '@' | '+')
    };
    // A line break ends a command.
    if !script.chars().all(is_plain) || script.contains(['\n', '\r']) {
        return None;
    }
    let mut words = script.split_ascii_whitespace().map(ToString::to_string);
    let arguments = (words.next()? == "node").then_some(words)?;
    let arguments: Vec<String> = arguments.collect();
    (!arguments.is_empty()).then_some(arguments)
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
        let node = |file: &str| Some(WebProcess::Node(vec![file.to_string()]));
        for (package, files, expected) in [
            (
                r#"{"scripts": {"start": "node a.js"}}"#,
                vec!["server.js"],
                node("a.js"),
            ),
            (
                r#"{"scripts": {"start": "node a.js", "prestart": "x"}}"#,
                vec!["server.js"],
                Some(WebProcess::NpmStart),
            ),
            (
                r#"{"scripts": {"start": "next start"}}"#,
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

    #[test]
    fn only_plain_words_go_without_npm() {
        for (script, expected) in [
            ("node .", Some(vec!["."])),
            (
                "node  --enable-source-maps dist/main.js --port=80 ",
                Some(vec!["--enable-source-maps", "dist/main.js", "--port=80"]),
            ),
            (
                "node -r dotenv/config server.js",
                Some(vec!["-r", "dotenv/config", "server.js"]),
            ),
            ("node", None),
            ("nodemon server.js", None),
            ("NODE_ENV=production node server.js", None),
            ("node migrate.js && node server.js", None),
            ("node a.js\nnode b.js", None),
            ("node server.js $PORT", None),
            ("node 'server.js'", None),
            ("node ~/server.js", None),
            ("node *.js", None),
            ("node server.js # fast", None),
            ("node server.js &", None),
            ("node server.js > log", None),
            ("node a\\ b.js", None),
        ] {
            let expected: Option<Vec<String>> =
                expected.map(|words: Vec<&str>| words.iter().map(ToString::to_string).collect());
            assert_eq!(node_arguments(script), expected, "{script}");
        }
        let process = WebProcess::Node(vec!["a.js".to_string(), "--x".to_string()]);
        assert_eq!(process.command(), ["node", "a.js", "--x"]);
    }
}
