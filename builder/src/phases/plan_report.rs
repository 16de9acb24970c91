//! What detection alone comes to: the chosen group, who provides what, and every rejected group with why.

use packhorse_spec::plan_toml::PlanEntry;
use packhorse_spec::plan_toml::Provider;
use packhorse_spec::plan_toml::Require;
use serde::Serialize;

use crate::buildpack::order::Participant;
use crate::buildpack::order::Rejected;
use crate::model::receipt::Receipt;
use crate::phases::handover::Plan;

/// What `plan` shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PlanReport {
    /// The chosen buildpacks, in the order in which they would build; none if no group fits.
    pub group: Vec<ChosenBuildpack>,
    /// What is required and who provides it.
    pub entries: Vec<Provision>,
    /// The groups that were tried before, and why they do not fit.
    pub rejected: Vec<RejectedGroup>,
}

/// A chosen buildpack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChosenBuildpack {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
}

/// One entry of the plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provision {
    /// What is provided: `node`.
    pub name: String,
    /// `id@version` of the buildpacks that provide it; the first of them that wants to uses it up.
    pub provided_by: Vec<String>,
    /// What the buildpacks that require it say about it.
    pub requires: Vec<Requirement>,
}

/// What one buildpack says about an entry that it requires.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Requirement {
    /// The version, if one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Everything else.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub metadata: toml::Table,
}

/// A group that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedGroup {
    /// `id@version` of its buildpacks.
    pub group: Vec<String>,
    /// Why not.
    pub reasons: Vec<String>,
}

impl PlanReport {
    /// The report of a finished detection.
    pub fn of(plan: &Plan) -> Self {
        let detected = &plan.detected;
        Self {
            group: detected.group.iter().map(ChosenBuildpack::of).collect(),
            entries: detected.plan.entries.iter().map(Provision::of).collect(),
            rejected: rejected_groups(&detected.rejected),
        }
    }

    /// What the receipt of a build with the same input still knows of its detection.
    pub fn of_receipt(receipt: &Receipt) -> Self {
        let chosen = |name: &String| {
            let (id, version) = name.split_once('@').unwrap_or((name, ""));
            ChosenBuildpack {
                id: id.to_owned(),
                version: version.to_owned(),
            }
        };
        Self {
            group: receipt.buildpacks.iter().map(chosen).collect(),
            ..Self::default()
        }
    }
}

/// Rejected groups as a report shows them.
pub fn rejected_groups(rejected: &[Rejected]) -> Vec<RejectedGroup> {
    let one = |rejected: &Rejected| RejectedGroup {
        group: rejected.group.clone(),
        reasons: rejected.reasons.clone(),
    };
    rejected.iter().map(one).collect()
}

impl ChosenBuildpack {
    fn of(participant: &Participant) -> Self {
        let member = &participant.member;
        Self {
            id: member.id.to_string(),
            version: member.version.clone(),
        }
    }
}

impl Provision {
    fn of(entry: &PlanEntry) -> Self {
        let named = |provider: &Provider| format!("{}@{}", provider.id, provider.version);
        Self {
            // Every entry has at least one requirement; that is how it came to be.
            name: entry
                .requires
                .first()
                .map(|require| require.name.clone())
                .unwrap_or_default(),
            provided_by: entry.providers.iter().map(named).collect(),
            requires: entry.requires.iter().map(Requirement::of).collect(),
        }
    }
}

impl Requirement {
    fn of(require: &Require) -> Self {
        Self {
            version: require.version.clone(),
            metadata: require.metadata.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_its_providers_and_what_is_required() {
        let text = "[[entries]]\n[[entries.providers]]\nid = \"a/node\"\nversion = \"1.2.3\"\n\
                    [[entries.requires]]\nname = \"node\"\nversion = \">=20\"\n[entries.requires.metadata]\nlaunch = true\n";
        let plan = packhorse_spec::plan_toml::BuildPlan::parse(text).unwrap();
        let provision = Provision::of(&plan.entries[0]);
        assert_eq!(provision.name, "node");
        assert_eq!(provision.provided_by, ["a/node@1.2.3"]);
        assert_eq!(provision.requires[0].version.as_deref(), Some(">=20"));
        assert!(provision.requires[0].metadata.contains_key("launch"));
    }
}
