//! The golden vectors, through the whole program: what the reference lifecycle made of the same apps and buildpacks.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use crate::support::app::Folder;
use crate::support::app::testdata;
use crate::support::home::Machine;
use crate::support::image::Image;
use crate::support::image::RootFilesystem;
use crate::support::image::texts;
use crate::support::launches::Launch;
use crate::support::launches::launches;

#[test]
fn launch_env() {
    Case::new("launch-env").passes();
}

#[test]
fn processes() {
    Case::new("processes").passes();
}

#[test]
fn profile_execd() {
    Case::new("profile-execd").passes();
}

#[test]
fn layer_tree() {
    Case::new("layer-tree").passes();
}

#[test]
fn app_slices() {
    Case::new("app-slices").passes();
}

/// One folder of `testdata/vectors`, copied.
struct Case {
    name: &'static str,
    folder: Folder,
    machine: Machine,
}

impl Case {
    fn new(name: &'static str) -> Self {
        let folder = Folder::fixture(&format!("vectors/{name}"));
        let script = folder.path().join("make-app.sh");
        if script.exists() {
            folder.shell(&format!("cd app && sh {}", script.display()));
            // packhorse takes modes as git does, executable or not; the reference takes them as they are on disk. So
            // what the script does to modes is done in the build.
            let modes = fs::read_to_string(&script).unwrap();
            let modes = modes
                .lines()
                .filter(|line| line.starts_with("chmod "))
                .collect::<Vec<_>>()
                .join("; ");
            folder.shell(&format!("sed -i '1a {modes}' buildpacks/one/bin/build"));
        }
        Self {
            name,
            folder,
            machine: Machine::new(),
        }
    }

    fn passes(&self) {
        let image = self.build();
        let expected: Value = serde_json::from_str(&self.expected("config.json")).unwrap();
        self.same_layers(&image);
        same_configuration(&image, &expected);
        same_labels(&image, &expected);
        let unpacked = image.unpack();
        self.same_metadata(&unpacked);
        self.same_launches(&unpacked);
    }

    fn expected(&self, file: &str) -> String {
        fs::read_to_string(testdata("vectors").join(self.name).join("expected").join(file)).unwrap()
    }

    /// The buildpacks of the order's only group.
    fn buildpacks(&self) -> Vec<PathBuf> {
        let order: toml::Value =
            toml::from_str(&fs::read_to_string(self.folder.path().join("order.toml")).unwrap()).unwrap();
        let orders = order["order"].as_array().unwrap();
        assert_eq!(orders.len(), 1);
        let group = orders[0]["group"].as_array().unwrap();
        let folder = |id: &str| {
            let folders = fs::read_dir(self.folder.path().join("buildpacks"))
                .unwrap()
                .flatten();
            let mut found = folders.filter(|folder| {
                let text = fs::read_to_string(folder.path().join("buildpack.toml")).unwrap();
                toml::from_str::<toml::Value>(&text).unwrap()["buildpack"]["id"].as_str() == Some(id)
            });
            found.next().unwrap().path()
        };
        group
            .iter()
            .map(|member| folder(member["id"].as_str().unwrap()))
            .collect()
    }

    fn layout(&self) -> String {
        format!("oci:{}", self.machine.folder().join("image").display())
    }

    fn build(&self) -> Image {
        let mut build = self.machine.packhorse(&[
            "build",
            &self.folder.path().join("app").display().to_string(),
            "-o",
            &self.layout(),
        ]);
        for buildpack in self.buildpacks() {
            build = build.arg("--buildpack").arg(buildpack);
        }
        build.run().ok();
        Image::read(&self.layout())
    }

    fn same_layers(&self, image: &Image) {
        // Names that are not UTF-8 are written with halves of surrogate pairs, which are no JSON.
        let recorded = self.expected("layers.json").replace("\\udc", "not-unicode-");
        let recorded: Value = serde_json::from_str(&recorded).unwrap();
        let recorded = recorded.as_array().unwrap();
        let base = image.diff_ids().len() - recorded.len();
        for (layer, diff_id) in recorded.iter().zip(&image.diff_ids()[base..]) {
            let what = layer["what"].as_str().unwrap();
            // The launcher is ours, and the configuration names its version.
            if what != "launcher" && what != "config" {
                assert_eq!(
                    layer["diff_id"],
                    json!(diff_id),
                    "{}: {what}\n{}",
                    self.name,
                    listing(image, diff_id)
                );
            }
        }
    }

