//! `report.toml` and `report.json`: what a build came to, on success and on failure (cnb §5.10 and DESIGN §9).

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use packhorse_spec::report_toml::ImageReport;
use packhorse_spec::report_toml::Report;
use serde::Serialize;

use crate::cli::failure::CommandError;
use crate::cli::plan::rejected_of;
use crate::cli::recorder::Told;
use crate::error::BuildError;
use crate::error::hint::hint;
use crate::model::digest::DiffId;
use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::failure::Kind;
use crate::model::output::Output;
use crate::model::phase::Phase;
use crate::model::receipt::LayerOutcome;
use crate::model::receipt::LayerReceipt;
use crate::model::receipt::Receipt;
use crate::model::refused::Refused;
use crate::model::request::BuildRequest;
use crate::oci::temporary::write_atomically;
use crate::phases::plan_report::RejectedGroup;
use crate::secrets::redaction::Patterns;

/// A report that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report `{}`: {source}", path.display())]
pub struct ReportError {
    path: PathBuf,
    source: io::Error,
}

impl Failure for ReportError {
    fn facts(&self) -> Facts {
        match self.source.kind() {
            io::ErrorKind::StorageFull => Facts::platform("disk_full"),
            _ => Facts::user("report_unwritable"),
        }
    }
}

/// What is known of a build whatever its outcome.
#[derive(Debug, Clone, Default)]
pub struct BeforeTheEnd {
    /// What it told while it ran.
    pub told: Told,
    /// The sandbox rung in force, if it came to that.
    pub rung: Option<String>,
    /// The network policy of the steps.
    pub network: Option<String>,
    /// What to do, where more is known than the failure's code tells.
    pub hint: Option<String>,
}

/// Writes both files into `directory`, which is made if it is missing.
pub fn write(
    directory: &Path,
    request: &BuildRequest,
    outcome: &Result<Receipt, BuildError>,
    before: &BeforeTheEnd,
) -> Result<(), CommandError> {
    let document = match outcome {
        Ok(receipt) => Document::of_success(request, receipt, before),
        Err(error) => {
            let failure = FailureReport::of(error).with_hint(before.hint.clone());
            Document::of_failure(request, failure, rejected_of(error), before)
        }
    };
    write_document(directory, &document, request)
}

/// Writes both files for a build that never began: its tools could not be had.
pub fn write_refusal(
    directory: &Path,
    request: &BuildRequest,
    error: &CommandError,
) -> Result<(), CommandError> {
    let failure = FailureReport::new(error.message.clone(), error.facts, error.exit_code);
    let document = Document::of_failure(request, failure, Vec::new(), &BeforeTheEnd::default());
    write_document(directory, &document, request)
}

fn write_document(directory: &Path, document: &Document, request: &BuildRequest) -> Result<(), CommandError> {
    fs::create_dir_all(directory).map_err(|source| ReportError {
        path: directory.to_owned(),
        source,
    })?;
    for (name, text) in [
        ("report.toml", document.to_toml()),
        ("report.json", document.to_json()),
    ] {
        let path = directory.join(name);
        let text = text
            .map(|text| without_secrets(request, text))
            .map_err(io::Error::other);
        text.and_then(|text| write_atomically(&path, text.as_bytes()))
            .map_err(|source| ReportError { path, source })?;
    }
    Ok(())
}

/// What a buildpack says of itself may have a secret in it.
fn without_secrets(request: &BuildRequest, text: String) -> String {
    match Patterns::of(&request.secrets) {
        Ok(Some(patterns)) => patterns.redact(&text),
        // A build whose secrets cannot be searched for did not begin.
        Ok(None) | Err(_) => text,
    }
}

