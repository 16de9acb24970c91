//! The environment of `bin/detect` and `bin/build`: pure rules, no reading (Buildpack spec, "Environment").

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use packhorse_spec::api::Api;

use crate::buildpack::target::RunTarget;

/// The variables of the surroundings that buildpacks see; nothing else of them does.
const FROM_OUTSIDE: [&str; 14] = [
    "CNB_STACK_ID",
    "HOSTNAME",
    "HOME",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "PATH",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "CPATH",
    "PKG_CONFIG_PATH",
];

/// Variables that hold lists of folders: the user's value is put in front of what is there.
const LISTS: [&str; 5] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "CPATH",
    "PKG_CONFIG_PATH",
];

/// The folders of a build layer, and the variables that they are put in front of.
const LAYER_FOLDERS: [(&str, &[&str]); 4] = [
    ("bin", &["PATH"]),
    ("lib", &["LD_LIBRARY_PATH", "LIBRARY_PATH"]),
    ("include", &["CPATH"]),
    ("pkgconfig", &["PKG_CONFIG_PATH"]),
];

/// A file of an `env` folder: its name says which variable and what to do, its bytes are the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// The file's name.
    pub name: OsString,
    /// The file's bytes, as they are.
    pub contents: Vec<u8>,
}

/// What a file without a suffix does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSuffix {
    /// It sets the variable (layers of Buildpack API 0.5 and later).
    Override,
    /// It sets the variable if that is unset or empty (the builder's owner).
    Default,
}

/// Variables and their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

/// Where a step's own variables come from.
#[derive(Debug, Clone, Copy)]
pub struct StepVariables<'a> {
    /// The Buildpack API of the buildpack.
    pub api: Api,
    /// The buildpack's folder.
    pub buildpack: &'a Path,
    /// The platform folder.
    pub platform: &'a Path,
    /// What the run image is.
    pub target: &'a RunTarget,
    /// The execution environment, such as `production`; may be empty.
    pub exec_env: &'a str,
    /// Which of the two steps.
    pub step: Step<'a>,
}

/// Which program is run.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// `bin/detect`.
    Detect {
        /// The file that it writes its plan to.
        plan: &'a Path,
    },
    /// `bin/build`.
    Build {
        /// The file that it reads its plan from.
        plan: &'a Path,
        /// The buildpack's own layers folder.
        layers: &'a Path,
    },
}

impl Environment {
    /// What of the surroundings' variables is let through.
    pub fn from_outside(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let is_let_through = |name: &OsStr| FROM_OUTSIDE.iter().any(|known| *known == name);
        Self(
            variables
                .into_iter()
                .filter(|(name, _)| is_let_through(name))
                .collect(),
        )
    }

    /// A variable's value.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.0.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// Puts the user's variables over this environment: the file's name is the variable's, whatever it looks like.
    pub fn apply_user(&mut self, files: &[EnvFile]) {
        for file in files {
            let value = OsStr::from_bytes(&file.contents);
            if LISTS.iter().any(|list| *list == file.name) {
                self.put_in_front(&file.name, value, OsStr::new(":"));
            } else {
                self.0.insert(file.name.clone(), value.to_owned());
            }
        }
    }

    /// Applies the files of one `env` folder by their suffixes, in the order of their names.
    pub fn apply_files(&mut self, files: &[EnvFile], no_suffix: NoSuffix) {
        let mut sorted: Vec<&EnvFile> = files.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        for file in sorted {
            let name = file.name.as_bytes();
            let dot = name.iter().position(|byte| *byte == b'.');
            let (name, suffix) = match dot {
                Some(dot) => (&name[..dot], Some(&name[dot + 1..])),
                None => (name, None),
            };
            let delimiter = files
                .iter()
                .find(|other| other.name.as_bytes().strip_prefix(name) == Some(b".delim"))
                .map_or(OsStr::new(""), |found| OsStr::from_bytes(&found.contents));
            let name = OsStr::from_bytes(name);
            let value = OsStr::from_bytes(&file.contents);
            match (suffix, no_suffix) {
                (Some(b"override"), _) | (None, NoSuffix::Override) => {
                    self.0.insert(name.to_owned(), value.to_owned());
                }
                (Some(b"default"), _) | (None, NoSuffix::Default)
                    if self.get(name).is_none_or(OsStr::is_empty) =>
                {
                    self.0.insert(name.to_owned(), value.to_owned());
                }
                (Some(b"append"), _) => self.put_behind(name, value, delimiter),
                (Some(b"prepend"), _) => self.put_in_front(name, value, delimiter),
                _ => {}
            }
        }
    }

