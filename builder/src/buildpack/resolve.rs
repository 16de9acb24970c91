//! Plan resolution: which buildpacks of a group fit together, and who provides what to whom (Buildpack spec, "Phase #1").

use std::collections::BTreeMap;

use packhorse_spec::group_toml::GroupMember;
use packhorse_spec::plan_toml::BuildPlan;
use packhorse_spec::plan_toml::DetectPlan;
use packhorse_spec::plan_toml::PlanEntry;
use packhorse_spec::plan_toml::PlanSections;
use packhorse_spec::plan_toml::Provider;
use packhorse_spec::plan_toml::Require;

/// The most combinations of alternatives that are tried for one group.
const TRIALS_MAX: usize = 100_000;
/// The most reasons that are kept of one group.
const REASONS_MAX: usize = 10;

/// What `bin/detect` came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It takes part if others provide what it requires.
    Pass(DetectPlan),
    /// It does not fit the source: exit code 100.
    Fail,
    /// It could not tell: another exit code, a broken plan, no program.
    Error,
    /// It was not asked, since it does not run on the run image's system. If it is required that counts as an error.
    WrongTarget,
}

/// What `bin/detect` came to, and why, in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What.
    pub verdict: Verdict,
    /// Why; empty for a pass.
    pub reason: String,
}

/// One buildpack of a group that is tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which buildpack.
    pub member: GroupMember,
    /// Whether the group passes without it.
    pub optional: bool,
    /// What its `bin/detect` came to.
    pub outcome: Outcome,
}

impl Candidate {
    /// `id@version`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.member.id, self.member.version)
    }
}

/// What a group came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// It fits.
    Fits {
        /// The positions of the candidates that take part.
        members: Vec<usize>,
        /// Who provides what, sorted by name.
        plan: BuildPlan,
    },
    /// It does not fit.
    DoesNotFit {
        /// Whether that is because a buildpack could not tell.
        errored: bool,
        /// Why, one sentence each.
        reasons: Vec<String>,
    },
}

/// Resolves the plans of a group.
pub fn resolve(candidates: &[Candidate]) -> Resolution {
    let mut reasons = Vec::new();
    let mut errored = false;
    let mut failed = false;
    let mut passed: Vec<(usize, Vec<PlanSections>)> = Vec::new();
    for (position, candidate) in candidates.iter().enumerate() {
        match &candidate.outcome.verdict {
            Verdict::Pass(plan) => passed.push((position, plan.choices())),
            verdict => {
                errored |=
                    *verdict == Verdict::Error || (*verdict == Verdict::WrongTarget && !candidate.optional);
                failed |= !candidate.optional;
                reasons.push(format!("{}: {}", candidate.name(), candidate.outcome.reason));
            }
        }
    }
    if failed {
        return Resolution::DoesNotFit { errored, reasons };
    }
    let mut trials = Trials {
        candidates,
        passed: &passed,
        count: 0,
        reasons,
    };
    match trials.run() {
        Some((members, plan)) => Resolution::Fits { members, plan },
        None => Resolution::DoesNotFit {
            errored: false,
            reasons: trials.reasons,
        },
    }
}

/// One buildpack in a trial, with one of its choices.
#[derive(Clone, Copy)]
struct Chosen<'a> {
    position: usize,
    sections: &'a PlanSections,
    optional: bool,
}

struct Trials<'a> {
    candidates: &'a [Candidate],
    passed: &'a [(usize, Vec<PlanSections>)],
    count: usize,
    reasons: Vec<String>,
}

impl<'a> Trials<'a> {
    /// Tries the choices of all buildpacks, those of the last one varying fastest; the first that works is taken.
    fn run(&mut self) -> Option<(Vec<usize>, BuildPlan)> {
        let mut choices = vec![0; self.passed.len()];
        loop {
            self.count += 1;
            if self.count > TRIALS_MAX {
                self.note(format!(
                    "there are more than {TRIALS_MAX} combinations of alternatives"
                ));
                return None;
            }
            let trial = self.chosen(&choices);
            if let Some(found) = self.one(trial) {
                return Some(found);
            }
            // The next combination, as a number whose digits are the choices.
            let next = (0..choices.len())
                .rev()
                .find(|digit| choices[*digit] + 1 < self.passed[*digit].1.len())?;
            choices[next] += 1;
            choices[next + 1..].fill(0);
        }
    }

