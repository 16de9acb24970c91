//! The image's configuration, labels and manifest (cnb §5.7, §5.8), over those of the run image.

use std::collections::BTreeMap;

use packhorse_spec::api::PLATFORM_API;
use packhorse_spec::labels::BUILD_LABEL;
use packhorse_spec::labels::EXEC_ENV_LABEL;
use packhorse_spec::labels::LIFECYCLE_LABEL;
use packhorse_spec::labels::PROJECT_LABEL;
use packhorse_spec::labels::build::BuildLabel;
use packhorse_spec::labels::build::LauncherGit;
use packhorse_spec::labels::build::LauncherLabel;
use packhorse_spec::labels::build::LauncherSource;
use packhorse_spec::labels::lifecycle::AppLayers;
use packhorse_spec::labels::lifecycle::LayerSha;
use packhorse_spec::labels::lifecycle::LifecycleLabel;
use packhorse_spec::labels::lifecycle::RunImageLabel;
use packhorse_spec::labels::lifecycle::StackLabel;
use packhorse_spec::labels::lifecycle::StackRunImage;
use packhorse_spec::labels::project::ProjectLabel;
use packhorse_spec::labels::project::ProjectSource;
use serde_json::json;

use crate::buildpack::metadata::build_metadata;
use crate::buildpack::metadata::launch_layers;
use crate::buildpack::order::Participant;
use crate::buildpack::setting::EXEC_ENV_DEFAULT;
use crate::model::descriptor::MANIFEST;
use crate::model::digest::DiffId;
use crate::model::receipt::LayerOutcome;
use crate::oci::config::ImageConfig;
use crate::oci::manifest::Manifest;
use crate::oci::manifest::describe;
use crate::phases::export::ExportError;
use crate::phases::export::fixed;
use crate::phases::export::layers::Layers;
use crate::phases::export::leak;
use crate::phases::handover::Finished;
use crate::phases::handover::Image;
use crate::phases::handover::ImageLayer;
use crate::phases::handover::SourceIdentity;
use crate::phases::handover::Tools;

/// The name of the built-in run image; it is no reference of a registry.
const RUN_IMAGE: &str = "packhorse/debian:trixie-run";

/// Describes the image over its run image, and puts config and manifest into the store.
pub(super) fn assemble(finished: &Finished, layers: Layers, tools: &Tools<'_>) -> Result<Image, ExportError> {
    let run = &finished.plan.sandbox.bases.run;
    let mut config = ImageConfig::parse(run.config.to_string().as_bytes())?;
    config.normalise_base()?;
    config.push_layer(finished.plan.sandbox.bases.layer.diff_id, RUN_IMAGE);
    for layer in &layers.all {
        config.push_layer(layer.descriptor.diff_id, &created_by(&layer.name, finished));
    }
    config.set_created(finished.plan.source.key.created);
    set_environment(&mut config, finished);
    let labels = labels(finished, &layers)?;
    for (name, text) in &labels {
        config.set_label(name, text);
    }

    let base = ImageLayer {
        name: "run image".to_owned(),
        outcome: LayerOutcome::Base,
        descriptor: finished.plan.sandbox.bases.layer.clone(),
    };
    let all: Vec<ImageLayer> = std::iter::once(base).chain(layers.all).collect();
    let config = config.to_bytes();
    leak::check_config(&finished.plan.source.guard, &labels, &config)?;
    let manifest = Manifest::new(&config, all.iter().map(|layer| layer.descriptor.blob.clone()));
    let bytes = manifest.to_bytes();
    let blobs = tools.store.blobs()?;
    blobs.write(&manifest.config, &mut config.as_slice())?;
    Ok(Image {
        descriptor: describe(MANIFEST, &bytes),
        config: manifest.config,
        architecture: run.config["architecture"].as_str().unwrap_or_default().to_owned(),
        layers: all,
        manifest: bytes,
        key: finished.plan.source.key.key(run.lock_digest),
        buildpacks: finished
            .plan
            .detected
            .group
            .iter()
            .map(Participant::name)
            .collect(),
        rung: finished.plan.sandbox.rung.clone(),
        is_settled: finished.plan.sandbox.is_settled,
        next: None,
        _blobs_in_use: blobs.use_all()?,
    })
}

fn set_environment(config: &mut ImageConfig, finished: &Finished) {
    let paths = &finished.plan.setting.paths;
    config.set_env("CNB_LAYERS_DIR", &paths.layers.to_string_lossy());
    config.set_env("CNB_APP_DIR", &paths.app.to_string_lossy());
    config.set_env("CNB_PLATFORM_API", &PLATFORM_API.to_string());
    config.set_env("CNB_DEPRECATION_MODE", "quiet");
    let path = config.env_value("PATH").unwrap_or_default().to_owned();
    config.set_env("PATH", &format!("/cnb/process:/cnb/lifecycle:{path}"));
    config.set_working_directory(&paths.app.to_string_lossy());
    match &finished.built.default_process_type {
        Some(name) => config.set_entrypoint(&[&format!("{}/{name}", fixed::PROCESSES)]),
        None => config.set_entrypoint(&[fixed::LAUNCHER]),
    }
}

