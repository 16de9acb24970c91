//! Turns an order into groups of buildpacks, one after another, until one fits (Platform spec, "Order Resolution").

use std::sync::Arc;

use packhorse_spec::group_toml::GroupMember;
use packhorse_spec::order_toml::Group;
use packhorse_spec::order_toml::GroupEntry;
use packhorse_spec::order_toml::Order;
use packhorse_spec::plan_toml::BuildPlan;
use packhorse_spec::system_toml::SystemBuildpacks;

use crate::buildpack::library::Buildpack;
use crate::buildpack::library::Library;
use crate::buildpack::library::LibraryError;
use crate::buildpack::resolve::Candidate;
use crate::buildpack::resolve::Outcome;
use crate::buildpack::resolve::Resolution;
use crate::buildpack::resolve::resolve;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// The most groups that are tried.
const GROUPS_MAX: usize = 10_000;
/// The most composites that are open at once; each one costs stack.
const DEPTH_MAX: usize = 200;

/// A buildpack of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Participant {
    /// Its id and version as the order names them, its API and homepage.
    pub member: GroupMember,
    /// Where it is and what it says of itself.
    pub buildpack: Arc<Buildpack>,
}

impl Participant {
    /// `id@version`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.member.id, self.member.version)
    }
}

/// A participant, and whether its group passes without it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Which buildpack.
    pub participant: Participant,
    /// Whether the group passes without it.
    pub optional: bool,
}

/// A group that did not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its buildpacks, `id@version`.
    pub group: Vec<String>,
    /// Why, one sentence each.
    pub reasons: Vec<String>,
}

/// What all groups came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Search {
    /// The first group that fits.
    Found {
        /// Its buildpacks, in the order in which they build.
        group: Vec<Participant>,
        /// Who provides what.
        plan: BuildPlan,
        /// The groups before it.
        rejected: Vec<Rejected>,
    },
    /// No group fits.
    NotFound {
        /// Whether a buildpack could not tell.
        errored: bool,
        /// All groups.
        rejected: Vec<Rejected>,
    },
}

/// An order that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// A buildpack that the order names cannot be used.
    #[error(transparent)]
    Named(LibraryError),
    /// A buildpack that a composite names cannot be used.
    #[error("cannot follow composite buildpack {composite}: {source}")]
    InComposite {
        /// The composite.
        composite: String,
        /// Why not.
        source: LibraryError,
    },
    /// A composite leads back to itself.
    #[error("composite buildpack {composite} contains itself, by way of {path}")]
    Cycle {
        /// The composite.
        composite: String,
        /// The composites on the way.
        path: String,
    },
    /// The order is larger than anybody could mean.
    #[error("the order has more than {max} {what}")]
    TooLarge {
        /// The limit.
        max: usize,
        /// Of what.
        what: &'static str,
    },
    /// The builder has image extensions.
    #[error("the order has image extensions (`order-extensions`), which are not supported yet")]
    Extensions,
}

impl Failure for OrderError {
    fn facts(&self) -> Facts {
        match self {
            Self::Named(source)
            | Self::InComposite {
                source: source @ LibraryError::ApiUnsupported { .. },
                ..
            } => source.facts(),
            Self::InComposite { .. } | Self::Cycle { .. } | Self::TooLarge { .. } => {
                Facts::user("detect_other")
            }
            Self::Extensions => Facts::user("extensions_unsupported"),
        }
    }
}

/// An order whose buildpacks are all at hand, with the system's buildpacks in each group.
#[derive(Debug, Clone)]
pub struct Verified(Vec<Vec<Item>>);

/// One entry of a group, and the composites that it came from.
#[derive(Debug, Clone)]
struct Item {
    entry: GroupEntry,
    parents: Arc<[String]>,
}

