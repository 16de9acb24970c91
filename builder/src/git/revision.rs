//! Which commit a revision means: pure decisions over what the remote lists.

/// A ref that the remote lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advertised {
    /// `HEAD`, `refs/heads/main`, `refs/tags/v1`, `refs/tags/v1^{}`.
    pub(super) name: String,
    /// What it points to, in hex.
    pub(super) object: String,
    /// For a symbolic ref, the ref that it stands for.
    pub(super) target: Option<String>,
}

/// A ref that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Its full name.
    pub(super) name: String,
    /// What it points to, in hex: a commit, or an annotated tag.
    pub(super) object: String,
    /// The commit, where the remote peels annotated tags.
    pub(super) commit: String,
}

impl Chosen {
    /// The name as people write it: `main`, `v1`.
    pub(super) fn short_name(&self) -> &str {
        let name = self.name.as_str();
        name.strip_prefix("refs/heads/")
            .or_else(|| name.strip_prefix("refs/tags/"))
            .unwrap_or(name)
    }
}

/// The ref that `revision` names: the remote's HEAD, a full name, a branch, or a tag, in this order.
pub(super) fn choose(refs: &[Advertised], revision: Option<&str>) -> Option<Chosen> {
    let find = |name: &str| refs.iter().find(|advertised| advertised.name == name);
    let found = match revision {
        None => {
            let head = find("HEAD")?;
            head.target.as_deref().and_then(find).unwrap_or(head)
        }
        Some(name) if name.starts_with("refs/") || name == "HEAD" => find(name)?,
        Some(name) => find(&format!("refs/heads/{name}")).or_else(|| find(&format!("refs/tags/{name}")))?,
    };
    let peeled = find(&format!("{}^{{}}", found.name)).map_or(&found.object, |peeled| &peeled.object);
    Some(Chosen {
        name: found.name.clone(),
        object: found.object.clone(),
        commit: peeled.clone(),
    })
}

/// A ref that points to the commit, so that it can be asked for by name.
pub(super) fn choose_by_commit(refs: &[Advertised], commit: &str) -> Option<Chosen> {
    let at = refs
        .iter()
        .find(|advertised| advertised.object == commit && advertised.name.starts_with("refs/"))?;
    let name = at.name.strip_suffix("^{}").unwrap_or(&at.name);
    refs.iter()
        .find(|advertised| advertised.name == name)
        .map(|advertised| Chosen {
            name: name.to_owned(),
            object: advertised.object.clone(),
            commit: commit.to_owned(),
        })
}

/// Whether the text is a whole commit in hex.
pub(super) fn is_full_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}

/// Whether the text may be the beginning of a commit in hex.
pub(super) fn is_short_commit(text: &str) -> bool {
    (7..40).contains(&text.len()) && is_hex(text)
}

/// Up to three branches or tags whose names are like `revision`.
pub(super) fn near_misses(refs: &[Advertised], revision: &str) -> Vec<String> {
    let wanted = revision.to_lowercase();
    let names = refs
        .iter()
        .filter(|advertised| !advertised.name.ends_with("^{}"))
        .filter_map(|advertised| {
            let name = advertised.name.as_str();
            name.strip_prefix("refs/heads/")
                .or_else(|| name.strip_prefix("refs/tags/"))
        });
    let mut near: Vec<(usize, &str)> = names
        .filter(|name| name.len() <= 100)
        .map(|name| (unlikeness(&wanted, &name.to_lowercase()), name))
        .filter(|(unlikeness, _)| *unlikeness <= 1 + wanted.chars().count() / 4)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter()
        .take(3)
        .map(|(_, name)| format!("`{name}`"))
        .collect()
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Edits from one to the other; 1 if one is the other's last part (`x` for `feature/x`) or goes on from it.
fn unlikeness(one: &str, other: &str) -> usize {
    let is_part = |long: &str, short: &str| {
        long.len() > short.len() && (long.ends_with(&format!("/{short}")) || long == format!("v{short}"))
    };
    if is_part(one, other)
        || is_part(other, one)
        || other == "main" && one == "master"
        || other == "master" && one == "main"
    {
        return 1;
    }
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (position, character) in one.chars().take(100).enumerate() {
        let mut diagonal = row[0];
        row[0] = position + 1;
        for (column, candidate) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refs() -> Vec<Advertised> {
        let plain = |name: &str, object: &str| Advertised {
            name: name.into(),
            object: object.into(),
            target: None,
        };
        vec![
            Advertised {
                target: Some("refs/heads/main".into()),
                ..plain("HEAD", "a")
            },
            plain("refs/heads/main", "a"),
            plain("refs/heads/feature/login", "b"),
            plain("refs/heads/v1", "c"),
            plain("refs/tags/v1", "d"),
            plain("refs/tags/v2.0", "e"),
            plain("refs/tags/v2.0^{}", "f"),
        ]
    }

    #[test]
    fn names_mean_what_git_clone_takes_them_for() {
        for (revision, name, object, commit) in [
            (None, "refs/heads/main", "a", "a"),
            (Some("main"), "refs/heads/main", "a", "a"),
            (Some("v1"), "refs/heads/v1", "c", "c"),
            (Some("refs/tags/v1"), "refs/tags/v1", "d", "d"),
            (Some("v2.0"), "refs/tags/v2.0", "e", "f"),
        ] {
            let chosen = choose(&refs(), revision).unwrap();
            assert_eq!(
                (
                    chosen.name.as_str(),
                    chosen.object.as_str(),
                    chosen.commit.as_str()
                ),
                (name, object, commit)
            );
        }
        assert_eq!(choose(&refs(), Some("missing")), None);
        assert_eq!(choose_by_commit(&refs(), "f").unwrap().object, "e");
        assert_eq!(choose_by_commit(&refs(), "z"), None);
    }

    #[test]
    fn near_misses_are_named() {
        for (asked, near) in [
            ("mian", "`main`"),
            ("master", "`main`"),
            ("login", "`feature/login`"),
            ("2.0", "`v2.0`"),
        ] {
            assert_eq!(
                near_misses(&refs(), asked).first().map(String::as_str),
                Some(near),
                "{asked}"
            );
        }
        assert!(near_misses(&refs(), "something-else").is_empty());
    }
}