/// The words of the reference for a layer's history (cnb §5.2).
fn created_by(name: &str, finished: &Finished) -> String {
    if let Some((buildpack, layer)) = name.split_once(':') {
        let member = finished
            .built
            .group
            .iter()
            .find(|member| member.id.as_str() == buildpack);
        let version = member.map(|member| member.version.as_str()).unwrap_or_default();
        return format!("Layer: '{layer}', Created by buildpack: {buildpack}@{version}");
    }
    match name {
        "sbom" => "Software Bill-of-Materials".to_owned(),
        "app" => "Application Layer".to_owned(),
        "launcher" => "Buildpacks Application Launcher".to_owned(),
        "config" => "Buildpacks Launcher Config".to_owned(),
        "process-types" => "Buildpacks Process Types".to_owned(),
        slice => slice.replacen("app slice", "Application Slice:", 1),
    }
}

/// All labels in the order in which they are set; a later one replaces an earlier one.
fn labels(finished: &Finished, layers: &Layers) -> Result<Vec<(String, String)>, ExportError> {
    let written = |name: &'static str, text: Result<String, serde_json::Error>| match text {
        Ok(text) => Ok((name.to_owned(), text)),
        Err(source) => Err(ExportError::Label { name, source }),
    };
    let source = &finished.plan.source;
    let mut labels = standard_labels(source.key.created, &source.identity);
    labels.push(written(
        LIFECYCLE_LABEL,
        lifecycle_label(finished, layers)?.to_text(),
    )?);
    let build = BuildLabel::new(&build_metadata(&finished.built), launcher_label(), false);
    labels.push(written(BUILD_LABEL, build.and_then(|label| label.to_text()))?);
    labels.push(written(PROJECT_LABEL, project_label(&source.identity).to_text())?);
    labels.extend(
        finished
            .built
            .labels
            .iter()
            .map(|label| (label.key.clone(), label.value.clone())),
    );
    labels.push((EXEC_ENV_LABEL.to_owned(), EXEC_ENV_DEFAULT.to_owned()));
    Ok(labels)
}

/// The labels of the OCI image spec that say where an image comes from.
fn standard_labels(
    created: crate::model::timestamp::Timestamp,
    identity: &SourceIdentity,
) -> Vec<(String, String)> {
    let label = |name: &str, text: &str| (format!("org.opencontainers.image.{name}"), text.to_owned());
    let mut labels = vec![label("created", &created.to_string())];
    labels.extend(identity.remote.as_ref().map(|remote| label("source", remote)));
    labels.extend(
        identity
            .revision
            .as_ref()
            .map(|revision| label("revision", revision)),
    );
    labels
}

fn lifecycle_label(finished: &Finished, layers: &Layers) -> Result<LifecycleLabel, ExportError> {
    let previous = finished.plan.source.previous.as_ref().map(|image| &image.label);
    let sha = |diff_id: DiffId| LayerSha {
        sha: diff_id.to_string(),
    };
    let base_id = finished.plan.sandbox.bases.layer.diff_id.to_string();
    Ok(LifecycleLabel {
        app: AppLayers::List(layers.app.iter().copied().map(sha).collect()),
        sbom: Some(sha(layers.sbom)),
        buildpacks: launch_layers(&finished.built, &layers.digests, previous)?,
        config: sha(layers.config),
        launcher: sha(layers.launcher),
        process_types: layers.process_types.map_or_else(LayerSha::default, sha),
        run_image: RunImageLabel {
            top_layer: base_id.clone(),
            reference: base_id,
            image: RUN_IMAGE.to_owned(),
            mirrors: Vec::new(),
        },
        stack: Some(StackLabel {
            run_image: StackRunImage {
                image: RUN_IMAGE.to_owned(),
                mirrors: Vec::new(),
            },
        }),
    })
}

fn launcher_label() -> LauncherLabel {
    LauncherLabel {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        source: LauncherSource {
            git: LauncherGit {
                repository: "packhorse".to_owned(),
                commit: String::new(),
            },
        },
    }
}

/// Where the source is, in the form that kpack and pack write.
fn project_label(identity: &SourceIdentity) -> ProjectLabel {
    let Some(revision) = &identity.revision else {
        return ProjectLabel::default();
    };
    let mut metadata = BTreeMap::new();
    if let Some(remote) = &identity.remote {
        metadata.insert("repository".to_owned(), json!(remote));
    }
    if let Some(name) = &identity.name {
        metadata.insert("revision".to_owned(), json!(name));
    }
    let version = BTreeMap::from([("commit".to_owned(), json!(revision))]);
    ProjectLabel {
        source: Some(ProjectSource {
            kind: "git".to_owned(),
            version,
            metadata,
        }),
    }
}
