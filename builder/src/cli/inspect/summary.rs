//! What is in an image, as its manifest, its configuration and its labels tell: for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use packhorse_spec::labels::BUILD_LABEL;
use packhorse_spec::labels::LIFECYCLE_LABEL;
use packhorse_spec::labels::build::BuildLabel;
use packhorse_spec::labels::lifecycle::LifecycleLabel;
use packhorse_spec::metadata_toml::Command;
use serde::Serialize;
use serde_json::Value;

use crate::cli::inspect::image::FoundImage;
use crate::cli::words;
use crate::model::digest::DiffId;
use crate::model::digest::Digest;

/// Where the default process is named: the entrypoint of an image with one.
const PROCESSES: &str = "/cnb/process/";

/// What is in an image. The keys of its JSON are stable.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    name: String,
    digest: Digest,
    created: Option<String>,
    os: String,
    architecture: String,
    /// Bytes of manifest, configuration and layers, as they are stored.
    size: u64,
    base: Base,
    buildpacks: Vec<Buildpack>,
    processes: Vec<Process>,
    layers: Vec<Layer>,
    source: Source,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Base {
    /// As its builder named it.
    image: String,
    reference: String,
    top_layer: String,
    /// `debian 13`.
    distro: String,
    /// The digest of the lock that a built-in base is made of.
    lock: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Buildpack {
    id: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Process {
    #[serde(rename = "type")]
    kind: String,
    command: Vec<String>,
    args: Vec<String>,
    default: bool,
    direct: bool,
    working_directory: String,
    buildpack: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Layer {
    diff_id: DiffId,
    digest: Digest,
    size: u64,
    /// `base`, `app`, `launcher`, `packhorse/nodejs:node`, …
    name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Source {
    remote: Option<String>,
    revision: Option<String>,
}

impl Summary {
    /// Reads an image. Labels that are missing or malformed leave their part empty: any image can be looked at.
    pub(super) fn of(image: &FoundImage) -> Self {
        let config = &image.config;
        let label = |name: &str| config.label(name).map(str::to_owned);
        let build = config
            .label(BUILD_LABEL)
            .and_then(|text| BuildLabel::parse(text).ok())
            .unwrap_or_default();
        let lifecycle = config
            .label(LIFECYCLE_LABEL)
            .and_then(|text| LifecycleLabel::parse(text).ok())
            .unwrap_or_default();
        let parts = [image.descriptor.size, image.manifest.config.size];
        let (os, architecture) = config.platform();
        let distro = [
            label("io.buildpacks.base.distro.name"),
            label("io.buildpacks.base.distro.version"),
        ];
        Self {
            name: image.name.clone(),
            digest: image.descriptor.digest,
            created: config
                .as_json()
                .get("created")
                .and_then(Value::as_str)
                .map(str::to_owned),
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            size: parts
                .into_iter()
                .chain(image.manifest.layers.iter().map(|layer| layer.size))
                .sum(),
            base: Base {
                image: lifecycle.run_image.image.clone(),
                reference: lifecycle.run_image.reference.clone(),
                top_layer: lifecycle.run_image.top_layer.clone(),
                distro: distro.into_iter().flatten().collect::<Vec<_>>().join(" "),
                lock: label("io.packhorse.base.lock"),
            },
            buildpacks: build
                .buildpacks
                .iter()
                .map(|one| Buildpack {
                    id: one.id.clone(),
                    version: one.version.clone(),
                })
                .collect(),
            processes: processes(&build, default_process(config.as_json())),
            layers: layers(image, &lifecycle),
            source: Source {
                remote: label("org.opencontainers.image.source"),
                revision: label("org.opencontainers.image.revision"),
            },
            labels: labels(config.as_json()),
        }
    }

    /// The same for people.
    pub(super) fn text(&self) -> String {
        let mut text = Text::default();
        text.fact("image", &self.name);
        text.fact("digest", &self.digest.to_string());
        text.fact("created", self.created.as_deref().unwrap_or_default());
        text.fact("platform", &format!("{}/{}", self.os, self.architecture));
        text.fact("size", &words::bytes(self.size));
        text.fact("base", &self.base.words());
        let source = self.source.remote.as_deref().unwrap_or_default();
        text.fact("source", source);
        text.fact("revision", self.source.revision.as_deref().unwrap_or_default());
        text.list(
            "buildpacks",
            self.buildpacks
                .iter()
                .map(|one| format!("{} {}", one.id, one.version)),
        );
        text.list("processes", self.processes.iter().map(Process::words));
        text.list("layers", self.layers.iter().map(Layer::words));
        text.0
    }
}

impl Base {
    fn words(&self) -> String {
        let parts = [
            self.image.as_str(),
            self.distro.as_str(),
            self.lock.as_deref().unwrap_or_default(),
        ];
        parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Process {
    fn words(&self) -> String {
        let mark = if self.default { " (default)" } else { "" };
        let words: Vec<&str> = self
            .command
            .iter()
            .chain(&self.args)
            .map(String::as_str)
            .collect();
        format!("{}{mark}: {}", self.kind, words.join(" "))
    }
}

impl Layer {
    fn words(&self) -> String {
        format!(
            "{:>9}  {}  {}",
            words::bytes(self.size),
            &self.diff_id.0.hex()[..12],
            self.name
        )
    }
}

/// Lines under headings; what is empty is left out.
#[derive(Default)]
struct Text(String);

impl Text {
    fn fact(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _infallible = writeln!(self.0, "{name:<9} {value}");
        }
    }

    fn list(&mut self, name: &str, values: impl Iterator<Item = String>) {
        for (position, value) in values.enumerate() {
            if position == 0 {
                self.0.push_str(name);
                self.0.push('\n');
            }
            let _infallible = writeln!(self.0, "  {value}");
        }
    }
}

/// The process that the image starts: the last part of its entrypoint.
fn default_process(config: &serde_json::Map<String, Value>) -> Option<&str> {
    let entrypoint = config.get("config")?.get("Entrypoint")?.get(0)?.as_str()?;
    entrypoint.strip_prefix(PROCESSES)
}

fn processes(build: &BuildLabel, default: Option<&str>) -> Vec<Process> {
    let process = |process: &packhorse_spec::labels::build::ProcessLabel| Process {
        default: default == Some(process.process_type.as_str()),
        kind: process.process_type.clone(),
        command: match &process.command {
            Command::Text(program) => vec![program.clone()],
            Command::List(words) => words.clone(),
        },
        args: process.args.clone().unwrap_or_default(),
        direct: process.direct,
        working_directory: process.working_dir.clone(),
        buildpack: process.buildpack_id.clone(),
    };
    build.processes.iter().map(process).collect()
}

/// Each layer with what the label says that it is; those up to the run image's top layer are the base.
fn layers(image: &FoundImage, label: &LifecycleLabel) -> Vec<Layer> {
    let diff_ids = image.config.diff_ids().unwrap_or_default();
    let names = names(label);
    let top_of_base = diff_ids
        .iter()
        .position(|diff_id| diff_id.to_string() == label.run_image.top_layer);
    let one = |(position, (diff_id, blob)): (usize, (&DiffId, &crate::model::descriptor::Descriptor))| {
        let is_base = top_of_base.is_some_and(|top| position <= top);
        let known = names.get(diff_id.to_string().as_str()).cloned();
        let name = if is_base {
            "base".to_owned()
        } else {
            known.unwrap_or_default()
        };
        Layer {
            diff_id: *diff_id,
            digest: blob.digest,
            size: blob.size,
            name,
        }
    };
    diff_ids
        .iter()
        .zip(&image.manifest.layers)
        .enumerate()
        .map(one)
        .collect()
}

/// Names of layers by the text of their diffIDs.
fn names(label: &LifecycleLabel) -> BTreeMap<&str, String> {
    let mut names = BTreeMap::new();
    for buildpack in &label.buildpacks {
        for (name, layer) in &buildpack.layers {
            names.insert(layer.sha.as_str(), format!("{}:{name}", buildpack.id));
        }
    }
    let slices: Vec<&str> = label.app.diff_ids().collect();
    for (position, slice) in slices.iter().enumerate() {
        let name = if slices.len() == 1 {
            "app".to_owned()
        } else {
            format!("app slice {}", position + 1)
        };
        names.insert(*slice, name);
    }
    for (layer, name) in [
        (&label.config, "config"),
        (&label.launcher, "launcher"),
        (&label.process_types, "process-types"),
    ] {
        names.insert(layer.sha.as_str(), name.to_owned());
    }
    names.extend(
        label
            .sbom
            .iter()
            .map(|layer| (layer.sha.as_str(), "sbom".to_owned())),
    );
    names
}

/// Every label but the long ones of buildpacks, whose content stands above.
fn labels(config: &serde_json::Map<String, Value>) -> BTreeMap<String, String> {
    let all = config
        .get("config")
        .and_then(|config| config.get("Labels"))
        .and_then(Value::as_object);
    let is_short = |name: &str| name != BUILD_LABEL && name != LIFECYCLE_LABEL;
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    all.into_iter()
        .flatten()
        .filter(|(name, _)| is_short(name))
        .filter_map(text)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::descriptor::Descriptor;
    use crate::model::descriptor::LAYER_GZIP;
    use crate::model::descriptor::MANIFEST;
    use crate::oci::config::ImageConfig;
    use crate::oci::manifest::Manifest;
    use crate::oci::manifest::describe;

    fn image() -> FoundImage {
        let layers: Vec<&[u8]> = vec![b"base", b"node", b"app", b"launcher"];
        let diff_id = |content: &[u8]| Digest::of(content).to_string();
        let lifecycle = serde_json::json!({
            "app": [{ "sha": diff_id(b"app") }],
            "buildpacks": [{ "key": "packhorse/nodejs", "version": "0.1.0", "layers": {
                "node": { "sha": diff_id(b"node"), "build": false, "launch": true, "cache": true } } }],
            "config": { "sha": "" },
            "launcher": { "sha": diff_id(b"launcher") },
            "process-types": { "sha": "" },
            "runImage": { "topLayer": diff_id(b"base"), "reference": "", "image": "packhorse/debian:trixie-run" },
        });
        let build = serde_json::json!({
            "buildpacks": [{ "id": "packhorse/nodejs", "version": "0.1.0" }],
            "launcher": {},
            "processes": [
                { "type": "web", "command": ["node"], "args": ["server.js"], "direct": true, "buildpackID": "packhorse/nodejs" },
                { "type": "worker", "command": "./work", "args": null, "direct": false, "buildpackID": "packhorse/nodejs" },
            ],
        });
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "created": "1980-01-01T00:00:01Z",
            "config": { "Entrypoint": ["/cnb/process/web"], "Labels": {
                LIFECYCLE_LABEL: lifecycle.to_string(), BUILD_LABEL: build.to_string(),
                "org.opencontainers.image.source": "https://git.example/shop",
                "io.buildpacks.base.distro.name": "debian", "io.buildpacks.base.distro.version": "13",
            } },
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| diff_id(layer)).collect::<Vec<_>>() },
        });
        let config = ImageConfig::parse(config.to_string().as_bytes()).unwrap();
        let bytes = config.to_bytes();
        let blob = |content: &&[u8]| Descriptor {
            media_type: LAYER_GZIP.to_owned(),
            digest: Digest::of(&[*content, b" blob"].concat()),
            size: 1_500_000,
        };
        let manifest = Manifest::new(&bytes, layers.iter().map(blob));
        FoundImage {
            name: "shop".to_owned(),
            descriptor: describe(MANIFEST, &manifest.to_bytes()),
            manifest,
            config,
        }
    }

    #[test]
    fn a_summary_reads_well() {
        insta::assert_snapshot!(Summary::of(&image()).text());
    }

    #[test]
    fn the_json_has_stable_keys() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&Summary::of(&image())).unwrap());
    }

    #[test]
    fn an_image_that_no_buildpack_made_can_be_looked_at() {
        let config = ImageConfig::empty("linux", "arm64");
        let manifest = Manifest::new(&config.to_bytes(), []);
        let descriptor = describe(MANIFEST, &manifest.to_bytes());
        let summary = Summary::of(&FoundImage {
            name: "plain".to_owned(),
            descriptor,
            manifest,
            config,
        });
        assert_eq!((summary.processes.len(), summary.layers.len()), (0, 0));
        assert!(summary.text().contains("linux/arm64"));
    }
}
