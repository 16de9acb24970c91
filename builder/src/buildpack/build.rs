//! Runs the buildpacks of a group, one after another, and gathers what they leave (Buildpack spec, "Phase #3: Build").

use packhorse_spec::group_toml::GroupMember;
use packhorse_spec::launch_toml::Label;
use packhorse_spec::launch_toml::Slice;
use packhorse_spec::metadata_toml::Process;
use packhorse_spec::plan_toml::BuildPlan;
use packhorse_spec::store_toml::Store;

use crate::buildpack::bin_build;
use crate::buildpack::build_plan::plan_of;
use crate::buildpack::build_plan::take_met;
use crate::buildpack::env_files::read_env_files;
use crate::buildpack::env_files::values_allowance;
use crate::buildpack::environment::Environment;
use crate::buildpack::environment::NoSuffix;
use crate::buildpack::layers::LayerOnDisk;
use crate::buildpack::layers::LayersError;
use crate::buildpack::layers::NAMES_MAX;
use crate::buildpack::order::Participant;
use crate::buildpack::output::BuildpackOutput;
use crate::buildpack::output::OutputError;
use crate::buildpack::output::read_output;
use crate::buildpack::processes::Processes;
use crate::buildpack::sbom;
use crate::buildpack::sbom::LegacyBoms;
use crate::buildpack::sbom::SbomFile;
use crate::buildpack::setting::Setting;
use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::limit_reached::LimitReached;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// What all buildpacks of a group left.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The buildpacks, in the order in which they built.
    pub group: Vec<GroupMember>,
    /// What of the plan nobody met.
    pub plan: BuildPlan,
    /// One process of each type, sorted by type.
    pub processes: Vec<Process>,
    /// The type of the process that starts when the user names none.
    pub default_process_type: Option<String>,
    /// The labels of all buildpacks, in order.
    pub labels: Vec<Label>,
    /// The slices of all buildpacks, in order.
    pub slices: Vec<Slice>,
    /// The layers of all buildpacks: in the order of the group, within a buildpack by name.
    pub layers: Vec<LayerOnDisk>,
    /// The `store.toml` of each buildpack, in the order of the group.
    pub stores: Vec<Option<Store>>,
    /// The SBOM files that are now in `<layers>/sbom`, beside `sbom.legacy.json`, which is always there.
    pub sboms: Vec<SbomFile>,
}

/// Why a build ended early.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// `bin/build` did not succeed.
    #[error("buildpack {buildpack} failed in its build step: {how}")]
    Failed {
        /// `id@version`.
        buildpack: String,
        /// How it ended.
        how: String,
        /// Its exit code, if it had one.
        exit_code: Option<i32>,
    },
    /// It had used up what it may.
    #[error("buildpack {buildpack} {reached}")]
    OverLimit {
        /// `id@version`.
        buildpack: String,
        /// Which limit, and who used it up.
        reached: LimitReached,
    },
    /// What it left breaks the rules.
    #[error("buildpack {buildpack} left what its API does not allow: {source}")]
    OutputInvalid {
        /// `id@version`.
        buildpack: String,
        /// What.
        source: Box<OutputError>,
    },
    /// The sandbox failed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The build was cancelled.
    #[error("interrupted")]
    Cancelled,
}

impl Failure for BuildError {
    fn facts(&self) -> Facts {
        match self {
            Self::Failed { .. } => Facts::user("buildpack_failed"),
            Self::OverLimit { reached, .. } => reached.facts(),
            Self::OutputInvalid { .. } => Facts::user("build_output_invalid"),
            Self::Job(source) => source.facts(),
            Self::Cancelled => Facts::user("interrupted"),
        }
    }
}

