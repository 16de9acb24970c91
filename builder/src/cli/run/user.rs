//! Whom the process runs as: the image's `User`, with what `/etc/passwd` and `/etc/group` know of it.

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::sandbox::spec::User;

/// The home folder of a user that the image does not know.
const HOME: &str = "/home/app";

/// An image's user that cannot be found.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the image wants to run as `{0}`, which its /etc/passwd and /etc/group do not know")]
pub struct UserError(String);

impl Failure for UserError {
    fn facts(&self) -> Facts {
        Facts::user("image_user_unknown")
    }
}

/// Reads `USER[:GROUP]`, names or numbers, by the texts of the image's two files; nothing means root.
pub(super) fn user_of(text: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let unknown = || UserError(text.to_owned());
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
    Ok(User {
        uid,
        gid,
        name: part(0).unwrap_or("app").to_owned(),
        home: home.into(),
    })
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
            assert_eq!(user_of(text, PASSWD, GROUP), Err(UserError(text.to_owned())));
        }
    }
}
