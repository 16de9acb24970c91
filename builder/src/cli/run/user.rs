//! Whom the process runs as: the image's `User`, with what `/etc/passwd` and `/etc/group` know of it.

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::sandbox::spec::User;

/// The home folder of a user that the image does not know.
const HOME: &str = "/home/app";

/// An image's user whom nothing can run as.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    /// It is not found.
    #[error("the image wants to run as `{0}`, which its /etc/passwd and /etc/group do not know")]
    Unknown(String),
    /// No sandbox has such a user.
    #[error("the image wants to run as `{user}`, which no sandbox can: {why}")]
    Impossible {
        /// As the image has it.
        user: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Failure for UserError {
    fn facts(&self) -> Facts {
        match self {
            Self::Unknown(_) => Facts::user("image_user_unknown"),
            Self::Impossible { .. } => Facts::user("image_user_impossible"),
        }
    }
}

/// Reads `USER[:GROUP]`, names or numbers, by the texts of the image's two files; nothing means root.
pub(super) fn user_of(text: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let unknown = || UserError::Unknown(text.to_owned());
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let line = entry(passwd, user);
    let uid = number(user).or_else(|| field(line?, 2)).ok_or_else(unknown)?;
    let gid = match wanted_group {
        Some(wanted) => number(wanted)
            .or_else(|| field(entry(group, wanted)?, 2))
            .ok_or_else(unknown)?,
        None => line.and_then(|line| field(line, 3)).unwrap_or(0),
    };
    let part = |position: usize| {
        line.and_then(|line| line.split(':').nth(position))
            .filter(|part| !part.is_empty())
    };
    let home = part(5).filter(|home| home.starts_with('/')).unwrap_or(HOME);
    let user = User {
        uid,
        gid,
        name: part(0).unwrap_or("app").to_owned(),
        home: home.into(),
    };
    match user.problem() {
        Some(why) => Err(UserError::Impossible {
            user: text.to_owned(),
            why,
        }),
        None => Ok(user),
    }
}

/// The line of a name or a number.
fn entry<'a>(file: &'a str, wanted: &str) -> Option<&'a str> {
    let position = if number(wanted).is_some() { 2 } else { 0 };
    file.lines()
        .find(|line| line.split(':').nth(position) == Some(wanted))
}

fn field(line: &str, position: usize) -> Option<u32> {
    number(line.split(':').nth(position)?)
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ncnb:x:1000:1000::/home/cnb:/bin/bash\nodd:x:7\n";
    const GROUP: &str = "root:x:0:\ncnb:x:1000:\nstaff:x:50:\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        for (text, uid, gid, name, home) in [
            ("", 0, 0, "root", "/root"),
            ("1000:1000", 1000, 1000, "cnb", "/home/cnb"),
            ("cnb", 1000, 1000, "cnb", "/home/cnb"),
            ("cnb:staff", 1000, 50, "cnb", "/home/cnb"),
            ("1234", 1234, 0, "app", "/home/app"),
            ("7:9", 7, 9, "odd", "/home/app"),
        ] {
            let user = user_of(text, PASSWD, GROUP).unwrap();
            assert_eq!(
                (user.uid, user.gid, user.name.as_str(), user.home),
                (uid, gid, name, PathBuf::from(home)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        for text in ["nobody-here", "cnb:nogroup", "-1"] {
            assert_eq!(
                user_of(text, PASSWD, GROUP),
                Err(UserError::Unknown(text.to_owned()))
            );
        }
    }

    #[test]
    fn a_user_whom_no_sandbox_can_have_is_the_images_fault() {
        let passwd = "nobody:x:65534:65534::/:/bin/sh\n../up:x:5:5::/:/bin/sh\n";
        for (text, why) in [
            ("nobody", "65534:65534 is beyond 65533"),
            ("1000:65534", "1000:65534 is beyond 65533"),
            ("4000000000", "4000000000:0 is beyond 65533"),
            ("5", "`../up` is no name"),
        ] {
            let error = user_of(text, passwd, "").unwrap_err();
            assert_eq!(
                (error.to_string(), error.facts()),
                (
                    format!("the image wants to run as `{text}`, which no sandbox can: {why}"),
                    Facts::user("image_user_impossible")
                )
            );
        }
    }
}
