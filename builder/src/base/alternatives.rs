//! Alternatives: read out of the packages' `postinst`, and checked against a table, so that a new one is noticed.

/// One link of an alternative, as `update-alternatives` would set it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alternative {
    /// Where the link is: `/usr/bin/awk`.
    pub(super) link: String,
    /// Its name in `/etc/alternatives`.
    pub(super) name: String,
    /// What it leads to.
    pub(super) target: String,
    /// The greatest wins.
    pub(super) priority: i32,
}

/// The alternatives that are known: package, name, link, target.
const KNOWN: &[(&str, &str, &str, &str)] = &[
    ("cpp", "cpp", "/lib/cpp", "/usr/bin/cpp"),
    (
        "debianutils",
        "which",
        "/usr/bin/which",
        "/usr/bin/which.debianutils",
    ),
    ("g++", "c++", "/usr/bin/c++", "/usr/bin/g++"),
    ("gcc", "c89", "/usr/bin/c89", "/usr/bin/c89-gcc"),
    ("gcc", "c99", "/usr/bin/c99", "/usr/bin/c99-gcc"),
    ("gcc", "cc", "/usr/bin/cc", "/usr/bin/gcc"),
    ("mawk", "awk", "/usr/bin/awk", "/usr/bin/mawk"),
    ("mawk", "nawk", "/usr/bin/nawk", "/usr/bin/mawk"),
    ("tar", "rmt", "/usr/sbin/rmt", "/usr/sbin/rmt-tar"),
    ("util-linux", "pager", "/usr/bin/pager", "/bin/more"),
    ("xz-utils", "lzma", "/usr/bin/lzma", "/usr/bin/xz"),
];

/// Slaves that a script computes instead of naming them: package, name, link, target.
const COMPUTED: &[(&str, &str, &str, &str)] = &[
    ("xz-utils", "unlzma", "/usr/bin/unlzma", "/usr/bin/unxz"),
    ("xz-utils", "lzcat", "/usr/bin/lzcat", "/usr/bin/xzcat"),
    ("xz-utils", "lzmore", "/usr/bin/lzmore", "/usr/bin/xzmore"),
    ("xz-utils", "lzless", "/usr/bin/lzless", "/usr/bin/xzless"),
    ("xz-utils", "lzdiff", "/usr/bin/lzdiff", "/usr/bin/xzdiff"),
    ("xz-utils", "lzcmp", "/usr/bin/lzcmp", "/usr/bin/xzcmp"),
    ("xz-utils", "lzgrep", "/usr/bin/lzgrep", "/usr/bin/xzgrep"),
    ("xz-utils", "lzegrep", "/usr/bin/lzegrep", "/usr/bin/xzegrep"),
    ("xz-utils", "lzfgrep", "/usr/bin/lzfgrep", "/usr/bin/xzfgrep"),
];

/// The alternatives that `package`'s `postinst` installs, manual pages left out; and sentences on what differs from the
/// table.
pub(super) fn of_package(package: &str, postinst: &str) -> (Vec<Alternative>, Vec<String>) {
    let mut found: Vec<_> = logical_lines(postinst)
        .iter()
        .flat_map(|command| read_command(command))
        .collect();
    found.retain(|alternative| !alternative.link.starts_with("/usr/share/man/"));
    let mut odd = Vec::new();
    let known: Vec<_> = KNOWN.iter().filter(|row| row.0 == package).collect();
    for new in &found {
        let row = (package, new.name.as_str(), new.link.as_str(), new.target.as_str());
        if !known.contains(&&row) {
            odd.push(format!(
                "package {package} has a new alternative, {} → {}",
                new.link, new.target
            ));
        }
    }
    for (_, name, link, _) in known {
        if !found.iter().any(|alternative| alternative.name == *name) {
            odd.push(format!("package {package} has no alternative {link} any more"));
        }
    }
    let priority = found.first().map_or(0, |alternative| alternative.priority);
    let computed = COMPUTED
        .iter()
        .filter(|row| row.0 == package && !found.is_empty());
    let computed: Vec<_> = computed
        .map(|(_, name, link, target)| Alternative {
            link: (*link).to_owned(),
            name: (*name).to_owned(),
            target: (*target).to_owned(),
            priority,
        })
        .collect();
    found.extend(computed);
    (found, odd)
}

/// Of several packages' alternatives of one name, the one with the greatest priority; of equals the first target.
pub(super) fn winners(mut all: Vec<Alternative>) -> Vec<Alternative> {
    all.sort_by(|one, other| {
        (&one.name, -one.priority, &one.target).cmp(&(&other.name, -other.priority, &other.target))
    });
    all.dedup_by(|later, earlier| later.name == earlier.name);
    all
}