    /// A buildpack is optional only with its last choice: before that, another one could do.
    fn chosen(&self, choices: &[usize]) -> Vec<Chosen<'a>> {
        let passed = self.passed;
        let one = |((position, all), choice): (&'a (usize, Vec<PlanSections>), &usize)| Chosen {
            position: *position,
            sections: &all[*choice],
            optional: self.candidates[*position].optional && choice + 1 == all.len(),
        };
        passed.iter().zip(choices).map(one).collect()
    }

    /// Leaves out optional buildpacks that do not fit until the rest does; none if a required one does not.
    fn one(&mut self, mut trial: Vec<Chosen<'a>>) -> Option<(Vec<usize>, BuildPlan)> {
        loop {
            let dependencies = Dependencies::of(&trial);
            let misfits = dependencies.misfits();
            if misfits.is_empty() {
                break if trial.is_empty() {
                    self.note("no buildpack of the group is left".to_owned());
                    None
                } else {
                    let members = trial.iter().map(|chosen| chosen.position).collect();
                    Some((members, dependencies.into_plan(self.candidates)))
                };
            }
            let mut fails = false;
            for (position, what) in &misfits {
                self.note(format!("{} {what}", self.candidates[*position].name()));
                fails |= trial
                    .iter()
                    .any(|chosen| chosen.position == *position && !chosen.optional);
            }
            if fails {
                return None;
            }
            trial.retain(|chosen| misfits.iter().all(|(position, _)| *position != chosen.position));
        }
    }

    fn note(&mut self, reason: String) {
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// All that a trial provides and requires, by name.
#[derive(Default)]
struct Dependencies(BTreeMap<String, Dependency>);

#[derive(Default)]
struct Dependency {
    providers: Vec<usize>,
    /// Providers for whom nobody has asked since they offered.
    pending: Vec<usize>,
    requires: Vec<Require>,
    /// Those who asked before anybody offered.
    early: Vec<usize>,
}

impl Dependencies {
    fn of(trial: &[Chosen<'_>]) -> Self {
        let mut all = Self::default();
        for chosen in trial {
            // Provides first: a buildpack may require what it provides itself.
            for provide in &chosen.sections.provides {
                all.0
                    .entry(provide.name.clone())
                    .or_default()
                    .pending
                    .push(chosen.position);
            }
            for require in &chosen.sections.requires {
                let dependency = all.0.entry(require.name.clone()).or_default();
                dependency.providers.append(&mut dependency.pending);
                if dependency.providers.is_empty() {
                    dependency.early.push(chosen.position);
                } else {
                    dependency.requires.push(require.clone());
                }
            }
        }
        all
    }

    /// Who requires what nobody before it provides; if nobody does, who provides what nobody after it requires.
    fn misfits(&self) -> Vec<(usize, String)> {
        let requires = self.0.iter().flat_map(|(name, dependency)| {
            dependency
                .early
                .iter()
                .map(move |position| (*position, format!("requires {name}")))
        });
        let provides = self.0.iter().flat_map(|(name, dependency)| {
            dependency
                .pending
                .iter()
                .map(move |position| (*position, format!("provides unused {name}")))
        });
        requires.chain(provides).collect()
    }

    fn into_plan(self, candidates: &[Candidate]) -> BuildPlan {
        let provider = |position: &usize| {
            let member = &candidates[*position].member;
            Provider {
                id: member.id.clone(),
                version: member.version.clone(),
                extension: false,
            }
        };
        let entries = self.0.into_values().map(|dependency| PlanEntry {
            providers: dependency.providers.iter().map(provider).collect(),
            requires: dependency.requires,
        });
        BuildPlan {
            entries: entries.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A? p1,2 r3 | p4`: an optional A that provides 1 and 2 and requires 3, or provides 4. `A! …`: it failed.
    fn candidate(text: &str) -> Candidate {
        let (name, choices) = text.split_once(' ').unwrap_or((text, ""));
        let sections = |choice: &str| {
            let mut sections = PlanSections::default();
            for word in choice.split_whitespace() {
                for name in word[1..].split(',').map(str::to_owned) {
                    match &word[..1] {
                        "p" => sections
                            .provides
                            .push(packhorse_spec::plan_toml::Provide { name }),
                        _ => sections.requires.push(Require {
                            name,
                            ..Require::default()
                        }),
                    }
                }
            }
            sections
        };
        let mut choices = choices.split('|').map(sections);
        let first = choices.next().unwrap();
        let plan = DetectPlan {
            provides: first.provides,
            requires: first.requires,
            or: choices.collect(),
        };
        let failed = name.contains('!');
        Candidate {
            member: GroupMember {
                id: name.trim_end_matches(['?', '!']).parse().unwrap(),
                version: "1".into(),
                api: "0.11".into(),
                homepage: String::new(),
            },
            optional: name.contains('?'),
            outcome: Outcome {
                verdict: if failed {
                    Verdict::Fail
                } else {
                    Verdict::Pass(plan)
                },
                reason: String::new(),
            },
        }
    }

    fn group(texts: &[&str]) -> Vec<Candidate> {
        texts.iter().map(|text| candidate(text)).collect()
    }

    fn fitting(texts: &[&str]) -> (String, BuildPlan) {
        let candidates = group(texts);
        match resolve(&candidates) {
            Resolution::Fits { members, plan } => (
                members
                    .iter()
                    .map(|position| candidates[*position].member.id.as_str())
                    .collect(),
                plan,
            ),
            misfit @ Resolution::DoesNotFit { .. } => panic!("{misfit:?}"),
        }
    }

    fn reasons(texts: &[&str]) -> Vec<String> {
        match resolve(&group(texts)) {
            Resolution::DoesNotFit {
                errored: false,
                reasons,
            } => reasons,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_providers_of_a_name_get_all_its_requires() {
        let (members, plan) = fitting(&["A p1,2 r2", "C p1,2", "D p2 r1,2", "B r1,2"]);
        assert_eq!(members, "ACDB");
        let providers = |entry: usize| {
            plan.entries[entry]
                .providers
                .iter()
                .map(|p| p.id.as_str())
                .collect::<String>()
        };
        assert_eq!((providers(0).as_str(), plan.entries[0].requires.len()), ("AC", 2));
        assert_eq!(
            (providers(1).as_str(), plan.entries[1].requires.len()),
            ("ACD", 3)
        );
    }

    #[test]
    fn a_requirer_needs_a_provider_before_it() {
        assert_eq!(
            reasons(&["A?! p1", "B r1", "C p1 r1"]),
            ["A@1: ", "B@1 requires 1"]
        );
        assert_eq!(reasons(&["A r1", "B p1"])[0], "A@1 requires 1");
    }

    #[test]
    fn a_provider_needs_a_requirer_after_it() {
        let found = reasons(&["A p1 r1", "B p1", "C?! r1"]);
        assert_eq!(found, ["C@1: ", "B@1 provides unused 1"]);
    }

    #[test]
    fn optional_ones_that_do_not_fit_are_left_out() {
        assert_eq!(fitting(&["A? rmissing", "B px rx", "C? pmissing"]).0, "B");
        assert_eq!(
            reasons(&["A? rx", "B? py"]).last().unwrap(),
            "no buildpack of the group is left"
        );
        assert_eq!(fitting(&["A? p1", "B? r1 p2", "C? r2 r3", "D"]).0, "D");
    }

    #[test]
    fn alternatives_are_tried_with_the_last_varying_fastest() {
        let texts = [
            "A? p2m | p1",
            "B? r3m | r1",
            "C p5m r4m | p6 r6",
            "D? p8m r7m | p10m r9m",
        ];
        let candidates = group(&texts);
        let passed: Vec<_> = candidates
            .iter()
            .enumerate()
            .map(|(position, candidate)| match &candidate.outcome.verdict {
                Verdict::Pass(plan) => (position, plan.choices()),
                _ => unreachable!(),
            })
            .collect();
        let mut trials = Trials {
            candidates: &candidates,
            passed: &passed,
            count: 0,
            reasons: Vec::new(),
        };
        assert_eq!(trials.run().unwrap().0, [0, 1, 2]);
        assert_eq!(trials.count, 16);
    }

    #[test]
    fn an_optional_buildpack_is_required_until_its_last_choice() {
        let (members, plan) = fitting(&["A? p1 | p2", "B r2"]);
        assert_eq!((members.as_str(), plan.entries.len()), ("AB", 1));
    }

    #[test]
    fn errors_count_only_where_a_required_one_did_not_pass() {
        let mut candidates = group(&["A", "B?"]);
        candidates[1].outcome.verdict = Verdict::Error;
        assert!(matches!(resolve(&candidates), Resolution::Fits { .. }));
        candidates[0].outcome.verdict = Verdict::Fail;
        assert!(matches!(
            resolve(&candidates),
            Resolution::DoesNotFit { errored: true, .. }
        ));
        candidates[1].outcome.verdict = Verdict::WrongTarget;
        assert!(matches!(
            resolve(&candidates),
            Resolution::DoesNotFit { errored: false, .. }
        ));
        candidates[0].outcome.verdict = Verdict::WrongTarget;
        assert!(matches!(
            resolve(&candidates),
            Resolution::DoesNotFit { errored: true, .. }
        ));
    }

    #[test]
    fn too_many_combinations_are_given_up() {
        let many = |name: &str| format!("{name} {}", vec!["rnone"; 20].join("|"));
        let texts: Vec<String> = ["A", "B", "C", "D", "E"].iter().map(|name| many(name)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert!(reasons(&texts).last().unwrap().contains("100000"));
    }
}
