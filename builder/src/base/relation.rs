//! Relations between packages: `libc6 (>= 2.41) | libc6.1` (Debian Policy §7.1).

use std::fmt;

use debversion::Version;

/// How a version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// A package's name and perhaps a bound on its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The name.
    pub name: String,
    /// The bound.
    pub bound: Option<(Operator, Version)>,
}

/// A relation, or one of several.
pub type Alternatives = Vec<Relation>;

impl Relation {
    /// Whether a package of this version is meant.
    pub fn admits(&self, version: &Version) -> bool {
        self.bound
            .as_ref()
            .is_none_or(|(operator, bound)| match operator {
                Operator::Earlier => version < bound,
                Operator::EarlierOrEqual => version <= bound,
                Operator::Equal => version == bound,
                Operator::LaterOrEqual => version >= bound,
                Operator::Later => version > bound,
            })
    }
}

/// Reads a field of relations; none if it does not have that form.
pub fn parse(field: &str) -> Option<Vec<Alternatives>> {
    let groups = field.split(',').map(str::trim).filter(|group| !group.is_empty());
    groups
        .map(|group| group.split('|').map(parse_one).collect())
        .collect()
}

fn parse_one(text: &str) -> Option<Relation> {
    // Lists of binary packages have neither `[amd64]` nor `<!nocheck>`; `:any` matters only between architectures.
    let (name, rest) = text
        .split_once('(')
        .map_or((text, None), |(name, rest)| (name, Some(rest)));
    let name = name
        .trim()
        .split(':')
        .next()
        .filter(|name| !name.is_empty() && !name.contains(' '))?;
    let bound = match rest {
        None => None,
        Some(rest) => Some(parse_bound(rest.trim().strip_suffix(')')?.trim())?),
    };
    Some(Relation {
        name: name.to_owned(),
        bound,
    })
}

fn parse_bound(text: &str) -> Option<(Operator, Version)> {
    let operators = [
        ("<<", Operator::Earlier),
        ("<=", Operator::EarlierOrEqual),
        (">=", Operator::LaterOrEqual),
        (">>", Operator::Later),
        ("=", Operator::Equal),
    ];
    let (rest, operator) = operators
        .iter()
        .find_map(|(word, operator)| Some((text.strip_prefix(word)?, *operator)))?;
    Some((operator, rest.trim().parse().ok()?))
}

impl fmt::Display for Relation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((operator, version)) = &self.bound else {
            return formatter.write_str(&self.name);
        };
        let word = match operator {
            Operator::Earlier => "<<",
            Operator::EarlierOrEqual => "<=",
            Operator::Equal => "=",
            Operator::LaterOrEqual => ">=",
            Operator::Later => ">>",
        };
        write!(formatter, "{} ({word} {version})", self.name)
    }
}

/// The text of a group: `a | b (>= 1)`.
pub fn display(group: &[Relation]) -> String {
    group
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_and_written() {
        let groups = parse("libc6 (>= 2.41), debconf (>= 0.5) | debconf-2.0, python3:any, awk,").unwrap();
        let shown: Vec<_> = groups.iter().map(|group| display(group)).collect();
        assert_eq!(
            shown,
            [
                "libc6 (>= 2.41)",
                "debconf (>= 0.5) | debconf-2.0",
                "python3",
                "awk"
            ]
        );
        for wrong in ["a (", "a (>= )", "a (> 1)", "a b", "(>= 1)"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn versions_are_compared_as_dpkg_does() {
        for (relation, version, admitted) in [
            ("a (>= 1.0)", "1.0", true),
            ("a (>= 1.0)", "1.0~rc1", false),
            ("a (>> 1.0)", "1.0-0+deb13u1", true),
            ("a (<< 2)", "1:1", false),
            ("a (= 2.41-12)", "2.41-12", true),
            ("a (<= 2.41-12)", "2.41-12+deb13u1", false),
            ("a (>= 0.10)", "0.9", false),
            ("a", "0~", true),
        ] {
            let relation = &parse(relation).unwrap()[0][0];
            assert_eq!(
                relation.admits(&version.parse().unwrap()),
                admitted,
                "{relation} {version}"
            );
        }
    }
}
