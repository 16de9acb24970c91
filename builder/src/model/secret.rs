//! A build's secrets: who may see one, and in which form; and how one is named on the command line.

use std::fmt;
use std::path::PathBuf;

use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// The fewest bytes of a secret, white space not counted. What is shorter stands in logs and files by chance: hiding it
/// would tell where it is, and the search would refuse good images. GitLab draws the line for masked variables here too.
pub const SECRET_BYTES_MIN: usize = 8;
/// The most bytes of one secret.
pub const SECRET_BYTES_MAX: usize = 64 << 10;
/// The most bytes of all secrets of a build.
pub const SECRETS_BYTES_MAX: usize = 1 << 20;
/// The most secrets of a build.
pub const SECRETS_MAX: usize = 64;
/// The longest name.
const NAME_BYTES_MAX: usize = 128;
/// Variables that steps are run with, whatever anybody names.
const TAKEN_VARIABLES: [&str; 4] = ["PATH", "HOME", "LD_LIBRARY_PATH", "LD_PRELOAD"];

/// A secret's bytes. Nothing shows them: not `{:?}`, and there is no `{}`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// The bytes as they are.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes without one line end behind them: files have one that is no part of a token.
    pub fn without_line_end(&self) -> &[u8] {
        let bytes = self.0.strip_suffix(b"\n").unwrap_or(&self.0);
        bytes.strip_suffix(b"\r").unwrap_or(bytes)
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// How a buildpack gets a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As the file `value` of the binding that has the secret's name.
    Binding,
    /// As the variable that has the secret's name.
    Variable,
}

/// Where a build's secrets are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SearchWidth {
    /// In what leaves: layers, configuration, labels.
    #[default]
    Leaving,
    /// In the files of layers that only the cache keeps, too.
    Kept,
}

/// One secret of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// The id of the only buildpack that gets it; none: all do.
    pub buildpack: Option<String>,
    /// How it is given.
    pub delivery: Delivery,
    /// Its bytes.
    pub value: SecretValue,
}

impl Secret {
    /// Whether the buildpack with this id gets it.
    pub fn is_for(&self, buildpack: &str) -> bool {
        self.buildpack.as_deref().is_none_or(|only| only == buildpack)
    }

    /// What of it is input to a build beside its bytes: its name, who gets it, and how.
    pub fn presence(&self) -> String {
        let Self {
            name,
            buildpack,
            delivery,
            ..
        } = self;
        format!("{name} {buildpack:?} {delivery:?}")
    }
}

/// Where a secret's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretOrigin {
    /// A variable of packhorse's own environment.
    Variable(String),
    /// A file.
    File(PathBuf),
}

/// A secret as it is named on the command line, before its bytes are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// Its name.
    pub name: String,
    /// The id of the only buildpack that gets it.
    pub buildpack: Option<String>,
    /// How it is given.
    pub delivery: Delivery,
    /// Where its bytes come from.
    pub origin: SecretOrigin,
}

/// Why something is no secret. Never says what the secret is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The name cannot be one.
    #[error("`{name}` cannot be the name of a secret: {why}")]
    Name {
        /// The part before `@` and `=`.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The buildpack's id cannot be one.
    #[error("`{id}`, behind the `@` of secret {name}, is no buildpack's id: {why}")]
    Buildpack {
        /// The secret.
        name: String,
        /// The part between `@` and `=`.
        id: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A variable is for one buildpack only.
    #[error("secret {name} names no buildpack: as a variable it is for one alone")]
    NoBuildpack {
        /// The secret.
        name: String,
    },
    /// What is behind the `=` names nothing.
    #[error("secret {name} has nothing behind its {after}")]
    NoOrigin {
        /// The secret.
        name: String,
        /// `=` or `env:`.
        after: &'static str,
    },
    /// Docker's form.
    #[error("`{text}` is Docker's form of a secret")]
    DockersForm {
        /// All of it; it names a file or a variable, not the secret's bytes.
        text: String,
    },
    /// Two secrets would have one place.
    #[error("there are two secrets {name} for the same buildpack")]
    Twice {
        /// The secret.
        name: String,
    },
    /// Its bytes cannot be a secret.
    #[error("secret {name} {why}")]
    Value {
        /// The secret.
        name: String,
        /// What is wrong with them.
        why: String,
    },
    /// There are too many, or too long ones.
    #[error("the secrets of this build are too many: {what}")]
    TooMany {
        /// The limit.
        what: &'static str,
    },
    /// Its variable or file cannot be read.
    #[error("secret {name}: {why}")]
    Unreadable {
        /// The secret.
        name: String,
        /// Which variable or file, and why.
        why: String,
    },
}

impl Failure for SecretError {
    fn facts(&self) -> Facts {
        Facts::user(match self {
            Self::Unreadable { .. } => "secret_unreadable",
            _ => "secret_invalid",
        })
    }
}

/// A secret that was found where none may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFound {
    /// The secret's name.
    pub secret: String,
    /// In which form: `as it is`, `in base64`, …
    pub form: &'static str,
}