/// Looks every buildpack up that the order names directly, before anything is run.
pub fn verify(order: &Order, system: &SystemBuildpacks, library: &Library) -> Result<Verified, OrderError> {
    if !order.order_extensions.is_empty() {
        return Err(OrderError::Extensions);
    }
    let groups: Vec<Vec<Item>> = order
        .order
        .iter()
        .map(|group| items(&with_system(group, system), &[]))
        .collect();
    for item in groups.iter().flatten() {
        library
            .find(&item.entry.id, item.entry.version.as_ref())
            .map_err(OrderError::Named)?;
    }
    Ok(Verified(groups))
}

fn with_system(group: &Group, system: &SystemBuildpacks) -> Vec<GroupEntry> {
    let is_new = |entry: &&GroupEntry| group.group.iter().all(|own| own.id != entry.id);
    let pre = system.pre().iter().filter(is_new);
    let post = system.post().iter().filter(is_new);
    pre.chain(&group.group).chain(post).cloned().collect()
}

fn items(entries: &[GroupEntry], parents: &[String]) -> Vec<Item> {
    let parents: Arc<[String]> = parents.into();
    entries
        .iter()
        .map(|entry| Item {
            entry: entry.clone(),
            parents: Arc::clone(&parents),
        })
        .collect()
}

/// Tries the groups of an order until one fits. `detect` tells what the `bin/detect` of each member came to, in order;
/// it is asked for the same member again and again and must remember its answer. `takes_part` says whether a buildpack
/// is for this execution environment.
pub fn search<E: From<OrderError>>(
    order: &Verified,
    library: &Library,
    takes_part: &dyn Fn(&Buildpack) -> bool,
    detect: &mut Detect<'_, E>,
) -> Result<Search, E> {
    let mut searcher = Searcher {
        library,
        takes_part,
        detect,
        depth: 0,
        tried: 0,
        rejected: Vec::new(),
    };
    let ending = searcher.try_order(&order.0, &[], &[], false)?;
    let rejected = searcher.rejected;
    Ok(match ending {
        Ending::Found { group, plan } => Search::Found {
            group,
            plan,
            rejected,
        },
        Ending::NotFound { errored } => Search::NotFound { errored, rejected },
    })
}

/// Tells what the `bin/detect` of each member came to.
pub type Detect<'a, E> = dyn FnMut(&[Member]) -> Result<Vec<Outcome>, E> + 'a;

enum Ending {
    Found {
        group: Vec<Participant>,
        plan: BuildPlan,
    },
    NotFound {
        errored: bool,
    },
}

struct Searcher<'a, E> {
    library: &'a Library,
    takes_part: &'a dyn Fn(&Buildpack) -> bool,
    detect: &'a mut Detect<'a, E>,
    depth: usize,
    tried: usize,
    rejected: Vec<Rejected>,
}