    fn same_metadata(&self, unpacked: &RootFilesystem) {
        let made = fs::read_to_string(unpacked.path().join("layers/config/metadata.toml")).unwrap();
        let made: toml::Value = toml::from_str(&made).unwrap();
        let recorded: toml::Value = toml::from_str(&self.expected("metadata.toml")).unwrap();
        assert_eq!(made, recorded, "{}", self.name);
    }

    /// Each launch by bubblewrap on what umoci unpacked, and by packhorse where it has words for it.
    fn same_launches(&self, unpacked: &RootFilesystem) {
        let mut all = launches(&self.folder.path(), &testdata("vectors").join(self.name));
        all.retain(|launch| !launch.is_refused_by_the_runtime());
        for launch in &all {
            let variables: Vec<(&str, &str)> = launch
                .environment
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let arguments: Vec<&str> = launch.arguments.iter().map(String::as_str).collect();
            let output = unpacked
                .command(launch.entrypoint.as_deref(), &arguments, &variables)
                .output()
                .unwrap();
            launch.compare(
                "bubblewrap",
                &String::from_utf8_lossy(&output.stdout),
                output.status.code(),
            );
        }
        for launch in &all {
            if let Some(run) = self.with_packhorse(launch, unpacked) {
                launch.compare("packhorse", &run.stdout, run.code);
            }
        }
    }

    /// `packhorse run` can start the image's own entrypoint, or one of its processes.
    fn with_packhorse(&self, launch: &Launch, unpacked: &RootFilesystem) -> Option<crate::support::run::Run> {
        let mut run = self.machine.packhorse(&["run", &self.layout()]);
        if let Some(entrypoint) = &launch.entrypoint {
            let is_process =
                fs::symlink_metadata(unpacked.path().join("cnb/process").join(entrypoint)).is_ok();
            if entrypoint.starts_with('/') || !is_process {
                return None;
            }
            run = run.arg("--process").arg(entrypoint);
        }
        for (name, value) in &launch.environment {
            run = run.arg("--env").arg(format!("{name}={value}"));
        }
        if !launch.arguments.is_empty() {
            run = run.arg("--");
        }
        for argument in &launch.arguments {
            run = run.arg(argument);
        }
        Some(run.run())
    }
}

/// What `tar` says is in a layer of a layout.
fn listing(image: &Image, diff_id: &str) -> String {
    let position = image.diff_ids().iter().position(|one| one == diff_id).unwrap();
    let layout = image.reference.trim_start_matches("oci:");
    let blob = Path::new(layout)
        .join("blobs")
        .join(image.blobs()[position].replace(':', "/"));
    let listed = std::process::Command::new("tar")
        .args(["--numeric-owner", "-tvzf"])
        .arg(blob)
        .output()
        .unwrap();
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

fn same_configuration(image: &Image, expected: &Value) {
    let (made, recorded) = (&image.config["config"], &expected["config"]);
    for field in ["Entrypoint", "Cmd", "User", "WorkingDir"] {
        assert_eq!(made[field], recorded[field], "{field}");
    }
    let mut variables = (texts(&made["Env"]), texts(&recorded["Env"]));
    variables.0.sort();
    variables.1.sort();
    assert_eq!(variables.0, variables.1);
    assert_eq!(image.config["created"], expected["created"]);
    let own = |history: &Value| -> Vec<Value> {
        let entries = history.as_array().unwrap();
        let start = entries.iter().position(|entry| {
            let by = entry["created_by"].as_str().unwrap_or_default();
            by.starts_with("Layer: ") || by == "Software Bill-of-Materials"
        });
        entries[start.unwrap()..].to_vec()
    };
    assert_eq!(own(&image.config["history"]), own(&expected["history"]));
}

fn same_labels(image: &Image, expected: &Value) {
    for (name, recorded) in expected["config"]["Labels"].as_object().unwrap() {
        match expected["labels_decoded"].get(name) {
            Some(decoded) => {
                assert_eq!(
                    comparable(image.json_label(name)),
                    comparable(decoded.clone()),
                    "{name}"
                );
            }
            None => assert_eq!(image.label(name), recorded, "{name}"),
        }
    }
}

/// Without what the vectors' README lets differ.
fn comparable(mut label: Value) -> Value {
    if let Some(label) = label.as_object_mut() {
        for field in ["runImage", "stack", "config"] {
            label.remove(field);
        }
        // In the build metadata and in the lifecycle's.
        label.remove("launcher");
    }
    label
}
