//! The ranges of ids that `/etc/subuid` and `/etc/subgid` give to a user; parsing alone.

/// Where ranges begin (`SUB_UID_MIN` of login.defs(5)).
const FIRST_SUBORDINATE: u64 = 100_000;

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

/// The first of `count` ids that nobody has: in none of the `files` (texts of `/etc/subuid` and `/etc/subgid`), no user's
/// of `passwd`, and below `end`, which is the end of what is mapped here. Where `useradd` begins to look too.
pub fn free_range(files: &[&str], passwd: &str, count: u32, end: u64) -> Option<u32> {
    let given = files.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let mut fields = line.trim().split(':').skip(1);
        let first: u64 = fields.next()?.parse().ok()?;
        let count: u64 = fields.next()?.parse().ok()?;
        Some((first, first.saturating_add(count)))
    });
    let users = passwd.lines().filter_map(|line| {
        let uid: u64 = line.split(':').nth(2)?.parse().ok()?;
        Some((uid, uid + 1))
    });
    let mut taken: Vec<(u64, u64)> = given.chain(users).collect();
    taken.sort_unstable();
    let count = u64::from(count);
    let first = taken.iter().fold(FIRST_SUBORDINATE, |free, (first, end)| {
        if *end <= free || *first >= free + count {
            free
        } else {
            *end
        }
    });
    (first + count <= end)
        .then(|| u32::try_from(first).ok())
        .flatten()
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
    fn a_free_range_is_nobodys() {
        let free = |files: &[&str], passwd| free_range(files, passwd, 65_536, 1 << 32);
        assert_eq!(free(&[""], ""), Some(100_000));
        let subuid = "anna:100000:65536\nbert:231072:65536\n";
        assert_eq!(free(&[subuid, "anna:100000:65536\n"], ""), Some(165_536));
        assert_eq!(free(&[subuid, "carl:165536:65536\n"], ""), Some(296_608));
        assert_eq!(free(&[subuid], "dora:x:165540:1::/:/bin/sh\n"), Some(296_608));
        // One large range that others lie in.
        assert_eq!(free(&["a:90000:500000\nb:100000:10\n"], ""), Some(590_000));
        // A container that has 65536 ids has none to give.
        assert_eq!(free_range(&[""], "", 65_536, 65_536), None);
        assert_eq!(free(&["odd\na:b:c\na:4294967295:9\n"], ""), Some(100_000));
        assert_eq!(free(&["a:100000:4294867295\n"], ""), None);
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