/// Lines with their continuations joined.
fn logical_lines(script: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for line in script.lines() {
        let (text, goes_on) = line.strip_suffix('\\').map_or((line, false), |text| (text, true));
        if let Some(last) = lines.last_mut() {
            last.push_str(text);
            last.push(' ');
        }
        if !goes_on {
            lines.push(String::new());
        }
    }
    lines
}

/// `update-alternatives --install LINK NAME TARGET PRIORITY [--slave LINK NAME TARGET]…`
fn read_command(command: &str) -> Vec<Alternative> {
    // A comment ends a command, and what a shell computes cannot be read here.
    let words: Vec<_> = command
        .split_ascii_whitespace()
        .take_while(|word| !word.starts_with(['#', '$', '`']))
        .collect();
    let mut found: Vec<Alternative> = Vec::new();
    if !words.contains(&"update-alternatives") {
        return found;
    }
    for (position, word) in words.iter().enumerate() {
        let rest = &words[position + 1..];
        let priority = match *word {
            "--install" => rest.get(3).and_then(|text| text.parse().ok()),
            "--slave" => found.first().map(|master| master.priority),
            _ => None,
        };
        if let (Some(priority), [link, name, target, ..]) = (priority, rest) {
            found.push(Alternative {
                link: (*link).to_owned(),
                name: (*name).to_owned(),
                target: (*target).to_owned(),
                priority,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(package: &str, script: &str) -> (String, usize) {
        let (found, odd) = of_package(package, script);
        let links = found
            .iter()
            .map(|one| format!("{}>{}", one.name, one.target))
            .collect::<Vec<_>>()
            .join(" ");
        (links, odd.len())
    }

    #[test]
    fn scripts_as_debian_writes_them_are_read() {
        let gcc = "set -e\nupdate-alternatives --quiet \\\n    --install /usr/bin/cc cc /usr/bin/gcc 20 \\\n    #--slave /usr/share/man/man1/cc.1.gz cc.1.gz /x\n\nupdate-alternatives --quiet \\\n  --install /usr/bin/c89 c89 /usr/bin/c89-gcc 20 \\\n --slave /usr/share/man/man1/c89.1.gz c89.1.gz /y\nupdate-alternatives --install /usr/bin/c99 c99 /usr/bin/c99-gcc 20\n";
        assert_eq!(
            links("gcc", gcc),
            (
                "cc>/usr/bin/gcc c89>/usr/bin/c89-gcc c99>/usr/bin/c99-gcc".into(),
                0
            )
        );
        let mawk = "if x; then\n\tupdate-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n --slave /usr/share/man/man1/awk.1.gz awk.1.gz /z \\\n --slave /usr/bin/nawk nawk /usr/bin/mawk\nfi\n";
        assert_eq!(
            links("mawk", mawk),
            ("awk>/usr/bin/mawk nawk>/usr/bin/mawk".into(), 0)
        );
        let xz = "update-alternatives --install /usr/bin/lzma lzma /usr/bin/xz 20 $(\n\tslave /usr/bin unlzma unxz\n)\n";
        let (found, odd) = links("xz-utils", xz);
        assert!(
            found.starts_with("lzma>/usr/bin/xz unlzma>/usr/bin/unxz lzcat>"),
            "{found}"
        );
        assert_eq!(odd, 0);
    }

    #[test]
    fn what_differs_from_the_table_is_told() {
        assert_eq!(
            links("new", "update-alternatives --install /usr/bin/x x /usr/bin/y 1\n"),
            ("x>/usr/bin/y".into(), 1)
        );
        assert_eq!(links("tar", "exit 0\n"), (String::new(), 1));
        assert_eq!(
            links("tar", "update-alternatives --remove rmt /usr/sbin/rmt-tar\n").1,
            1
        );
        assert_eq!(
            links("other", "# update-alternatives --install /a b /c 1\n"),
            (String::new(), 0)
        );
    }

    #[test]
    fn the_greatest_priority_wins() {
        let one = |target: &str, priority| Alternative {
            link: "/usr/bin/awk".into(),
            name: "awk".into(),
            target: target.into(),
            priority,
        };
        let won = winners(vec![
            one("/usr/bin/mawk", 5),
            one("/usr/bin/gawk", 10),
            one("/usr/bin/busybox", 10),
        ]);
        assert_eq!(won, [one("/usr/bin/busybox", 10)]);
    }
}