    /// Puts the folders that a build layer has in front of the lists that programs are searched by.
    pub fn apply_layer_folders(&mut self, layer: &Path, names: &[OsString]) {
        for (folder, variables) in LAYER_FOLDERS {
            if names.iter().any(|name| name == folder) {
                for variable in variables {
                    let path = layer.join(folder).into_os_string();
                    self.put_in_front(OsStr::new(variable), &path, OsStr::new(":"));
                }
            }
        }
    }

    /// This environment as one step sees it: the user's variables (unless the buildpack wants none), then the builder
    /// owner's, then what the API promises the step.
    #[must_use]
    pub fn for_step(&self, user: Option<&[EnvFile]>, operator: &[EnvFile], step: &StepVariables<'_>) -> Self {
        let mut environment = self.clone();
        environment.apply_user(user.unwrap_or_default());
        environment.apply_files(operator, NoSuffix::Default);
        for (name, value) in step.variables() {
            environment.0.insert(OsString::from(name), value);
        }
        environment
    }

    /// The variables as a program gets them. What cannot be in an environment is left out: a name that is empty or has
    /// a `=`, and NUL bytes.
    pub fn into_variables(self) -> Vec<(OsString, OsString)> {
        let fits = |(name, value): &(OsString, OsString)| {
            let (name, value) = (name.as_bytes(), value.as_bytes());
            !name.is_empty() && !name.contains(&b'=') && !name.contains(&0) && !value.contains(&0)
        };
        self.0.into_iter().filter(fits).collect()
    }

    fn put_in_front(&mut self, name: &OsStr, value: &OsStr, delimiter: &OsStr) {
        let joined = join(value, self.get(name), delimiter);
        self.0.insert(name.to_owned(), joined);
    }

    fn put_behind(&mut self, name: &OsStr, value: &OsStr, delimiter: &OsStr) {
        let joined = match self.get(name).filter(|old| !old.is_empty()) {
            Some(old) => join(old, Some(value), delimiter),
            None => value.to_owned(),
        };
        self.0.insert(name.to_owned(), joined);
    }
}

/// `first`, `delimiter`, `second`; `first` alone if the second is unset or empty.
fn join(first: &OsStr, second: Option<&OsStr>, delimiter: &OsStr) -> OsString {
    match second.filter(|second| !second.is_empty()) {
        Some(second) => {
            OsString::from_vec([first.as_bytes(), delimiter.as_bytes(), second.as_bytes()].concat())
        }
        None => first.to_owned(),
    }
}

impl StepVariables<'_> {
    fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![("CNB_BUILDPACK_DIR", self.buildpack.into())];
        if self.api.at_least(0, 8) {
            variables.push(("CNB_PLATFORM_DIR", self.platform.into()));
            match self.step {
                Step::Detect { plan } => variables.push(("CNB_BUILD_PLAN_PATH", plan.into())),
                Step::Build { plan, layers } => {
                    variables.push(("CNB_BP_PLAN_PATH", plan.into()));
                    variables.push(("CNB_LAYERS_DIR", layers.into()));
                }
            }
        }
        if self.api.at_least(0, 10) {
            let or =
                |known: &str, default: &str| OsString::from(if known.is_empty() { default } else { known });
            variables.push(("CNB_TARGET_OS", or(&self.target.os, "linux")));
            variables.push(("CNB_TARGET_ARCH", or(&self.target.arch, host_architecture())));
            let distro = self.target.distro.clone().unwrap_or_default();
            let known = [
                ("CNB_TARGET_ARCH_VARIANT", self.target.variant.as_str()),
                ("CNB_TARGET_DISTRO_NAME", distro.name.as_str()),
                ("CNB_TARGET_DISTRO_VERSION", distro.version.as_str()),
            ];
            variables.extend(
                known
                    .iter()
                    .filter(|(_, value)| !value.is_empty())
                    .map(|(name, value)| (*name, value.into())),
            );
        }
        if self.api.at_least(0, 12) && !self.exec_env.is_empty() {
            variables.push(("CNB_EXEC_ENV", self.exec_env.into()));
        }
        variables
    }
}