/// Runs the `bin/build` of each buildpack of `group`. `after_buildpack` is called as soon as one is done: its layers are
/// final then, unless a later buildpack reaches into them.
pub fn run_buildpacks(
    job: &dyn Job,
    setting: &Setting,
    group: &[Participant],
    plan: BuildPlan,
    events: &dyn Events,
    cancel: &Cancel,
    after_buildpack: &mut dyn FnMut(&BuildpackOutput),
) -> Result<Built, BuildError> {
    job.remove(&setting.paths.layers.join("sbom"))?;
    let mut gathered = Gathered::default();
    let mut environment = setting.outside.clone();
    let mut plan = plan;
    for participant in group {
        cancel.check().map_err(|_| BuildError::Cancelled)?;
        events.tell(Event::BuildpackStarted {
            buildpack: participant.name(),
        });
        let asked = plan_of(&plan, &participant.member.id);
        bin_build::run(job, setting, participant, &environment, &asked, events)?;
        let output = read_output(job, participant, &setting.paths.layers_of(&participant.member.id))
            .and_then(|output| {
                take_met(&mut plan, &asked, &output.build.unmet)
                    .map(|()| output)
                    .map_err(Into::into)
            })
            .map_err(|source| blame(participant, source))?;
        apply_build_layers(job, &mut environment, &output.layers)
            .map_err(|source| blame(participant, source.into()))?;
        warn(events, participant, &output);
        after_buildpack(&output);
        gathered.add(output);
    }
    sbom::collect(job, &setting.paths.layers, &gathered.sboms, &gathered.boms)?;
    if let Some(text) = gathered.processes.warning() {
        events.tell(Event::Warning { text });
    }
    Ok(gathered.into_built(plan))
}

/// A fault of the sandbox stays one; all else is the buildpack's.
fn blame(participant: &Participant, source: OutputError) -> BuildError {
    match source {
        OutputError::Layers(LayersError::Job(JobError::Cancelled)) => BuildError::Cancelled,
        OutputError::Layers(LayersError::Job(source @ JobError::Ended { .. })) => BuildError::Job(source),
        source => BuildError::OutputInvalid {
            buildpack: participant.name(),
            source: Box::new(source),
        },
    }
}

/// What the layers for the build set for the buildpacks that follow; per layer its folders, `env` and `env.build`.
fn apply_build_layers(
    job: &dyn Job,
    environment: &mut Environment,
    layers: &[LayerOnDisk],
) -> Result<(), JobError> {
    let mut allowance = values_allowance();
    for layer in layers
        .iter()
        .filter(|layer| layer.types.build && layer.has_directory)
    {
        let names: Vec<_> = job
            .list(&layer.directory, NAMES_MAX)?
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        environment.apply_layer_folders(&layer.directory, &names);
        for folder in ["env", "env.build"] {
            environment.apply_files(
                &read_env_files(job, &layer.directory.join(folder), &mut allowance)?,
                NoSuffix::Override,
            );
        }
    }
    Ok(())
}

fn warn(events: &dyn Events, participant: &Participant, output: &BuildpackOutput) {
    let name = participant.name();
    let has_bom = !output.launch.bom.is_empty() || !output.build.bom.is_empty();
    if has_bom && output.sboms.is_empty() {
        let text =
            format!("{name} writes `bom` tables, which nothing reads any more; it should write SBOM files");
        events.tell(Event::Warning { text });
    }
    for process_type in &output.launch.ignored_working_dirs {
        let text = format!(
            "{name} sets `working-dir` of process {process_type}, which its Buildpack API does not have"
        );
        events.tell(Event::Warning { text });
    }
    for layer in output
        .layers
        .iter()
        .filter(|layer| layer.types.cache && !layer.types.launch && !layer.has_directory)
    {
        let text = format!(
            "{name} has the cache layer {} without contents; it is not cached",
            layer.name
        );
        events.tell(Event::Warning { text });
    }
}

#[derive(Default)]
struct Gathered {
    group: Vec<GroupMember>,
    processes: Processes,
    labels: Vec<Label>,
    slices: Vec<Slice>,
    layers: Vec<LayerOnDisk>,
    stores: Vec<Option<Store>>,
    sboms: Vec<SbomFile>,
    boms: LegacyBoms,
}

impl Gathered {
    fn add(&mut self, output: BuildpackOutput) {
        let launch = output.launch;
        self.processes.add(output.member.id.as_str(), launch.processes);
        self.labels.extend(launch.labels);
        self.slices.extend(launch.slices);
        self.boms.launch.extend(launch.bom);
        self.boms.build.extend(output.build.bom);
        self.layers.extend(output.layers);
        self.stores.push(output.store);
        self.sboms.extend(output.sboms);
        self.group.push(output.member);
    }

    fn into_built(self, plan: BuildPlan) -> Built {
        Built {
            group: self.group,
            plan,
            default_process_type: self.processes.default_type().map(str::to_owned),
            processes: self.processes.into_sorted(),
            labels: self.labels,
            slices: self.slices,
            layers: self.layers,
            stores: self.stores,
            sboms: self.sboms,
        }
    }
}
