//! Which packages a base needs: everything essential, what the flavour asks for, and what those depend on.
//!
//! Every dependency with one answer is followed before any choice is made, and choices are made in the order of names:
//! so the result does not depend on the order in which packages are looked at.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use debversion::Version;

use crate::base::error::BaseError;
use crate::base::index::Index;
use crate::base::index::Package;
use crate::base::relation;
use crate::base::relation::Alternatives;
use crate::base::relation::Relation;

/// The packages that `wanted` needs, by name, with everything essential (Debian Policy §7).
pub fn close<'index>(index: &'index Index, wanted: &[&str]) -> Result<Vec<&'index Package>, BaseError> {
    let mut closure = Closure {
        index,
        chosen: BTreeMap::new(),
        open: BTreeSet::new(),
        choices: BTreeMap::new(),
    };
    for name in index.essential().into_iter().chain(wanted.iter().copied()) {
        let package = index.get(name).ok_or_else(|| BaseError::PackageMissing {
            name: name.to_owned(),
        })?;
        closure.choose(package);
    }
    loop {
        closure.follow()?;
        let Some(((package, _), group)) = closure.choices.pop_first() else {
            break;
        };
        if closure.meets(&group) {
            continue;
        }
        let unmet = || BaseError::DependencyUnmet {
            package,
            relation: relation::display(&group),
        };
        let answer = group
            .iter()
            .find_map(|relation| answer(index, relation))
            .ok_or_else(unmet)?;
        closure.choose(answer);
    }
    closure.check_exclusions()?;
    Ok(closure.chosen.into_values().collect())
}

struct Closure<'index> {
    index: &'index Index,
    chosen: BTreeMap<&'index str, &'index Package>,
    /// Chosen, but what they depend on was not looked at yet.
    open: BTreeSet<&'index str>,
    /// Dependencies with more than one possible answer, by package and place.
    choices: BTreeMap<(String, usize), Alternatives>,
}

impl<'index> Closure<'index> {
    fn choose(&mut self, package: &'index Package) {
        if self.chosen.insert(&package.name, package).is_none() {
            self.open.insert(&package.name);
        }
    }

    /// Follows all dependencies that have one answer; the others are put aside.
    fn follow(&mut self) -> Result<(), BaseError> {
        while let Some(name) = self.open.pop_first() {
            let Some(package) = self.chosen.get(name).copied() else {
                continue;
            };
            for (place, group) in read_all(package, &package.depends)?.into_iter().enumerate() {
                let only = group.first().filter(|_| group.len() == 1);
                match only.and_then(|relation| real(self.index, relation)) {
                    Some(answer) => self.choose(answer),
                    None => drop(self.choices.insert((package.name.clone(), place), group)),
                }
            }
        }
        Ok(())
    }

    /// Whether a chosen package meets one of the group's relations.
    fn meets(&self, group: &[Relation]) -> bool {
        group.iter().any(|relation| {
            let really = self
                .chosen
                .get(relation.name.as_str())
                .is_some_and(|one| relation.admits(&one.version));
            really || self.chosen_providers(relation).next().is_some()
        })
    }