impl<E: From<OrderError>> Searcher<'_, E> {
    fn try_order(
        &mut self,
        order: &[Vec<Item>],
        done: &[Member],
        next: &[Item],
        optional: bool,
    ) -> Result<Ending, E> {
        let mut any_errored = false;
        for group in order {
            let items: Vec<Item> = group.iter().chain(next).cloned().collect();
            match self.try_group(&items, done)? {
                Ending::NotFound { errored } => any_errored |= errored,
                found @ Ending::Found { .. } => return Ok(found),
            }
        }
        // An optional composite: do without it, as the last choice.
        if optional {
            self.try_group(next, done)
        } else {
            Ok(Ending::NotFound { errored: any_errored })
        }
    }

    fn try_group(&mut self, items: &[Item], done: &[Member]) -> Result<Ending, E> {
        let mut done = done.to_vec();
        for (position, item) in items.iter().enumerate() {
            // The first of an id wins, whatever its version.
            if done
                .iter()
                .any(|member| member.participant.member.id == item.entry.id)
            {
                continue;
            }
            let participant = self.find(item)?;
            if participant.buildpack.descriptor.is_composite() {
                return self.try_composite(&participant, item, &done, &items[position + 1..]);
            }
            if (self.takes_part)(&participant.buildpack) {
                done.push(Member {
                    participant,
                    optional: item.entry.optional,
                });
            }
        }
        self.judge(&done)
    }

    fn find(&self, item: &Item) -> Result<Participant, OrderError> {
        let (version, buildpack) = self
            .library
            .find(&item.entry.id, item.entry.version.as_ref())
            .map_err(|source| match item.parents.last() {
                Some(composite) => OrderError::InComposite {
                    composite: composite.clone(),
                    source,
                },
                None => OrderError::Named(source),
            })?;
        let member = GroupMember {
            id: item.entry.id.clone(),
            version,
            api: buildpack.descriptor.api.to_string(),
            homepage: buildpack.descriptor.buildpack.homepage.clone(),
        };
        Ok(Participant { member, buildpack })
    }

    fn try_composite(
        &mut self,
        composite: &Participant,
        item: &Item,
        done: &[Member],
        next: &[Item],
    ) -> Result<Ending, E> {
        let name = composite.name();
        if item.parents.contains(&name) {
            return Err(OrderError::Cycle {
                composite: name,
                path: item.parents.join(", "),
            }
            .into());
        }
        let parents: Vec<String> = item.parents.iter().cloned().chain([name]).collect();
        let order: Vec<Vec<Item>> = composite
            .buildpack
            .descriptor
            .order
            .iter()
            .map(|group| items(&group.group, &parents))
            .collect();
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(OrderError::TooLarge {
                max: DEPTH_MAX,
                what: "composite buildpacks in one group",
            }
            .into());
        }
        let ending = self.try_order(&order, done, next, item.entry.optional);
        self.depth -= 1;
        ending
    }

    fn judge(&mut self, done: &[Member]) -> Result<Ending, E> {
        self.tried += 1;
        if self.tried > GROUPS_MAX {
            return Err(OrderError::TooLarge {
                max: GROUPS_MAX,
                what: "groups",
            }
            .into());
        }
        let outcomes = (self.detect)(done)?;
        let candidates: Vec<Candidate> = done
            .iter()
            .zip(outcomes)
            .map(|(member, outcome)| Candidate {
                member: member.participant.member.clone(),
                optional: member.optional,
                outcome,
            })
            .collect();
        Ok(match resolve(&candidates) {
            Resolution::Fits { members, plan } => {
                let group = members
                    .iter()
                    .map(|position| done[*position].participant.clone())
                    .collect();
                Ending::Found { group, plan }
            }
            Resolution::DoesNotFit { errored, reasons } => {
                let group = candidates.iter().map(Candidate::name).collect();
                self.rejected.push(Rejected { group, reasons });
                Ending::NotFound { errored }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::buildpack::library::Installed;
    use crate::buildpack::resolve::Verdict;

    /// `A1` is a buildpack; `E1 = A1 F1 | B1` a composite of two groups.
    fn library(lines: &[&str]) -> Library {
        Library::new(lines.iter().map(|line| {
            let (name, groups) = line.split_once('=').unwrap_or((line, ""));
            let (id, version) = name.trim().split_at(1);
            let mut descriptor = format!("api = '0.12'\n[buildpack]\nid = '{id}'\n");
            for group in groups.split('|').filter(|group| !group.is_empty()) {
                descriptor.push_str("[[order]]\n");
                for entry in group.split_whitespace() {
                    let (id, rest) = entry.split_at(1);
                    let (version, optional) = (rest.trim_end_matches('?'), rest.ends_with('?'));
                    writeln!(
                        descriptor,
                        "[[order.group]]\nid='{id}'\nversion='{version}'\noptional={optional}"
                    )
                    .unwrap();
                }
            }
            let directory = format!("/cnb/buildpacks/{id}/{version}").into();
            Installed {
                directory,
                descriptor: descriptor.into_bytes(),
                digest: None,
            }
        }))
    }

    fn order(text: &str) -> Order {
        Order::parse(text).unwrap()
    }

    /// The groups that are tried when none ever fits.
    fn tried(order: &Order, system: &str, library: &Library) -> Result<Vec<String>, OrderError> {
        let verified = verify(order, &SystemBuildpacks::parse(system).unwrap(), library)?;
        let outcome = Outcome {
            verdict: Verdict::Fail,
            reason: String::new(),
        };
        let mut detect = |members: &[Member]| Ok::<_, OrderError>(vec![outcome.clone(); members.len()]);
        let search = search(&verified, library, &|_| true, &mut detect)?;
        let (Search::Found { rejected, .. } | Search::NotFound { rejected, .. }) = search;
        Ok(rejected
            .iter()
            .map(|rejected| rejected.group.join(" ").replace('@', ""))
            .collect())
    }

    const ONE: &str = "[[order]]\n[[order.group]]\nid='E'\nversion='1'\n";

    #[test]
    fn composites_are_opened_depth_first() {
        let library = library(&[
            "E1 = A1 F1 B1",
            "F1 = C1 | G1? | D1",
            "G1 = A2 B2 | C2 D2",
            "A1",
            "A2",
            "B1",
            "B2",
            "C1",
            "C2",
            "D1",
            "D2",
        ]);
        let expected = ["A1 C1 B1", "A1 B2", "A1 C2 D2 B1", "A1 B1", "A1 D1 B1"];
        assert_eq!(tried(&order(ONE), "", &library).unwrap(), expected);
    }

    #[test]
    fn the_systems_buildpacks_surround_each_group() {
        let library = library(&["A1", "B1", "C1"]);
        let system = "[[system.pre.buildpacks]]\nid='A'\nversion='1'\n[[system.pre.buildpacks]]\nid='B'\nversion='1'\n\
            [[system.post.buildpacks]]\nid='C'\nversion='1'\n";
        let order = order("[[order]]\n[[order.group]]\nid='B'\nversion='1'\n");
        assert_eq!(tried(&order, system, &library).unwrap(), ["A1 B1 C1"]);
    }

    #[test]
    fn a_composite_that_contains_itself_is_an_error() {
        let library = library(&["E1 = F1", "F1 = E1"]);
        let error = tried(&order(ONE), "", &library).unwrap_err();
        assert_eq!(
            error.to_string(),
            "composite buildpack E@1 contains itself, by way of E@1, F@1"
        );
        assert_eq!(error.facts().code, "detect_other");
    }

    #[test]
    fn one_composite_may_be_used_twice() {
        let library = library(&["E1 = F1 A1 F1", "F1 = B1", "A1", "B1"]);
        assert_eq!(tried(&order(ONE), "", &library).unwrap(), ["B1 A1"]);
    }

    #[test]
    fn what_is_missing_is_known_at_once_or_when_its_composite_is_opened() {
        let error = tried(&order(ONE), "", &library(&["A1"])).unwrap_err();
        assert_eq!(error.facts().code, "buildpack_missing");
        let error = tried(&order(ONE), "", &library(&["E1 = A1"])).unwrap_err();
        assert_eq!(error.facts().code, "detect_other");
    }

    #[test]
    fn extensions_are_refused_with_a_clear_error() {
        let order = order("[[order-extensions]]\n[[order-extensions.group]]\nid='x'\n");
        let error = tried(&order, "", &library(&[])).unwrap_err();
        assert_eq!(error.facts().code, "extensions_unsupported");
    }

    #[test]
    fn an_order_that_explodes_is_stopped() {
        let groups = vec!["A1"; 150].join(" | ");
        let library = library(&[&format!("E1 = {groups}"), &format!("F1 = {groups}"), "A1"]);
        let order =
            order("[[order]]\n[[order.group]]\nid='E'\nversion='1'\n[[order.group]]\nid='F'\nversion='1'\n");
        assert!(matches!(
            tried(&order, "", &library),
            Err(OrderError::TooLarge { max: GROUPS_MAX, .. })
        ));
    }
}
