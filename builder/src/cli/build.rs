//! `packhorse build`: the engine, in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::cli::arguments::build::BuildArguments;
use crate::cli::arguments::build::SourceArguments;
use crate::cli::config::Config;
use crate::cli::failure::CommandError;
use crate::cli::interrupt;
use crate::cli::limits::limits;
use crate::cli::recorder::Recorder;
use crate::cli::render;
use crate::cli::render::Manner;
use crate::cli::render::Renderer;
use crate::cli::report;
use crate::cli::secrets;
use crate::cli::shell;
use crate::cli::shell::SHELL_TIMEOUT;
use crate::cli::shell::Shell;
use crate::cli::tools;
use crate::cli::tools::Toolbox;
use crate::cli::words;
use crate::error::BuildError;
use crate::model::limits::Limits;
use crate::model::output::outputs_of;
use crate::model::reference::ImageReference;
use crate::model::refused;
use crate::model::request::BuildRequest;
use crate::model::secret::SearchWidth;
use crate::model::source::SourceSpec;
use crate::model::timestamp::Timestamp;
use crate::pipeline::build_image;
use crate::secrets::redaction::Patterns;

/// Runs the command.
pub fn run(arguments: BuildArguments, config: &Config, manner: Manner) -> Result<u8, CommandError> {
    let started = Instant::now();
    let with_shell = arguments.shell_on_failure;
    if let Some(obstacle) = shell::obstacle(manner).filter(|_| with_shell) {
        return Err(CommandError::usage(obstacle));
    }
    let insecure = arguments.insecure_registry.clone();
    let config = &config.with_network(&arguments.network);
    let request = request(arguments, config)?;
    let patterns = Patterns::of(&request.secrets)?;
    let recorder = Arc::new(Recorder::new(Renderer::new(manner)));
    let mut toolbox = Toolbox::open(config, &insecure, recorder.clone())
        .inspect_err(|error| report_refusal(&request, error))?;
    if with_shell {
        let (_, terminal) = config.build_variable("TERM")?;
        toolbox.visitor = Some(Arc::new(Shell::new(recorder.clone(), terminal)));
    }
    toolbox.clean_up();
    let outcome = tools::block_on(interrupt::or_ended(
        &toolbox.cancel,
        build_image(&request, &toolbox.tools()),
    ))?;
    let before = before_the_end(&recorder, &toolbox, outcome.as_ref().err());
    let reported = match &request.report_directory {
        Some(directory) => report::write(directory, &request, &outcome, &before),
        None => Ok(()),
    };
    // The build's own failure is the one to tell, and a digest is told whatever became of the report.
    let receipt = outcome.map_err(|error| {
        without_secrets(
            CommandError::from(error).with_hint(before.hint),
            patterns.as_ref(),
        )
    })?;
    match manner {
        Manner::Quiet => render::result(&receipt.digest.to_string())?,
        Manner::Json => render::json(
            &serde_json::json!({ "event": "succeeded", "receipt": receipt, "unchanged": receipt.unchanged }),
        ),
        Manner::Plain | Manner::Terminal => render::result(&words::summary(&receipt, started.elapsed()))?,
    }
    reported.map(|()| 0)
}

/// A message may quote what a buildpack has written.
fn without_secrets(mut error: CommandError, patterns: Option<&Arc<Patterns>>) -> CommandError {
    if let Some(patterns) = patterns {
        error.message = patterns.redact(&error.message);
    }
    error
}

/// The build's own failure is the one to tell, whatever becomes of the report.
fn report_refusal(request: &BuildRequest, error: &CommandError) {
    let directory = request.report_directory.as_ref();
    let reported = directory.map_or(Ok(()), |directory| {
        report::write_refusal(directory, request, error)
    });
    if let Err(unwritten) = reported {
        tracing::warn!(unwritten.message, "no report");
    }
}

/// What a report of a failure can still say.
fn before_the_end(
    recorder: &Recorder<Renderer>,
    toolbox: &Toolbox,
    error: Option<&BuildError>,
) -> report::BeforeTheEnd {
    let told = recorder.told();
    report::BeforeTheEnd {
        hint: error
            .and_then(BuildError::failed_buildpack)
            .and_then(|buildpack| refused::hint(&told.refused, buildpack)),
        told,
        rung: Some(toolbox.builder.ground.words()),
        network: Some(toolbox.builder.network.to_string()),
    }
}

fn request(arguments: BuildArguments, config: &Config) -> Result<BuildRequest, CommandError> {
    let source = source(&arguments.source)?;
    let tags = arguments
        .tag
        .iter()
        .map(|tag| tag.parse())
        .collect::<Result<Vec<ImageReference>, _>>()?;
    let outputs = outputs_of(&arguments.output, &tags, &local_name(&source))?;
    Ok(BuildRequest {
        outputs,
        submodules: arguments.source.submodules,
        keep_git: arguments.keep_git,
        buildpacks: arguments.source.buildpack.clone(),
        environment: environment(&arguments.source, config)?,
        secrets: secrets::read(&arguments, config)?,
        search_width: if arguments.check_secrets {
            SearchWidth::Kept
        } else {
            SearchWidth::Leaving
        },
        force: arguments.force,
        created: arguments.creation_time.map(Timestamp),
        limits: Limits {
            visit_timeout: if arguments.shell_on_failure {
                SHELL_TIMEOUT
            } else {
                Duration::ZERO
            },
            ..limits(&arguments.limits, &config.file.limits)
        },
        report_directory: arguments.report_output_dir,
        source,
    })
}

/// What the first argument means.
pub(super) fn source(arguments: &SourceArguments) -> Result<SourceSpec, CommandError> {
    Ok(SourceSpec::parse(&arguments.source, |path| {
        Path::new(path).exists()
    })?)
}

/// The variables of `--env`; a later one of the same name wins.
pub(super) fn environment(
    arguments: &SourceArguments,
    config: &Config,
) -> Result<Vec<(String, String)>, CommandError> {
    let mut environment: Vec<(String, String)> = Vec::new();
    for text in &arguments.env {
        let (name, value) = config.build_variable(text)?;
        environment.retain(|(known, _)| *known != name);
        environment.push((name, value));
    }
    environment.sort();
    Ok(environment)
}

/// The app's name in the local store: the last part of the path or of the URL.
fn local_name(source: &SourceSpec) -> String {
    let path = match source {
        SourceSpec::Directory { path, subdirectory } => {
            let folder = subdirectory
                .as_ref()
                .map_or_else(|| path.clone(), |below| path.join(below));
            folder
                .canonicalize()
                .unwrap_or(folder)
                .to_string_lossy()
                .into_owned()
        }
        SourceSpec::Git(url) => url
            .subdirectory
            .clone()
            .unwrap_or_else(|| url.location.path().to_owned()),
    };
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = last.strip_suffix(".git").unwrap_or(last);
    if name.is_empty() {
        "app".to_owned()
    } else {
        name.to_owned()
    }
}
