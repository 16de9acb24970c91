//! `packhorse plan`: detection alone; the chosen group, and for every rejected one why.

use std::fmt::Write as _;

use crate::buildpack::detect::DetectError as ChoiceError;
use crate::cli::arguments::build::PlanArguments;
use crate::cli::arguments::limits::LimitArguments;
use crate::cli::build;
use crate::cli::config::Config;
use crate::cli::failure::CommandError;
use crate::cli::interrupt;
use crate::cli::limits::limits;
use crate::cli::render;
use crate::cli::render::Manner;
use crate::cli::render::Renderer;
use crate::cli::tools;
use crate::cli::tools::Toolbox;
use crate::error::BuildError;
use crate::model::request::BuildRequest;
use crate::model::secret::SearchWidth;
use crate::phases::detect::DetectError;
use crate::phases::plan_report::PlanReport;
use crate::phases::plan_report::Provision;
use crate::phases::plan_report::RejectedGroup;
use crate::phases::plan_report::Requirement;
use crate::phases::plan_report::rejected_groups;
use crate::pipeline::plan_source;

/// Runs the command.
pub fn run(arguments: PlanArguments, config: &Config, manner: Manner) -> Result<u8, CommandError> {
    let as_json = arguments.json;
    let request = request(arguments, config)?;
    let toolbox = Toolbox::open(config, &[], tools::watcher(Renderer::new(manner)))?;
    toolbox.clean_up();
    let outcome = tools::block_on(interrupt::or_ended(
        &toolbox.cancel,
        plan_source(&request, &toolbox.tools()),
    ))?;
    match &outcome {
        Ok(report) if as_json => render::json(report),
        Ok(report) => render::result(&text(report))?,
        // The message has them too, but programs read this.
        Err(error) if as_json && !rejected_of(error).is_empty() => {
            render::json(&PlanReport {
                rejected: rejected_of(error),
                ..PlanReport::default()
            });
        }
        Err(_) => {}
    }
    outcome?;
    Ok(0)
}

/// A build that would have no output; what it built before is of no interest.
fn request(arguments: PlanArguments, config: &Config) -> Result<BuildRequest, CommandError> {
    let environment = build::environment(&arguments.source, config)?;
    Ok(BuildRequest {
        source: build::source(&arguments.source)?,
        submodules: arguments.source.submodules,
        keep_git: false,
        outputs: Vec::new(),
        buildpacks: arguments.source.buildpack,
        environment,
        secrets: Vec::new(),
        search_width: SearchWidth::default(),
        force: true,
        created: None,
        limits: limits(&LimitArguments::default(), &config.file.limits),
        report_directory: None,
    })
}

/// The groups that a failed detection has tried.
pub(super) fn rejected_of(error: &BuildError) -> Vec<RejectedGroup> {
    match error {
        BuildError::Detect(DetectError::Choice(
            ChoiceError::NoneDetected { rejected } | ChoiceError::Errored { rejected },
        )) => rejected_groups(rejected),
        _ => Vec::new(),
    }
}

fn text(report: &PlanReport) -> String {
    let mut text = String::from("buildpacks\n");
    let width = report
        .group
        .iter()
        .map(|chosen| chosen.id.len())
        .max()
        .unwrap_or(0);
    for chosen in &report.group {
        line(&mut text, &format!("  {:<width$}  {}", chosen.id, chosen.version));
    }
    if !report.entries.is_empty() {
        line(&mut text, "plan");
        for entry in &report.entries {
            line(&mut text, &format!("  {}", provision(entry)));
        }
    }
    if !report.rejected.is_empty() {
        line(&mut text, "rejected");
        for rejected in &report.rejected {
            line(&mut text, &format!("  {}", rejected.group.join(" + ")));
            for reason in &rejected.reasons {
                line(&mut text, &format!("    {reason}"));
            }
        }
    }
    text
}

/// `node: provided by packhorse/nodejs@0.1.0; required in version >=20, with build = true`.
fn provision(entry: &Provision) -> String {
    let required: Vec<String> = entry.requires.iter().filter_map(requirement).collect();
    let provided = format!("{}: provided by {}", entry.name, entry.provided_by.join(", "));
    if required.is_empty() {
        provided
    } else {
        format!("{provided}; required {}", required.join("; and "))
    }
}

fn requirement(requirement: &Requirement) -> Option<String> {
    let version = requirement
        .version
        .as_ref()
        .map(|version| format!("in version {version}"));
    let metadata: Vec<String> = requirement
        .metadata
        .iter()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    let metadata = (!metadata.is_empty()).then(|| format!("with {}", metadata.join(", ")));
    let parts: Vec<String> = version.into_iter().chain(metadata).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn line(text: &mut String, content: &str) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buildpack::order::Rejected;
    use crate::phases::plan_report::ChosenBuildpack;

    fn chosen(id: &str, version: &str) -> ChosenBuildpack {
        ChosenBuildpack {
            id: id.to_owned(),
            version: version.to_owned(),
        }
    }

    fn report() -> PlanReport {
        let metadata = toml::Table::from_iter([("build".to_owned(), toml::Value::Boolean(true))]);
        PlanReport {
            group: vec![chosen("packhorse/nodejs", "0.1.0"), chosen("a/b", "1.10.0")],
            entries: vec![Provision {
                name: "node".to_owned(),
                provided_by: vec!["packhorse/nodejs@0.1.0".to_owned()],
                requires: vec![
                    Requirement {
                        version: Some(">=20".to_owned()),
                        metadata,
                    },
                    Requirement {
                        version: None,
                        metadata: toml::Table::new(),
                    },
                ],
            }],
            rejected: vec![RejectedGroup {
                group: vec!["go@1".to_owned(), "procfile@2".to_owned()],
                reasons: vec!["go@1: no go.mod".to_owned()],
            }],
        }
    }

    #[test]
    fn a_plan_reads_well() {
        insta::assert_snapshot!(text(&report()), @r"
        buildpacks
          packhorse/nodejs  0.1.0
          a/b               1.10.0
        plan
          node: provided by packhorse/nodejs@0.1.0; required in version >=20, with build = true
        rejected
          go@1 + procfile@2
            go@1: no go.mod
        ");
    }

    #[test]
    fn the_json_has_stable_keys() {
        insta::assert_snapshot!(serde_json::to_string(&report()).unwrap(), @r#"{"group":[{"id":"packhorse/nodejs","version":"0.1.0"},{"id":"a/b","version":"1.10.0"}],"entries":[{"name":"node","provided_by":["packhorse/nodejs@0.1.0"],"requires":[{"version":">=20","metadata":{"build":true}},{}]}],"rejected":[{"group":["go@1","procfile@2"],"reasons":["go@1: no go.mod"]}]}"#);
    }

    #[test]
    fn a_failed_detection_still_tells_what_it_tried() {
        let rejected = vec![Rejected {
            group: vec!["a@1".to_owned()],
            reasons: vec!["a@1: no".to_owned()],
        }];
        let error = BuildError::Detect(DetectError::Choice(ChoiceError::NoneDetected { rejected }));
        assert_eq!(rejected_of(&error)[0].group, ["a@1"]);
        assert_eq!(CommandError::from(error).exit_code, 20);
    }
}
