//! A recorded build or a buildpack of our own, laid into a job and run as far as this module goes.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;

use packhorse_spec::buildpack_toml::BuildpackDescriptor;
use packhorse_spec::buildpack_toml::Distro;
use packhorse_spec::identifier::escape_id;
use packhorse_spec::order_toml::Order;
use packhorse_spec::system_toml::SystemBuildpacks;

use crate::buildpack::build::Built;
use crate::buildpack::build::run_buildpacks;
use crate::buildpack::detect::Detected;
use crate::buildpack::detect::choose_group;
use crate::buildpack::environment::Environment;
use crate::buildpack::library::Library;
use crate::buildpack::metadata::build_metadata;
use crate::buildpack::metadata::write_build_metadata;
use crate::buildpack::order;
use crate::buildpack::paths::Paths;
use crate::buildpack::setting::EXEC_ENV_DEFAULT;
use crate::buildpack::setting::Setting;
use crate::buildpack::target::RunTarget;
use crate::buildpack::tests::job::BwrapJob;
use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::model::failure::Failure;

/// Keeps what a build tells.
#[derive(Default)]
pub(super) struct Heard(pub(super) Mutex<Vec<Event>>);

impl Events for Heard {
    fn tell(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Heard {
    /// All output of buildpacks.
    pub(super) fn output(&self) -> String {
        let heard = self.0.lock().unwrap();
        let texts = heard.iter().filter_map(|event| match event {
            Event::Output { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// All warnings, a line each.
    pub(super) fn warnings(&self) -> String {
        let heard = self.0.lock().unwrap();
        let texts = heard.iter().filter_map(|event| match event {
            Event::Warning { text } => Some(format!("{text}\n")),
            _ => None,
        });
        texts.collect()
    }
}

/// A failure: its stable code, and its words.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl<F: Failure> From<F> for Failed {
    fn from(failure: F) -> Self {
        Self {
            code: failure.facts().code,
            message: failure.to_string(),
        }
    }
}

/// A job with buildpacks, an app and an order in it.
pub(super) struct Fixture {
    pub(super) job: BwrapJob,
    pub(super) paths: Paths,
    pub(super) heard: Heard,
    order: String,
    system: String,
    environment: Vec<(OsString, OsString)>,
}

/// `testdata/` of the workspace.
pub(super) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

impl Fixture {
    /// An empty job.
    pub(super) fn new(job: BwrapJob) -> Self {
        let environment = [
            (
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ),
            ("HOME", "/home/cnb"),
            ("HOSTNAME", "vec"),
        ];
        Self {
            job,
            paths: Paths::default(),
            heard: Heard::default(),
            order: String::new(),
            system: String::new(),
            environment: environment
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec(),
        }
    }

    /// The recorded case in `folder`, with the environment of one of its builds.
    pub(super) fn of_case(folder: &Path, environment: &toml::Table) -> Self {
        let mut fixture = Self::new(BwrapJob::new());
        let case = read_toml(&folder.join("case.toml"));
        for entry in fs::read_dir(folder.join("buildpacks")).unwrap() {
            let entry = entry.unwrap();
            let place = case
                .get("install")
                .and_then(|install| install.get(entry.file_name().to_str().unwrap()))
                .and_then(toml::Value::as_str);
            fixture.install_at(&entry.path(), place);
        }
        for (from, to) in [
            ("app", "workspace"),
            ("platform", "platform"),
            ("build-config", "cnb/build-config"),
        ] {
            if folder.join(from).exists() {
                copy_tree(&folder.join(from), &fixture.job.host(to));
            }
        }
        fixture.order = fs::read_to_string(folder.join("order.toml")).unwrap();
        fixture.system = fs::read_to_string(folder.join("system.toml")).unwrap_or_default();
        for (name, value) in environment {
            fixture
                .environment
                .push((name.into(), value.as_str().unwrap().into()));
        }
        fixture
    }

    /// A job with the buildpacks of `testdata/buildpacks` that are named, in one group.
    pub(super) fn of_buildpacks(job: BwrapJob, names: &[&str]) -> Self {
        let mut fixture = Self::new(job);
        fixture.order = "[[order]]\n".to_owned();
        for name in names {
            let folder = testdata().join("buildpacks").join(name);
            fixture.install_at(&folder, None);
            let descriptor = descriptor_of(&folder);
            let (id, version) = (descriptor.buildpack.id, descriptor.buildpack.version.unwrap());
            writeln!(
                fixture.order,
                "[[order.group]]\nid = '{id}'\nversion = '{version}'"
            )
            .unwrap();
        }
        fixture
    }

    fn install_at(&self, folder: &Path, place: Option<&str>) {
        let place = place.map_or_else(
            || {
                let table = read_toml(&folder.join("buildpack.toml"));
                let text = |key: &str| table["buildpack"][key].as_str().unwrap().to_owned();
                format!("{}/{}", escape_id(&text("id")), text("version"))
            },
            str::to_owned,
        );
        copy_tree(folder, &self.job.host("cnb/buildpacks").join(place));
    }

    /// Runs a case's own preparation in the app's folder.
    pub(super) fn set_up(&self, script: &str) {
        let mut shell = std::process::Command::new("sh");
        let status = shell
            .args(["-c", script])
            .current_dir(self.job.host("workspace"))
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
    }

    /// What steps of this build are told.
    pub(super) fn setting(&self) -> Setting {
        let target = RunTarget {
            os: "linux".into(),
            arch: "amd64".into(),
            variant: String::new(),
            distro: Some(Distro {
                name: "debian".into(),
                version: "13".into(),
            }),
        };
        let exec_env = self
            .environment
            .iter()
            .rev()
            .find(|(name, _)| name == "CNB_EXEC_ENV");
        let exec_env = exec_env
            .map_or(EXEC_ENV_DEFAULT, |(_, value)| value.to_str().unwrap())
            .to_owned();
        let outside = Environment::from_outside(self.environment.clone());
        Setting::read(&self.job, self.paths.clone(), outside, target, exec_env).unwrap()
    }

    /// Detection.
    pub(super) fn detect(&self) -> Result<Detected, Failed> {
        let library = Library::read(&self.job, Path::new("/cnb/buildpacks"))?;
        let order = Order::parse(&self.order).map_err(|why| Failed {
            code: "order_invalid",
            message: why.to_string(),
        })?;
        let system = SystemBuildpacks::parse(&self.system).unwrap();
        let verified = order::verify(&order, &system, &library)?;
        Ok(choose_group(
            &self.job,
            &self.setting(),
            &library,
            &verified,
            &self.heard,
        )?)
    }

    /// The build, with `config/metadata.toml` at its end.
    pub(super) fn build(&self, detected: &Detected) -> Result<Built, Failed> {
        self.build_told_to(detected, &self.heard)
    }

    /// The build, told to somebody.
    pub(super) fn build_told_to(&self, detected: &Detected, events: &dyn Events) -> Result<Built, Failed> {
        let (setting, cancel) = (self.setting(), Cancel::default());
        let mut done = Vec::new();
        let built = run_buildpacks(
            &self.job,
            &setting,
            &detected.group,
            detected.plan.clone(),
            events,
            &cancel,
            &mut |output| done.push(output.member.clone()),
        )?;
        if done != built.group {
            return Err(Failed {
                code: "not_reported",
                message: format!("only {done:?} were reported"),
            });
        }
        write_build_metadata(&self.job, &self.paths, &build_metadata(&built))?;
        Ok(built)
    }
}

/// The exit code that stands for a failure (DESIGN §9).
pub(super) fn exit_code(code: &str) -> i64 {
    match code {
        "order_invalid" | "buildpack_missing" | "buildpack_toml_invalid" => 1,
        "buildpack_api_unsupported" => 12,
        "no_buildpack_detected" => 20,
        "detect_errored" => 21,
        "detect_other" => 22,
        "buildpack_failed" => 51,
        "build_output_invalid" => 52,
        "layer_not_reusable" | "layer_without_contents" | "process_type_invalid" => 62,
        other => panic!("no exit code for {other}"),
    }
}

fn descriptor_of(folder: &Path) -> BuildpackDescriptor {
    BuildpackDescriptor::parse(&fs::read_to_string(folder.join("buildpack.toml")).unwrap()).unwrap()
}

/// A TOML file; empty if it is not there.
pub(super) fn read_toml(path: &Path) -> toml::Table {
    fs::read_to_string(path).unwrap_or_default().parse().unwrap()
}

/// Copies a tree with modes and links; hard links become files of their own.
pub(super) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_tree(&source, &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source).unwrap(), &target).unwrap();
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}