/// The content of both files; `[image]` goes first in the TOML, as the specification has it.
#[derive(Debug, Serialize)]
struct Document {
    image: Image,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_size: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Rest {
    /// Without user, password and query.
    source: String,
    succeeded: bool,
    unchanged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rung: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    phases: Vec<PhaseTime>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Layer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    group: Vec<Member>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<RejectedGroup>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<Refused>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureReport>,
}

#[derive(Debug, Serialize)]
struct PhaseTime {
    name: Phase,
    seconds: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Layer {
    name: String,
    outcome: LayerOutcome,
    diff_id: DiffId,
    size: u64,
}

#[derive(Debug, Serialize)]
struct Member {
    id: String,
    version: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct FailureReport {
    message: String,
    code: &'static str,
    kind: &'static str,
    temporary: bool,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<Cow<'static, str>>,
}

impl Document {
    fn of_success(request: &BuildRequest, receipt: &Receipt, before: &BeforeTheEnd) -> Self {
        Self {
            image: Image {
                tags: request.outputs.iter().map(saved_name).collect(),
                digest: Some(receipt.digest),
                manifest_size: Some(receipt.manifest_size),
            },
            rest: Rest {
                source: request.source.to_string(),
                succeeded: true,
                unchanged: receipt.unchanged,
                rung: Some(receipt.rung.clone()),
                network: before.network.clone(),
                phases: receipt.phases.iter().map(PhaseTime::of).collect(),
                layers: receipt.layers.iter().map(Layer::of).collect(),
                group: receipt.buildpacks.iter().map(|name| Member::of(name)).collect(),
                rejected: Vec::new(),
                refused: before.told.refused.clone(),
                failure: None,
            },
        }
    }

    fn of_failure(
        request: &BuildRequest,
        failure: FailureReport,
        rejected: Vec<RejectedGroup>,
        before: &BeforeTheEnd,
    ) -> Self {
        let buildpacks = before.told.buildpacks.iter();
        Self {
            image: Image::default(),
            rest: Rest {
                source: request.source.to_string(),
                succeeded: false,
                unchanged: false,
                rung: before.rung.clone(),
                network: before.network.clone(),
                phases: before.told.phases.iter().map(PhaseTime::of).collect(),
                layers: Vec::new(),
                group: buildpacks.map(|name| Member::of(name)).collect(),
                rejected,
                refused: before.told.refused.clone(),
                failure: Some(failure),
            },
        }
    }

    fn to_toml(&self) -> Result<String, String> {
        let image = ImageReport {
            tags: self.image.tags.clone(),
            image_id: None,
            digest: self.image.digest.map(|digest| digest.to_string()),
            manifest_size: self.image.manifest_size.and_then(|size| i64::try_from(size).ok()),
        };
        let other = toml::Table::try_from(&self.rest).map_err(|error| error.to_string())?;
        Ok(Report { image, other }.to_text())
    }