    fn chosen_providers(&self, relation: &Relation) -> impl Iterator<Item = &'index Package> {
        let providers = self.index.providers(&relation.name).iter();
        providers
            .filter(|provided| stands_in(relation, provided.version.as_ref()))
            .filter_map(|provided| self.chosen.get(provided.provider.as_str()).copied())
    }

    fn check_exclusions(&self) -> Result<(), BaseError> {
        for package in self.chosen.values() {
            for relation in read_all(package, &package.excludes)?.into_iter().flatten() {
                let real = self
                    .chosen
                    .get(relation.name.as_str())
                    .filter(|other| relation.admits(&other.version));
                let excluded = real.copied().into_iter().chain(self.chosen_providers(&relation));
                // A package may exclude what it provides itself: all its other providers are meant.
                if let Some(other) = excluded.into_iter().find(|other| other.name != package.name) {
                    return Err(BaseError::Conflict {
                        package: package.name.clone(),
                        other: other.name.clone(),
                        relation: relation.to_string(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// The real package that a relation names.
fn real<'index>(index: &'index Index, relation: &Relation) -> Option<&'index Package> {
    index
        .get(&relation.name)
        .filter(|package| relation.admits(&package.version))
}

/// The real package that a relation names, or else the first of its providers.
fn answer<'index>(index: &'index Index, relation: &Relation) -> Option<&'index Package> {
    real(index, relation).or_else(|| {
        let providers = index.providers(&relation.name).iter();
        let mut fitting = providers.filter(|provided| stands_in(relation, provided.version.as_ref()));
        fitting.find_map(|provided| index.get(&provided.provider))
    })
}

/// Whether what is provided, as `version` or as none, meets the relation: a bound needs a version.
fn stands_in(relation: &Relation, version: Option<&Version>) -> bool {
    relation.bound.is_none() || version.is_some_and(|version| relation.admits(version))
}

fn read_all(package: &Package, fields: &[String; 2]) -> Result<Vec<Alternatives>, BaseError> {
    let mut groups = Vec::new();
    for field in fields {
        let read = relation::parse(field).ok_or_else(|| BaseError::DependencyUnmet {
            package: package.name.clone(),
            relation: field.clone(),
        })?;
        groups.extend(read);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::index::tests::index;

    fn names(paragraphs: &str, wanted: &[&str]) -> Result<String, String> {
        let index = index(paragraphs);
        let chosen = close(&index, wanted).map_err(|error| error.to_string())?;
        Ok(chosen
            .iter()
            .map(|package| package.name.as_str())
            .collect::<Vec<_>>()
            .join(" "))
    }

    const AWK: &str = "
Package: base-files\nEssential: yes\nPre-Depends: awk

Package: gawk\nPriority: optional\nProvides: awk\nDepends: libmpfr6

Package: libmpfr6

Package: mawk\nPriority: required\nProvides: awk

Package: wants-gawk\nDepends: gawk

Package: original-awk\nProvides: awk";

    #[test]
    fn a_virtual_package_is_chosen_by_priority_unless_one_is_there() {
        assert_eq!(names(AWK, &[]).unwrap(), "base-files mawk");
        assert_eq!(
            names(AWK, &["wants-gawk"]).unwrap(),
            "base-files gawk libmpfr6 wants-gawk"
        );
    }

    #[test]
    fn the_first_alternative_that_exists_is_taken_unless_another_is_there() {
        let packages = "
Package: a\nDepends: gone | c | b, d

Package: b

Package: c

Package: d

Package: e\nDepends: b";
        assert_eq!(names(packages, &["a"]).unwrap(), "a c d");
        assert_eq!(names(packages, &["a", "e"]).unwrap(), "a b d e");
    }

    #[test]
    fn bounds_count_for_real_and_for_provided_versions() {
        let packages = "
Package: old\nVersion: 1.0

Package: provider\nProvides: thing (= 3)

Package: a\nDepends: thing (>= 2)

Package: b\nDepends: thing (>= 4)

Package: c\nDepends: old (>= 2)

Package: d\nDepends: old (>= 2) | old";
        assert_eq!(names(packages, &["a"]).unwrap(), "a provider");
        assert_eq!(names(packages, &["d"]).unwrap(), "d old");
        assert!(names(packages, &["b"]).unwrap_err().contains("`thing (>= 4)`"));
        assert!(
            names(packages, &["c"])
                .unwrap_err()
                .contains("package c needs `old (>= 2)`")
        );
        assert!(names(packages, &["nothing"]).unwrap_err().contains("`nothing`"));
    }

    #[test]
    fn circles_end_and_exclusions_are_refused() {
        let packages = "
Package: a\nDepends: b

Package: b\nDepends: a

Package: x\nConflicts: mail\nProvides: mail

Package: y\nProvides: mail

Package: z\nBreaks: b (<< 2)";
        assert_eq!(names(packages, &["a"]).unwrap(), "a b");
        assert_eq!(names(packages, &["x"]).unwrap(), "x");
        assert!(
            names(packages, &["x", "y"])
                .unwrap_err()
                .contains("packages x and y exclude each other")
        );
        assert!(names(packages, &["a", "z"]).unwrap_err().contains("`b (<< 2)`"));
    }
}
