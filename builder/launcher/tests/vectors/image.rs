//! The file system of an image, rebuilt by running the buildpacks of a case, and its launches.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use packhorse_spec::buildpack_toml::BuildpackDescriptor;
use packhorse_spec::layer_toml::LayerDescriptor;
use packhorse_spec::metadata_toml::BuildMetadata;
use tempfile::TempDir;

use crate::case::Build;
use crate::case::Launch;
use crate::recorded::Outcome;
use crate::sandbox::Sandbox;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image, laid out in a scratch folder that goes with it.
pub(crate) struct Image {
    sandbox: Sandbox,
    entrypoint: String,
    environment: BTreeMap<String, String>,
    _scratch: TempDir,
}

impl Image {
    /// Builds what the build built: `/workspace`, `/layers` and `/cnb`.
    pub(crate) fn rebuild(build: &Build) -> Self {
        let scratch = TempDir::new().unwrap();
        let sandbox = Sandbox::new(scratch.path());
        copy(&build.folder.join("app"), &sandbox.workspace);
        let metadata_text = fs::read_to_string(build.expected.join("metadata.toml")).unwrap();
        let metadata = BuildMetadata::parse(&metadata_text).unwrap();
        run_buildpacks(build, &metadata, &sandbox);
        keep_launch_layers(&sandbox.layers);

        fs::create_dir(sandbox.layers.join("config")).unwrap();
        fs::write(sandbox.layers.join("config/metadata.toml"), metadata_text).unwrap();
        install_launcher(&metadata, &sandbox.cnb);

        let config = fs::read_to_string(build.expected.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let texts =
            |key: &str| -> Vec<String> { serde_json::from_value(config["config"][key].clone()).unwrap() };
        let mut environment = variables(&texts("Env"));
        environment.extend([
            ("HOME".into(), "/home/cnb".into()),
            ("HOSTNAME".into(), "vec".into()),
        ]);
        Self {
            sandbox,
            entrypoint: texts("Entrypoint").remove(0),
            environment,
            _scratch: scratch,
        }
    }

    /// Starts the image as a container engine does.
    pub(crate) fn start(&self, launch: &Launch) -> Outcome {
        let mut environment = self.environment.clone();
        environment.extend(launch.environment.clone());
        let mut command = vec![
            launch
                .entrypoint
                .clone()
                .unwrap_or_else(|| self.entrypoint.clone()),
        ];
        command.extend(launch.arguments.clone());
        self.sandbox.run(&environment, &command)
    }
}

/// Runs `bin/detect` and `bin/build` of the buildpacks that took part.
fn run_buildpacks(build: &Build, metadata: &BuildMetadata, sandbox: &Sandbox) {
    let sources = find_buildpacks(&build.folder.join("buildpacks"));
    let mut environment: BTreeMap<String, String> =
        [("PATH".into(), PATH.into()), ("HOME".into(), "/home/cnb".into())].into();
    environment.extend(build.environment.clone());
    for buildpack in &metadata.buildpacks {
        let (id, version) = (buildpack.id.escaped(), &buildpack.version);
        let inside = format!("/cnb/buildpacks/{id}/{version}");
        copy(
            &sources[buildpack.id.as_str()],
            &sandbox.cnb.join("buildpacks").join(&id).join(version),
        );
        fs::create_dir(sandbox.layers.join(&id)).unwrap();
        fs::write(sandbox.temporary.join("plan.toml"), "").unwrap();
        let detect = [
            format!("{inside}/bin/detect"),
            "/platform".into(),
            "/tmp/plan.toml".into(),
        ];
        let build = [
            format!("{inside}/bin/build"),
            format!("/layers/{id}"),
            "/platform".into(),
            "/tmp/plan.toml".into(),
        ];
        for command in [detect.to_vec(), build.to_vec()] {
            let outcome = sandbox.run(&environment, &command);
            assert_eq!(outcome.exit, 0, "{command:?} failed: {outcome:?}");
        }
    }
}

fn find_buildpacks(folder: &Path) -> BTreeMap<String, PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let with_id = paths.map(|path| {
        let descriptor = fs::read_to_string(path.join("buildpack.toml")).unwrap();
        (
            BuildpackDescriptor::parse(&descriptor)
                .unwrap()
                .buildpack
                .id
                .to_string(),
            path,
        )
    });
    with_id.collect()
}

/// Removes what does not become part of an image: all but the folders of launch layers.
fn keep_launch_layers(layers: &Path) {
    for buildpack in fs::read_dir(layers).unwrap().map(|entry| entry.unwrap().path()) {
        for path in fs::read_dir(&buildpack)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if !path.is_dir() {
                continue;
            }
            let descriptor = fs::read_to_string(path.with_extension("toml")).unwrap_or_default();
            if !LayerDescriptor::parse(&descriptor).unwrap().layer_types().launch {
                fs::remove_dir_all(path).unwrap();
            }
        }
    }
}

fn install_launcher(metadata: &BuildMetadata, cnb: &Path) {
    fs::create_dir(cnb.join("lifecycle")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_launcher"), cnb.join("lifecycle/launcher")).unwrap();
    fs::create_dir(cnb.join("process")).unwrap();
    for process in &metadata.processes {
        symlink(
            "/cnb/lifecycle/launcher",
            cnb.join("process").join(&process.process_type),
        )
        .unwrap();
    }
}

fn variables(texts: &[String]) -> BTreeMap<String, String> {
    texts
        .iter()
        .map(|text| text.split_once('=').unwrap())
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
