//! Which part of the plan a buildpack gets, and what is left of the plan after it built.

use packhorse_spec::build_toml::Unmet;
use packhorse_spec::identifier::BuildpackId;
use packhorse_spec::plan_toml::BuildPlan;
use packhorse_spec::plan_toml::BuildpackPlan;

/// An entry of `[[unmet]]` that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnmetError {
    /// It has no name.
    #[error("an entry of `unmet` in build.toml has no name")]
    NoName,
    /// The buildpack was not asked for it.
    #[error("`{name}` is `unmet` in build.toml, but the buildpack was not asked for it")]
    NotAsked {
        /// Which.
        name: String,
    },
}

/// What one buildpack is asked for: all that is required under the names that it provides.
pub fn plan_of(plan: &BuildPlan, id: &BuildpackId) -> BuildpackPlan {
    let is_provider = |providers: &[packhorse_spec::plan_toml::Provider]| {
        providers
            .iter()
            .any(|provider| provider.id == *id && !provider.extension)
    };
    let asked = plan.entries.iter().filter(|entry| is_provider(&entry.providers));
    BuildpackPlan {
        entries: asked.flat_map(|entry| entry.requires.clone()).collect(),
    }
}

/// Takes out of the plan what a buildpack was asked for and did not leave unmet.
pub fn take_met(plan: &mut BuildPlan, asked: &BuildpackPlan, unmet: &[Unmet]) -> Result<(), UnmetError> {
    for Unmet { name } in unmet {
        if name.is_empty() {
            return Err(UnmetError::NoName);
        }
        if asked.entries.iter().all(|entry| entry.name != *name) {
            return Err(UnmetError::NotAsked { name: name.clone() });
        }
    }
    let is_met = |name: &str| {
        asked.entries.iter().any(|entry| entry.name == name) && unmet.iter().all(|unmet| unmet.name != name)
    };
    plan.entries
        .retain(|entry| !entry.requires.iter().any(|require| is_met(&require.name)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> BuildPlan {
        let entry = |name: &str| {
            format!(
                "[[entries]]\n[[entries.providers]]\nid='a'\n[[entries.providers]]\nid='b'\n\
                 [[entries.requires]]\nname='{name}'\n[[entries.requires]]\nname='{name}'\n"
            )
        };
        BuildPlan::parse(&(entry("lib") + &entry("tool"))).unwrap()
    }

    fn unmet(name: &str) -> [Unmet; 1] {
        [Unmet {
            name: name.to_owned(),
        }]
    }

    fn names(plan: &BuildPlan, id: &str) -> Vec<String> {
        plan_of(plan, &id.parse().unwrap())
            .entries
            .into_iter()
            .map(|entry| entry.name)
            .collect()
    }

    #[test]
    fn what_is_met_is_gone_and_what_is_not_stays() {
        let mut plan = plan();
        assert_eq!(names(&plan, "a"), ["lib", "lib", "tool", "tool"]);
        assert!(names(&plan, "c").is_empty());
        let asked = plan_of(&plan, &"a".parse().unwrap());
        take_met(&mut plan, &asked, &unmet("lib")).unwrap();
        assert_eq!(names(&plan, "b"), ["lib", "lib"]);
        let asked = plan_of(&plan, &"b".parse().unwrap());
        take_met(&mut plan, &asked, &[]).unwrap();
        assert!(plan.entries.is_empty());
    }

    #[test]
    fn only_what_was_asked_for_can_be_unmet() {
        let mut plan = plan();
        let asked = plan_of(&plan, &"a".parse().unwrap());
        assert_eq!(take_met(&mut plan, &asked, &unmet("")), Err(UnmetError::NoName));
        assert!(
            take_met(&mut plan, &asked, &unmet("other"))
                .unwrap_err()
                .to_string()
                .contains("`other`")
        );
    }
}