impl fmt::Display for SecretFound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "secret {}, {}", self.secret, self.form)
    }
}

impl SecretSpec {
    /// Parses `NAME[@BUILDPACK][=FILE|=env:VARIABLE]`. All of what is behind the first `=` is the origin, so no file name
    /// can be taken for anything else; one that begins with `env:` is written `./env:…`.
    pub fn parse(text: &str, delivery: Delivery) -> Result<Self, SecretError> {
        let (head, origin) = match text.split_once('=') {
            Some((head, origin)) => (head, Some(origin)),
            None => (text, None),
        };
        if is_dockers_form(head, origin.unwrap_or_default()) {
            return Err(SecretError::DockersForm {
                text: text.to_owned(),
            });
        }
        let (name, buildpack) = match head.split_once('@') {
            Some((name, id)) => (name, Some(id)),
            None => (head, None),
        };
        if let Some(why) = wrong_with_name(name, delivery) {
            let name = name.to_owned();
            return Err(SecretError::Name { name, why });
        }
        let owned = || name.to_owned();
        if let Some(id) = buildpack
            && let Some(why) = wrong_with_id(id)
        {
            let id = id.to_owned();
            return Err(SecretError::Buildpack {
                name: owned(),
                id,
                why,
            });
        }
        if buildpack.is_none() && delivery == Delivery::Variable {
            return Err(SecretError::NoBuildpack { name: owned() });
        }
        let nothing_after = |after| SecretError::NoOrigin { name: owned(), after };
        let origin = match origin {
            None => SecretOrigin::Variable(owned()),
            Some("") => return Err(nothing_after("`=`")),
            Some("env:") => return Err(nothing_after("`env:`")),
            Some(origin) => match origin.strip_prefix("env:") {
                Some(variable) => SecretOrigin::Variable(variable.to_owned()),
                None => SecretOrigin::File(origin.into()),
            },
        };
        Ok(Self {
            name: owned(),
            buildpack: buildpack.map(str::to_owned),
            delivery,
            origin,
        })
    }

    /// The secret, if these bytes can be one.
    pub fn with(self, bytes: Vec<u8>) -> Result<Secret, SecretError> {
        let wrong = |why: String| SecretError::Value {
            name: self.name.clone(),
            why,
        };
        let counted = bytes.iter().filter(|byte| !byte.is_ascii_whitespace()).count();
        if counted == 0 {
            return Err(wrong("is empty".to_owned()));
        }
        if counted < SECRET_BYTES_MIN {
            return Err(wrong(format!(
                "has fewer than {SECRET_BYTES_MIN} bytes: it would stand in logs and files by chance, and can be guessed"
            )));
        }
        if bytes.len() > SECRET_BYTES_MAX {
            return Err(wrong(format!("is longer than {} KiB", SECRET_BYTES_MAX >> 10)));
        }
        if self.delivery == Delivery::Variable && bytes.contains(&0) {
            return Err(wrong("has a NUL byte, which no variable can have".to_owned()));
        }
        Ok(Secret {
            name: self.name,
            buildpack: self.buildpack,
            delivery: self.delivery,
            value: SecretValue(bytes),
        })
    }
}

/// What holds for all secrets of a build together.
pub fn check_together(secrets: &[Secret]) -> Result<(), SecretError> {
    if secrets.len() > SECRETS_MAX {
        return Err(SecretError::TooMany {
            what: "at most 64 can be given",
        });
    }
    let bytes: usize = secrets.iter().map(|secret| secret.value.bytes().len()).sum();
    if bytes > SECRETS_BYTES_MAX {
        return Err(SecretError::TooMany {
            what: "together they may have 1 MiB",
        });
    }
    for (position, one) in secrets.iter().enumerate() {
        let meets = |other: &&Secret| {
            let both =
                one.buildpack.is_none() || other.buildpack.is_none() || one.buildpack == other.buildpack;
            other.name == one.name && other.delivery == one.delivery && both
        };
        if secrets[..position].iter().any(|other| meets(&other)) {
            return Err(SecretError::Twice {
                name: one.name.clone(),
            });
        }
    }
    Ok(())
}

/// `docker build --secret id=NAME,src=FILE`.
fn is_dockers_form(head: &str, origin: &str) -> bool {
    let option = |option: &str| {
        ["src=", "source=", "env=", "type=", "id="]
            .iter()
            .any(|known| option.starts_with(known))
    };
    matches!(head, "id" | "type") && origin.split(',').skip(1).any(option)
}

