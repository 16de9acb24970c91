//! The variables of a process, and what the files of a layer do to them (Buildpack spec, "Environment"). Pure.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Variables that are for the launcher itself and end here.
const LAUNCHERS_OWN: [&str; 5] = [
    "CNB_LAYERS_DIR",
    "CNB_APP_DIR",
    "CNB_PROCESS_TYPE",
    "CNB_PLATFORM_API",
    "CNB_DEPRECATION_MODE",
];

/// Folders of `PATH` that hold the launcher and its links.
const LAUNCHERS_FOLDERS: [&[u8]; 2] = [b"/cnb/process", b"/cnb/lifecycle"];

/// What folders of a layer add themselves in front of.
const PATH_VARIABLES: [(&str, &str); 2] = [("bin", "PATH"), ("lib", "LD_LIBRARY_PATH")];

/// The variables of a process. Values are bytes: no file is changed on its way into the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

/// What an environment file does, by the suffix of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The value replaces the old one.
    Override,
    /// The value is taken if there was none, or an empty one.
    Default,
    /// The value goes behind the old one.
    Append,
    /// The value goes before the old one.
    Prepend,
}

/// An environment file by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvironmentFile {
    /// The variable.
    pub(crate) variable: OsString,
    /// What the file does to it.
    pub(crate) action: Action,
    /// What stands between two values if the folder has no `.delim` file for the variable.
    pub(crate) default_delimiter: &'static [u8],
}

/// What a file in `env`, `env.launch` and its subfolders means, by its name; `None` if nothing.
pub(crate) fn read_file_name(name: &OsStr) -> Option<EnvironmentFile> {
    let bytes = name.as_bytes();
    let (variable, suffix) = match bytes.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&bytes[..dot], Some(&bytes[dot + 1..])),
        None => (bytes, None),
    };
    let (action, default_delimiter): (_, &[u8]) = match suffix {
        None | Some(b"override") => (Action::Override, b""),
        Some(b"default") => (Action::Default, b""),
        Some(b"append") => (Action::Append, b""),
        Some(b"prepend") => (Action::Prepend, b""),
        // A mere dot at the end: what no suffix meant in the first Buildpack APIs.
        Some(b"") => (Action::Prepend, b":"),
        Some(_) => return None,
    };
    Some(EnvironmentFile {
        variable: OsStr::from_bytes(variable).to_owned(),
        action,
        default_delimiter,
    })
}

impl Environment {
    /// The variables of the container without the launcher's own.
    pub(crate) fn of_container(mut variables: BTreeMap<OsString, OsString>) -> Self {
        variables.retain(|name, _| !LAUNCHERS_OWN.iter().any(|own| name == own));
        if let Some(path) = variables.get_mut(OsStr::new("PATH")) {
            let kept: Vec<&[u8]> = path
                .as_bytes()
                .split(|byte| *byte == b':')
                .filter(|folder| !LAUNCHERS_FOLDERS.contains(folder))
                .collect();
            *path = OsString::from_vec(kept.join(&b':'));
        }
        Self(variables)
    }

    /// The value of a variable; empty if there is none.
    pub(crate) fn get(&self, name: &OsStr) -> &OsStr {
        self.0.get(name).map(OsString::as_os_str).unwrap_or_default()
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: OsString, value: OsString) {
        self.0.insert(name, value);
    }

    /// All variables, sorted by name.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Puts those of a layer's folders that are there in front of the variables that list such folders.
    pub(crate) fn add_layer_folders(&mut self, layer: &Path, exists: impl Fn(&Path) -> bool) {
        for (folder, variable) in PATH_VARIABLES {
            let folder = layer.join(folder);
            if exists(&folder) {
                let value = self.joined(folder.as_os_str(), b":", OsStr::new(variable), Action::Prepend);
                self.set(variable.into(), value);
            }
        }
    }

    /// Applies an environment file with its content.
    pub(crate) fn apply(&mut self, file: EnvironmentFile, content: OsString, delimiter: &[u8]) {
        let value = match file.action {
            Action::Override => content,
            Action::Default if self.get(&file.variable).is_empty() => content,
            Action::Default => return,
            Action::Append | Action::Prepend => self.joined(&content, delimiter, &file.variable, file.action),
        };
        self.set(file.variable, value);
    }