    fn to_json(&self) -> Result<String, String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        Ok(text + "\n")
    }
}

/// What the image is called where it went.
fn saved_name(output: &Output) -> String {
    match output {
        Output::Registry(_) | Output::Layout { .. } => output.to_string(),
        Output::Local(name) => name.clone(),
    }
}

impl PhaseTime {
    fn of((phase, elapsed): &(Phase, std::time::Duration)) -> Self {
        Self {
            name: *phase,
            seconds: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

impl Layer {
    fn of(layer: &LayerReceipt) -> Self {
        Self {
            name: layer.name.clone(),
            outcome: layer.outcome,
            diff_id: layer.diff_id,
            size: layer.size,
        }
    }
}

impl Member {
    fn of(name: &str) -> Self {
        let (id, version) = name.split_once('@').unwrap_or((name, ""));
        Self {
            id: id.to_owned(),
            version: version.to_owned(),
        }
    }
}

impl FailureReport {
    fn of(error: &BuildError) -> Self {
        Self::new(error.to_string(), error.facts(), error.exit_code())
    }

    fn new(message: String, facts: Facts, exit_code: u8) -> Self {
        Self {
            message,
            code: facts.code,
            kind: match facts.kind {
                Kind::User => "user",
                Kind::Platform => "platform",
                Kind::Bug => "bug",
            },
            temporary: facts.temporary,
            exit_code,
            hint: hint(facts.code).map(Cow::Borrowed),
        }
    }

    fn with_hint(self, hint: Option<String>) -> Self {
        Self {
            hint: hint.map(Cow::Owned).or(self.hint),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::buildpack::detect::DetectError as ChoiceError;
    use crate::buildpack::order::Rejected;
    use crate::model::limits::Limits;
    use crate::model::secret::SearchWidth;
    use crate::model::source::SourceSpec;
    use crate::phases::detect::DetectError;

    fn request() -> BuildRequest {
        BuildRequest {
            source: SourceSpec::parse("https://anna:secret@git.example/app.git#main", |_| false).unwrap(),
            submodules: false,
            keep_git: false,
            outputs: vec![
                Output::Registry("registry.example/app:1".parse().unwrap()),
                Output::Local("app".to_owned()),
            ],
            buildpacks: Vec::new(),
            environment: Vec::new(),
            secrets: Vec::new(),
            search_width: SearchWidth::default(),
            force: false,
            created: None,
            limits: Limits::default(),
            report_directory: None,
        }
    }

    fn both(outcome: &Result<Receipt, BuildError>) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a/b");
        write(&directory, &request(), outcome, &before()).unwrap();
        assert_eq!(
            fs::read_dir(&directory).unwrap().count(),
            2,
            "nothing else is left"
        );
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        (read("report.toml"), read("report.json"))
    }

    #[test]
    fn a_success_is_told_in_both_forms() {
        let diff_id = DiffId(Digest::of(b"layer"));
        let receipt = Receipt {
            digest: Digest::of(b"image"),
            manifest_size: 1234,
            outputs: vec!["registry.example/app:1".to_owned()],
            layers: vec![LayerReceipt {
                name: "app".to_owned(),
                outcome: LayerOutcome::Added,
                diff_id,
                size: 7,
            }],
            buildpacks: vec!["packhorse/nodejs@0.1.0".to_owned()],
            rung: "root".to_owned(),
            unchanged: false,
            phases: vec![(Phase::Detect, Duration::from_micros(1_234_567))],
        };
        let (toml_text, json_text) = both(&Ok(receipt));
        insta::assert_snapshot!(toml_text);
        insta::assert_snapshot!(json_text);
        let report = Report::parse(&toml_text).unwrap();
        assert_eq!(report.image.tags, ["registry.example/app:1", "app"]);
        assert_eq!(report.image.manifest_size, Some(1234));
    }

    fn before() -> BeforeTheEnd {
        let told = Told {
            phases: vec![(Phase::Source, std::time::Duration::from_millis(1500))],
            buildpacks: vec!["a@1".to_owned()],
            refused: vec![Refused {
                buildpack: Some("a@1".to_owned()),
                host: Some("db.corp".to_owned()),
                port: Some(5432),
                reason: "it is a private address".to_owned(),
                count: 3,
            }],
        };
        BeforeTheEnd {
            told,
            rung: Some("full".to_owned()),
            network: Some("public".to_owned()),
            hint: Some("allow it".to_owned()),
        }
    }

    #[test]
    fn a_failure_is_told_with_code_cure_and_rejected_groups() {
        let rejected = vec![Rejected {
            group: vec!["a@1".to_owned()],
            reasons: vec!["a@1: no a.lock".to_owned()],
        }];
        let error = BuildError::Detect(DetectError::Choice(ChoiceError::NoneDetected { rejected }));
        let (toml_text, json_text) = both(&Err(error));
        insta::assert_snapshot!(toml_text);
        let json: serde_json::Value = serde_json::from_str(&json_text).unwrap();
        assert_eq!(json["failure"]["exit-code"], 20);
        assert_eq!(json["failure"]["hint"], "allow it");
        assert_eq!(json["refused"][0]["host"], "db.corp");
        assert_eq!(json["refused"][0]["count"], 3);
        assert_eq!(json["rejected"][0]["reasons"][0], "a@1: no a.lock");
        assert!(!toml_text.contains("secret") && !json_text.contains("secret"));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = write(
            Path::new("/proc/none/report"),
            &request(),
            &Err(BuildError::Cancelled(crate::events::Cancelled)),
            &BeforeTheEnd::default(),
        );
        let error = error.unwrap_err();
        assert_eq!(error.facts.code, "report_unwritable");
        assert!(error.message.contains("/proc/none/report"), "{}", error.message);
    }
}