/// The processor that this program was compiled for, as images call it.
fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> Vec<EnvFile> {
        entries
            .iter()
            .map(|(name, value)| EnvFile {
                name: name.into(),
                contents: value.as_bytes().to_vec(),
            })
            .collect()
    }

    fn environment(entries: &[(&str, &str)]) -> Environment {
        Environment(
            entries
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    #[test]
    fn suffixes_do_what_they_say() {
        type Files = &'static [(&'static str, &'static str)];
        let cases: &[(Files, Files, Option<&str>)] = &[
            (&[("X", "a")], &[("X.append", "b"), ("X.delim", ":")], Some("a:b")),
            (
                &[("X", "a")],
                &[("X.prepend", "b"), ("X.delim", ":")],
                Some("b:a"),
            ),
            (&[("X", "a")], &[("X.default", "b")], Some("a")),
            (&[("X", "")], &[("X.default", "b")], Some("b")),
            (&[("X", "a")], &[("X.override", "b")], Some("b")),
            (&[("X", "a")], &[("X", "b\n")], Some("b\n")),
            (&[], &[("X.append", "b"), ("X.delim", ":")], Some("b")),
            (&[], &[("X.prepend", "b"), ("X.delim", ":")], Some("b")),
            (&[("X", "a")], &[("X.append", "b")], Some("ab")),
            (
                &[("X", "a")],
                &[("X.foo", "b"), ("X.append.bak", "c"), (".gitkeep", "")],
                Some("a"),
            ),
            (
                &[],
                &[("X.default", "c"), ("X.append", "b"), ("X", "a")],
                Some("ab"),
            ),
            (&[], &[("X.delim", ":")], None),
        ];
        for (before, change, expected) in cases {
            let mut changed = environment(before);
            changed.apply_files(&files(change), NoSuffix::Override);
            assert_eq!(
                changed.get("X").and_then(OsStr::to_str),
                *expected,
                "{before:?} {change:?}"
            );
        }
    }

    #[test]
    fn the_operators_plain_files_are_defaults() {
        let mut changed = environment(&[("X", "a")]);
        changed.apply_files(&files(&[("X", "b"), ("Y", "c")]), NoSuffix::Default);
        assert_eq!(changed, environment(&[("X", "a"), ("Y", "c")]));
    }

    #[test]
    fn the_users_lists_go_in_front() {
        let mut changed = environment(&[("PATH", "/e"), ("CPATH", ""), ("X", "old")]);
        changed.apply_user(&files(&[
            ("PATH", "/u"),
            ("CPATH", "/i"),
            ("X", "new"),
            ("FOO.append", "z"),
        ]));
        let expected = [
            ("PATH", "/u:/e"),
            ("CPATH", "/i"),
            ("X", "new"),
            ("FOO.append", "z"),
        ];
        assert_eq!(changed, environment(&expected));
    }

    #[test]
    fn only_known_variables_come_from_outside() {
        let outside = [
            ("HOME", "/home/cnb"),
            ("LANG", "C"),
            ("no_proxy", "x"),
            ("AWS_SECRET", "y"),
        ];
        let seen = Environment::from_outside(outside.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(seen, environment(&[("HOME", "/home/cnb"), ("no_proxy", "x")]));
    }

    #[test]
    fn what_cannot_be_in_an_environment_is_left_out() {
        let odd = environment(&[("A=B", "x"), ("", "x"), ("N", "a\0b"), ("OK", "x")]);
        assert_eq!(
            odd.into_variables(),
            [(OsString::from("OK"), OsString::from("x"))]
        );
    }

    #[test]
    fn variables_of_a_step_by_api() {
        let target = RunTarget {
            variant: "v8".into(),
            ..RunTarget::default()
        };
        let names = |api: Api, step: Step<'_>| {
            let step = StepVariables {
                api,
                buildpack: Path::new("/b"),
                platform: Path::new("/p"),
                target: &target,
                exec_env: "test",
                step,
            };
            step.variables().iter().map(|(name, _)| *name).collect::<Vec<_>>()
        };
        let (plan, layers) = (Path::new("/t/plan.toml"), Path::new("/layers/x"));
        assert_eq!(
            names(Api::new(0, 7), Step::Detect { plan }),
            ["CNB_BUILDPACK_DIR"]
        );
        assert_eq!(
            names(Api::new(0, 9), Step::Build { plan, layers }),
            [
                "CNB_BUILDPACK_DIR",
                "CNB_PLATFORM_DIR",
                "CNB_BP_PLAN_PATH",
                "CNB_LAYERS_DIR"
            ]
        );
        assert_eq!(
            names(Api::new(0, 12), Step::Detect { plan }),
            [
                "CNB_BUILDPACK_DIR",
                "CNB_PLATFORM_DIR",
                "CNB_BUILD_PLAN_PATH",
                "CNB_TARGET_OS",
                "CNB_TARGET_ARCH",
                "CNB_TARGET_ARCH_VARIANT",
                "CNB_EXEC_ENV"
            ]
        );
    }
}
