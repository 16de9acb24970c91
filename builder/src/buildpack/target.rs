//! Whether a buildpack can run on, and for, a run image (Platform API 0.12, "Target resolution").

use packhorse_spec::buildpack_toml::BuildpackDescriptor;
use packhorse_spec::buildpack_toml::Distro;
use packhorse_spec::buildpack_toml::Target;

/// What the run image is. What is empty is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunTarget {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The processor, such as `amd64`.
    pub arch: String,
    /// Its variant, such as `v8`.
    pub variant: String,
    /// The distribution, by the image's labels; none if they do not name one.
    pub distro: Option<Distro>,
}

impl std::fmt::Display for RunTarget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&words(&self.os, &self.arch, &self.variant))?;
        match &self.distro {
            Some(distro) => write!(formatter, " {}", distro_words(distro)),
            None => Ok(()),
        }
    }
}

/// The targets of a buildpack; none means that it is not asked.
///
/// Without `[[targets]]` they follow from `[[stacks]]`, and without those from the program `bin/build`.
pub fn targets_of(descriptor: &BuildpackDescriptor, has_build_program: bool) -> Vec<Target> {
    if !descriptor.targets.is_empty() {
        return descriptor.targets.clone();
    }
    let linux = Target {
        os: "linux".to_owned(),
        ..Target::default()
    };
    let bionic_counts = descriptor.api.at_least(0, 10) || descriptor.stacks.len() == 1;
    let from_stacks: Vec<Target> = descriptor
        .stacks
        .iter()
        .filter_map(|stack| match stack.id.as_str() {
            "io.buildpacks.stacks.bionic" if bionic_counts => Some(Target {
                arch: "amd64".to_owned(),
                distros: vec![Distro {
                    name: "ubuntu".to_owned(),
                    version: "18.04".to_owned(),
                }],
                ..linux.clone()
            }),
            "*" => Some(Target::default()),
            _ => None,
        })
        .collect();
    match from_stacks {
        some if !some.is_empty() => some,
        _ if has_build_program => vec![linux],
        _ => Vec::new(),
    }
}

/// Whether any of `targets` fits `run`; no targets fit everything.
pub fn fits(run: &RunTarget, targets: &[Target]) -> bool {
    let same = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
    let distro_fits = |target: &Target| {
        target.distros.is_empty()
            || run.distro.as_ref().is_some_and(|base| {
                target
                    .distros
                    .iter()
                    .any(|one| same(&one.name, &base.name) && same(&one.version, &base.version))
            })
    };
    targets.is_empty()
        || targets.iter().any(|target| {
            same(&target.os, &run.os)
                && same(&target.arch, &run.arch)
                && same(&target.variant, &run.variant)
                && distro_fits(target)
        })
}

/// The distribution that an `/etc/os-release` names. Read as loosely as the reference does: lines with one `=`,
/// double quotes and blanks dropped.
pub fn distro_of_os_release(text: &str) -> Option<Distro> {
    let value = |wanted: &str| {
        text.lines()
            .filter(|line| line.matches('=').count() == 1)
            .find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == wanted).then(|| value.replace(['"', ' '], ""))
            })
    };
    let distro = Distro {
        name: value("ID").unwrap_or_default(),
        version: value("VERSION_ID").unwrap_or_default(),
    };
    (distro != Distro::default()).then_some(distro)
}

/// `targets` in words, for messages.
pub fn describe(targets: &[Target]) -> String {
    let one = |target: &Target| {
        let mut text = words(&target.os, &target.arch, &target.variant);
        for (position, distro) in target.distros.iter().enumerate() {
            text.push_str(if position == 0 { " on " } else { " or " });
            text.push_str(&distro_words(distro));
        }
        text
    };
    targets.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn words(os: &str, arch: &str, variant: &str) -> String {
    let known: Vec<&str> = [os, arch, variant]
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect();
    if known.is_empty() {
        "any system".to_owned()
    } else {
        known.join("/")
    }
}

fn distro_words(distro: &Distro) -> String {
    format!("{} {}", distro.name, distro.version).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(text: &str) -> BuildpackDescriptor {
        BuildpackDescriptor::parse(&format!("{text}\n[buildpack]\nid = 'a'\n")).unwrap()
    }

    fn debian() -> RunTarget {
        RunTarget {
            os: "linux".into(),
            arch: "amd64".into(),
            variant: String::new(),
            distro: Some(Distro {
                name: "debian".into(),
                version: "13".into(),
            }),
        }
    }

    #[test]
    fn targets_follow_from_stacks_and_programs() {
        assert_eq!(targets_of(&descriptor("api='0.9'"), true)[0].os, "linux");
        assert!(targets_of(&descriptor("api='0.9'"), false).is_empty());
        let any = descriptor("api='0.9'\nstacks=[{id='*'}]");
        assert_eq!(targets_of(&any, true), [Target::default()]);
        let only = descriptor("api='0.9'\nstacks=[{id='io.buildpacks.stacks.bionic'}]");
        assert_eq!(targets_of(&only, true)[0].distros[0].version, "18.04");
        let two = "stacks=[{id='io.buildpacks.stacks.bionic'},{id='mine'}]";
        assert_eq!(
            targets_of(&descriptor(&format!("api='0.9'\n{two}")), true)[0].distros,
            []
        );
        assert_eq!(
            targets_of(&descriptor(&format!("api='0.10'\n{two}")), true)[0]
                .distros
                .len(),
            1
        );
    }

    #[test]
    fn what_is_empty_matches() {
        let target = |os: &str, arch: &str, distro: Option<(&str, &str)>| Target {
            os: os.into(),
            arch: arch.into(),
            variant: String::new(),
            distros: distro
                .map(|(name, version)| Distro {
                    name: name.into(),
                    version: version.into(),
                })
                .into_iter()
                .collect(),
        };
        let cases = [
            (target("linux", "", None), true),
            (target("linux", "arm64", None), false),
            (target("", "", Some(("debian", ""))), true),
            (target("", "", Some(("debian", "12"))), false),
            (target("", "", Some(("", "13"))), true),
        ];
        for (target, expected) in cases {
            assert_eq!(
                fits(&debian(), std::slice::from_ref(&target)),
                expected,
                "{target:?}"
            );
        }
        assert!(fits(&debian(), &[]));
        let unknown = RunTarget {
            distro: None,
            ..debian()
        };
        assert!(!fits(&unknown, &[target("", "", Some(("", "")))]));
    }

    #[test]
    fn os_release_is_read_loosely() {
        let distro = distro_of_os_release("NAME=\"X=Y\"\nID=\"debian\"\nVERSION_ID=13\n").unwrap();
        assert_eq!((distro.name.as_str(), distro.version.as_str()), ("debian", "13"));
        assert_eq!(distro_of_os_release("ID='x'\n").unwrap().name, "'x'");
        assert_eq!(distro_of_os_release("PRETTY_NAME=x\n"), None);
    }

    #[test]
    fn targets_have_words() {
        assert_eq!(debian().to_string(), "linux/amd64 debian 13");
        assert_eq!(describe(&[Target::default()]), "any system");
    }
}
