//! The ranges of ids that `/etc/subuid` and `/etc/subgid` give to a user; parsing alone.

/// Ids that a user may map besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubordinateRange {
    /// The first id.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The first range of at least `count_min` ids that the file's text gives to the user, by login name or by number.
pub fn range_of(text: &str, login_name: Option<&str>, uid: u32, count_min: u32) -> Option<SubordinateRange> {
    text.lines()
        .filter_map(|line| range_of_line(line.trim(), login_name, uid))
        .find(|range| range.count >= count_min)
}

fn range_of_line(line: &str, login_name: Option<&str>, uid: u32) -> Option<SubordinateRange> {
    let mut fields = line.split(':');
    let owner = fields.next()?;
    let is_ours = login_name == Some(owner) || owner.parse() == Ok(uid);
    let first: u32 = fields.next()?.parse().ok()?;
    let count: u32 = fields.next()?.parse().ok()?;
    let fits = first.checked_add(count).is_some() && first != 0;
    (is_ours && fits && fields.next().is_none()).then_some(SubordinateRange { first, count })
}

/// The login name of a user in the text of `/etc/passwd`.
pub fn login_name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_and_by_number() {
        let text = "# comment\nanna:100000:65536\n1001:200000:65536\nbert:300000:1000\nbert:400000:70000\n";
        let range = |first, count| Some(SubordinateRange { first, count });
        assert_eq!(range_of(text, Some("anna"), 1000, 65_536), range(100_000, 65_536));
        assert_eq!(range_of(text, None, 1001, 65_536), range(200_000, 65_536));
        assert_eq!(range_of(text, Some("bert"), 5, 65_536), range(400_000, 70_000));
        assert_eq!(range_of(text, Some("carl"), 7, 65_536), None);
    }

    #[test]
    fn odd_lines_give_nothing() {
        for line in [
            "",
            "anna",
            "anna:x:65536",
            "anna:4294967295:65536",
            "anna:0:65536",
            "anna:1:65536:9",
        ] {
            assert_eq!(range_of(line, Some("anna"), 1000, 65_536), None, "{line}");
        }
    }

    #[test]
    fn the_login_name_is_the_first_with_the_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        assert_eq!(login_name_of(passwd, 1000), Some("anna"));
        assert_eq!(login_name_of(passwd, 1001), None);
    }
}
