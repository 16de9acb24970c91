//! The table of Node.js release lines: which are long-term support, and which npm goes with each.
//!
//! Written on [`TABLE_DATE`]. `lts` is what `node_version.h` in the newest package of each line says
//! (`NODE_VERSION_IS_LTS`, `NODE_VERSION_LTS_CODENAME`); `ended` is the month of Node.js' release schedule, and was
//! not looked up again; `npm_major` is our choice, about what Node.js ships, and each npm's own `engines` are asked
//! besides. A commit changes it; a version that is newer than the table installs all the same.

/// One major version of Node.js.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReleaseLine {
    pub(crate) major: u64,
    /// The code name, in lower case, from the day the line became long-term support.
    pub(crate) lts: Option<&'static str>,
    /// The newest major version of npm that is installed with it.
    pub(crate) npm_major: u64,
    /// The month of its last fixes, where that was past when the table was written.
    pub(crate) ended: Option<&'static str>,
}

/// When the table was last changed. Versions that were chosen under another date are chosen anew.
pub(crate) const TABLE_DATE: &str = "2026-11-22";

/// Newest first.
const RELEASE_LINES: [ReleaseLine; 13] = [
    ReleaseLine {
        major: 26,
        lts: None,
        npm_major: 11,
        ended: None,
    },
    ReleaseLine {
        major: 25,
        lts: None,
        npm_major: 11,
        ended: Some("2026-06"),
    },
    ReleaseLine {
        major: 24,
        lts: Some("krypton"),
        npm_major: 11,
        ended: None,
    },
    ReleaseLine {
        major: 23,
        lts: None,
        npm_major: 10,
        ended: Some("2025-06"),
    },
    ReleaseLine {
        major: 22,
        lts: Some("jod"),
        npm_major: 10,
        ended: None,
    },
    ReleaseLine {
        major: 21,
        lts: None,
        npm_major: 10,
        ended: Some("2024-06"),
    },
    ReleaseLine {
        major: 20,
        lts: Some("iron"),
        npm_major: 10,
        ended: Some("2026-04"),
    },
    ReleaseLine {
        major: 19,
        lts: None,
        npm_major: 9,
        ended: Some("2023-06"),
    },
    ReleaseLine {
        major: 18,
        lts: Some("hydrogen"),
        npm_major: 10,
        ended: Some("2025-04"),
    },
    ReleaseLine {
        major: 17,
        lts: None,
        npm_major: 8,
        ended: Some("2022-06"),
    },
    ReleaseLine {
        major: 16,
        lts: Some("gallium"),
        npm_major: 8,
        ended: Some("2023-09"),
    },
    ReleaseLine {
        major: 14,
        lts: Some("fermium"),
        npm_major: 8,
        ended: Some("2023-04"),
    },
    ReleaseLine {
        major: 12,
        lts: Some("erbium"),
        npm_major: 8,
        ended: Some("2022-04"),
    },
];

pub(crate) fn release_line(major: u64) -> Option<&'static ReleaseLine> {
    RELEASE_LINES.iter().find(|line| line.major == major)
}

/// The long-term support line that is `back` lines before the newest one (`lts/*` is 0, `lts/-1` is 1).
pub(crate) fn lts_line(back: usize) -> Option<&'static ReleaseLine> {
    RELEASE_LINES.iter().filter(|line| line.lts.is_some()).nth(back)
}

/// The line with the code name `name`, in any case.
pub(crate) fn lts_line_named(name: &str) -> Option<&'static ReleaseLine> {
    RELEASE_LINES
        .iter()
        .find(|line| line.lts.is_some_and(|lts| lts.eq_ignore_ascii_case(name)))
}

/// The names of the long-term support lines, newest first.
pub(crate) fn lts_names() -> Vec<&'static str> {
    RELEASE_LINES.iter().filter_map(|line| line.lts).collect()
}

/// The newest major version of npm for Node.js `major`; for a line that is not listed, that of the nearest end of
/// the table.
pub(crate) fn npm_major_for(major: u64) -> u64 {
    let [newest, .., oldest] = &RELEASE_LINES;
    let beyond = if major > oldest.major { newest } else { oldest };
    release_line(major).unwrap_or(beyond).npm_major
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_names_are_lower_case() {
        assert!(RELEASE_LINES.windows(2).all(|pair| pair[0].major > pair[1].major));
        assert!(lts_names().iter().all(|name| *name == name.to_lowercase()));
    }

    #[test]
    fn lines_are_found_by_age_name_and_number() {
        assert_eq!(lts_line(0).unwrap().major, 24);
        assert_eq!(lts_line(1).unwrap().major, 22);
        assert_eq!(lts_line(99), None);
        assert_eq!(lts_line_named("Jod").unwrap().major, 22);
        assert_eq!(lts_line_named("argon"), None);
        for (node, npm) in [(99, 11), (24, 11), (22, 10), (19, 9), (16, 8), (4, 8)] {
            assert_eq!(npm_major_for(node), npm, "Node.js {node}");
        }
    }
}