fn wrong_with_name(name: &str, delivery: Delivery) -> Option<&'static str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Some("it is empty");
    }
    if bytes.len() > NAME_BYTES_MAX {
        return Some("it is longer than 128 bytes");
    }
    let is_word = bytes.iter().all(|byte| is_word(*byte));
    let is_folder = bytes
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte));
    match delivery {
        Delivery::Binding if !is_folder => {
            Some("it is a folder's name, of letters, digits, `_`, `-` and `.`")
        }
        Delivery::Binding if bytes[0] == b'.' => Some("it begins with a dot"),
        Delivery::Variable if !is_word || bytes[0].is_ascii_digit() => {
            Some("it is a variable's name, of letters, digits and `_`, without a digit at its beginning")
        }
        Delivery::Variable if name.starts_with("CNB_") || TAKEN_VARIABLES.contains(&name) => {
            Some("steps have a variable of that name")
        }
        Delivery::Binding | Delivery::Variable => None,
    }
}

fn wrong_with_id(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        return Some("it is empty");
    }
    if id.contains('@') {
        return Some("write it without its version");
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'-' | b'_');
    (!id.bytes().all(is_allowed)).then_some("it has letters, digits, `.`, `-`, `_` and `/`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, delivery: Delivery) -> String {
        match SecretSpec::parse(text, delivery) {
            Ok(SecretSpec {
                name,
                buildpack,
                origin,
                ..
            }) => format!(
                "{name} for {} from {origin:?}",
                buildpack.unwrap_or_else(|| "all".to_owned())
            ),
            Err(error) => format!("{}: {error}", error.facts().code),
        }
    }

    #[test]
    fn what_can_be_typed() {
        let cases = [
            "NPM_TOKEN",
            "npm=token.txt",
            "npm=a@b=c,env",
            "npm=env:TOKEN",
            "npm=./env:x",
            "npm@packhorse/nodejs=/run/token",
            "npm@packhorse/nodejs",
            "",
            "=x",
            "../x=y",
            ".x=y",
            "a b=c",
            "npm=",
            "npm=env:",
            "npm@=x",
            "npm@a@1.0=x",
            "npm@a b=x",
            "id=npm,src=token.txt",
            "id=npm",
        ];
        let told: Vec<String> = cases
            .iter()
            .map(|text| format!("{text:?}: {}", parsed(text, Delivery::Binding)))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_variable_has_a_buildpack_and_a_name_that_is_free() {
        let cases = ["TOKEN@a/b", "TOKEN", "1TOKEN@a", "to-ken@a", "CNB_X@a", "PATH@a"];
        let told: Vec<String> = cases
            .iter()
            .map(|text| format!("{text:?}: {}", parsed(text, Delivery::Variable)))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    fn secret(text: &str, bytes: &[u8]) -> Result<Secret, SecretError> {
        SecretSpec::parse(text, Delivery::Binding)
            .unwrap()
            .with(bytes.to_vec())
    }

    #[test]
    fn what_is_too_short_or_too_long_is_no_secret() {
        for (bytes, why) in [
            (&b""[..], "is empty"),
            (b" \n\n       \t ", "is empty"),
            (b"1234567\n\n", "fewer than 8"),
            (&vec![b'x'; SECRET_BYTES_MAX + 1], "longer than 64 KiB"),
        ] {
            let error = secret("a", bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(secret("a", b"12345678").is_ok() && secret("a", &vec![b'x'; SECRET_BYTES_MAX]).is_ok());
    }

    #[test]
    fn two_secrets_never_have_one_place() {
        let all = |texts: &[&str]| {
            let secrets: Vec<_> = texts
                .iter()
                .map(|text| secret(text, b"0123456789").unwrap())
                .collect();
            check_together(&secrets).is_ok()
        };
        assert!(all(&["a", "b"]) && all(&["a@x", "a@y"]));
        assert!(!all(&["a", "a"]) && !all(&["a", "a@x"]) && !all(&["a@x", "a@x"]));
        let many: Vec<_> = (0..17)
            .map(|number| secret(&format!("a{number}"), &vec![b'x'; SECRET_BYTES_MAX]).unwrap())
            .collect();
        assert!(check_together(&many).is_err() && check_together(&many[..16]).is_ok());
    }

    #[test]
    fn nothing_shows_the_bytes() {
        let shown = format!("{:?}", secret("a", b"s3cret-value").unwrap());
        assert!(shown.contains("\"a\"") && !shown.contains("s3cret"), "{shown}");
        let bytes = format!("{:?}", b"s3cret-value".to_vec());
        assert!(!shown.contains(&bytes), "{shown}");
    }
}