    fn joined(&self, value: &OsStr, delimiter: &[u8], name: &OsStr, action: Action) -> OsString {
        let old = self.get(name);
        if old.is_empty() {
            return value.to_owned();
        }
        let (first, second) = if action == Action::Append {
            (old, value)
        } else {
            (value, old)
        };
        OsString::from_vec([first.as_bytes(), delimiter, second.as_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of_container(
            variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    #[test]
    fn the_launchers_own_variables_end_here() {
        let environment = environment(&[
            ("CNB_LAYERS_DIR", "/layers"),
            ("CNB_APP_DIR", "/workspace"),
            ("CNB_PROCESS_TYPE", "web"),
            ("CNB_PLATFORM_API", "0.15"),
            ("CNB_DEPRECATION_MODE", "quiet"),
            ("CNB_EXEC_ENV", "test"),
            (
                "PATH",
                "/cnb/process:/cnb/lifecycle:/usr/bin:/cnb/process:/bin:/cnb/process/x",
            ),
        ]);
        let kept: Vec<_> = environment.variables().collect();
        assert_eq!(kept.len(), 2);
        assert_eq!(
            environment.get(OsStr::new("PATH")),
            "/usr/bin:/bin:/cnb/process/x"
        );
        assert_eq!(environment.get(OsStr::new("CNB_EXEC_ENV")), "test");
    }

    #[test]
    fn suffixes() {
        let action = |name: &str| read_file_name(OsStr::new(name)).map(|file| (file.variable, file.action));
        assert_eq!(action("X"), Some(("X".into(), Action::Override)));
        assert_eq!(action("X.override"), Some(("X".into(), Action::Override)));
        assert_eq!(action("X.default"), Some(("X".into(), Action::Default)));
        assert_eq!(action("X.append"), Some(("X".into(), Action::Append)));
        assert_eq!(action("X.prepend"), Some(("X".into(), Action::Prepend)));
        for name in ["X.delim", "X.suffix", "X.append.bak", "V.DOT.append", ".gitkeep"] {
            assert_eq!(action(name), None, "{name}");
        }
        assert_eq!(read_file_name(OsStr::new("X.")).unwrap().default_delimiter, b":");
    }

    #[test]
    fn what_files_do() {
        let cases: [(&str, &str, &str, &str); 11] = [
            ("a", "X", "", "b"),
            ("a", "X.override", ":", "b"),
            ("a", "X.default", ":", "a"),
            ("", "X.default", ":", "b"),
            ("a", "X.append", ":", "a:b"),
            ("a", "X.append", "", "ab"),
            ("", "X.append", ":", "b"),
            ("a", "X.prepend", ":", "b:a"),
            ("a", "X.prepend", "", "ba"),
            ("", "X.prepend", ":", "b"),
            ("a", "X.", ":", "b:a"),
        ];
        for (old, name, delimiter, expected) in cases {
            let mut environment = environment(&[("X", old)]);
            let file = read_file_name(OsStr::new(name)).unwrap();
            environment.apply(file, "b".into(), delimiter.as_bytes());
            assert_eq!(
                environment.get(OsStr::new("X")),
                expected,
                "{old} {name} {delimiter}"
            );
        }
    }

    #[test]
    fn bytes_pass_unchanged() {
        let mut environment = environment(&[]);
        let value = OsString::from_vec(b"line\n\xff\n".to_vec());
        environment.apply(read_file_name(OsStr::new("X")).unwrap(), value.clone(), b"");
        assert_eq!(environment.get(OsStr::new("X")), value);
    }

    #[test]
    fn folders_go_in_front() {
        let mut environment = environment(&[("PATH", "/usr/bin")]);
        environment.add_layer_folders(Path::new("/layers/a/b"), |_| true);
        environment.add_layer_folders(Path::new("/layers/a/c"), |folder| folder.ends_with("bin"));
        assert_eq!(
            environment.get(OsStr::new("PATH")),
            "/layers/a/c/bin:/layers/a/b/bin:/usr/bin"
        );
        assert_eq!(environment.get(OsStr::new("LD_LIBRARY_PATH")), "/layers/a/b/lib");
    }
}
