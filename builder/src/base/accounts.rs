//! The users and groups of a base: Debian's own and ours, none with a password.

/// The user that builds and apps run as.
pub(super) const USER: &str = "cnb";
/// Its id, and its group's.
pub(super) const USER_ID: u32 = 1000;

/// The files of accounts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accounts {
    pub(super) passwd: String,
    pub(super) group: String,
    pub(super) shadow: String,
    pub(super) gshadow: String,
}

/// The accounts from Debian's `passwd.master` and `group.master`, with our user added.
///
/// `day` is when they count as made, in days since 1970.
pub(super) fn accounts(passwd_master: &str, group_master: &str, day: i64) -> Accounts {
    let passwd = format!("{passwd_master}{USER}:*:{USER_ID}:{USER_ID}::/home/{USER}:/bin/bash\n");
    let group = format!("{group_master}{USER}:*:{USER_ID}:\n");
    let per_name = |text: &str, fields: &str| {
        let names = text.lines().filter_map(|line| line.split(':').next());
        names.flat_map(|name| [name, fields]).collect()
    };
    Accounts {
        shadow: per_name(&passwd, &format!(":*:{day}:0:99999:7:::\n")),
        gshadow: per_name(&group, ":*::\n"),
        passwd: shadowed(&passwd),
        group: shadowed(&group),
    }
}

/// Says that the password is in the other file.
fn shadowed(text: &str) -> String {
    let line = |line: &str| {
        let mut fields: Vec<_> = line.split(':').collect();
        if let Some(password) = fields.get_mut(1) {
            *password = "x";
        }
        fields.join(":") + "\n"
    };
    text.lines().map(line).collect()
}

/// The id of a group of `group.master`.
pub(super) fn group_id(group_master: &str, name: &str) -> Option<u32> {
    let mut lines = group_master
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    lines
        .find(|fields| fields.first() == Some(&name))?
        .get(2)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_is_locked_and_ours_is_the_last() {
        let made = accounts(
            "root:*:0:0:root:/root:/bin/bash\n",
            "root:*:0:\nshadow:*:42:\n",
            20_000,
        );
        assert_eq!(
            made.passwd,
            "root:x:0:0:root:/root:/bin/bash\ncnb:x:1000:1000::/home/cnb:/bin/bash\n"
        );
        assert_eq!(made.group, "root:x:0:\nshadow:x:42:\ncnb:x:1000:\n");
        assert_eq!(
            made.shadow,
            "root:*:20000:0:99999:7:::\ncnb:*:20000:0:99999:7:::\n"
        );
        assert_eq!(made.gshadow, "root:*::\nshadow:*::\ncnb:*::\n");
        assert_eq!(group_id(&made.group, "shadow"), Some(42));
        assert_eq!(group_id(&made.group, "mail"), None);
    }
}
