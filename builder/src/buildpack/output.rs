//! What one buildpack left behind: layers, `launch.toml`, `build.toml`, `store.toml` and SBOM files.

use std::path::Path;
use std::path::PathBuf;

use packhorse_spec::build_toml::BuildToml;
use packhorse_spec::group_toml::GroupMember;
use packhorse_spec::launch_toml::Launch;
use packhorse_spec::launch_toml::LaunchTomlError;
use packhorse_spec::sbom::LegacyBomBuildpack;
use packhorse_spec::sbom::LegacyBomEntry;
use packhorse_spec::store_toml::Store;

use crate::buildpack::build_plan::UnmetError;
use crate::buildpack::layers::LayerOnDisk;
use crate::buildpack::layers::LayersError;
use crate::buildpack::layers::NAMES_MAX;
use crate::buildpack::layers::read_layers;
use crate::buildpack::layers::read_text;
use crate::buildpack::layers::toml_allowance;
use crate::buildpack::order::Participant;
use crate::buildpack::sbom::SbomError;
use crate::buildpack::sbom::SbomFile;
use crate::buildpack::sbom::sbom_files;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// What a buildpack left.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildpackOutput {
    /// Which buildpack.
    pub member: GroupMember,
    /// Its layers, sorted by name; those for nothing are not among them.
    pub layers: Vec<LayerOnDisk>,
    /// Its `launch.toml`.
    pub launch: Launch,
    /// Its `build.toml`.
    pub build: BuildToml,
    /// Its `store.toml`, if it has one.
    pub store: Option<Store>,
    /// Its SBOM files.
    pub sboms: Vec<SbomFile>,
}

/// What a buildpack left is not what its API allows.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// One of its TOML files, or a layer for nothing.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// Its `launch.toml` is TOML, but says what it may not.
    #[error("cannot understand `{path}`: {}", .source.to_string().trim_end())]
    Launch {
        /// Which file.
        path: String,
        /// Why.
        source: LaunchTomlError,
    },
    /// It leaves unmet what it was not asked for.
    #[error(transparent)]
    Unmet(#[from] UnmetError),
    /// One of its SBOM files.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// An entry of the old bill of materials has a version beside its name.
    #[error("the entry `{name}` of `bom` has a top-level `version`, which belongs into its metadata")]
    BomVersion {
        /// Which.
        name: String,
    },
}

impl From<JobError> for OutputError {
    fn from(error: JobError) -> Self {
        Self::Layers(LayersError::Job(error))
    }
}

/// Reads what a buildpack left in its layers folder, and puts the folders of layers for nothing aside.
pub fn read_output(
    job: &dyn Job,
    participant: &Participant,
    folder: &Path,
) -> Result<BuildpackOutput, OutputError> {
    let id = &participant.member.id;
    let descriptor = &participant.buildpack.descriptor;
    let names = job.list(folder, NAMES_MAX)?;
    let mut allowance = toml_allowance();
    let layers = read_layers(job, id.as_str(), folder, &mut allowance)?;

    let path = folder.join("launch.toml");
    let mut launch = match read_text(job, &path, &mut allowance)? {
        Some(text) => Launch::parse(&text, descriptor.api).map_err(|source| OutputError::Launch {
            path: path.display().to_string(),
            source,
        })?,
        None => Launch::default(),
    };
    let mut read_text = |name: &str| {
        let path = folder.join(name);
        read_text(job, &path, &mut allowance).map(|text| (path, text))
    };
    let mut build = parse_toml(read_text("build.toml")?, BuildToml::parse)?.unwrap_or_default();
    sign_bom(&mut launch.bom, &participant.member)?;
    sign_bom(&mut build.bom, &participant.member)?;
    let store = parse_toml(read_text("store.toml")?, Store::parse)?;
    let sboms = sbom_files(id, folder, &names, &layers, &descriptor.buildpack.sbom_formats)?;
    Ok(BuildpackOutput {
        member: participant.member.clone(),
        layers,
        launch,
        build,
        store,
        sboms,
    })
}

fn parse_toml<T>(
    (path, text): (PathBuf, Option<String>),
    parse: fn(&str) -> Result<T, toml::de::Error>,
) -> Result<Option<T>, LayersError> {
    let refused = |why: toml::de::Error| LayersError::Toml {
        path: path.display().to_string(),
        why: why.to_string().trim_end().to_owned(),
    };
    text.map(|text| parse(&text).map_err(refused)).transpose()
}

fn sign_bom(entries: &mut [LegacyBomEntry], member: &GroupMember) -> Result<(), OutputError> {
    for entry in entries {
        if entry
            .version
            .as_deref()
            .is_some_and(|version| !version.is_empty())
        {
            return Err(OutputError::BomVersion {
                name: entry.name.clone(),
            });
        }
        entry.buildpack = Some(LegacyBomBuildpack {
            id: member.id.to_string(),
            version: member.version.clone(),
        });
    }
    Ok(())
}
