//! The buildpacks at hand, and how one of them is found.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use packhorse_spec::api::Api;
use packhorse_spec::api::BUILDPACK_APIS;
use packhorse_spec::buildpack_toml::BuildpackDescriptor;
use packhorse_spec::identifier::BuildpackId;
use packhorse_spec::identifier::BuildpackVersion;

use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::sandbox::job::EntryKind;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// The largest `buildpack.toml` that is read.
const DESCRIPTOR_BYTES_MAX: u64 = 1 << 20;
/// The most ids, and the most versions of one id, that are read from a builder.
const BUILDPACKS_MAX: usize = 10_000;

/// A buildpack as it lies in the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its folder inside the job: `/cnb/buildpacks/<id with _ for />/<version>`. Id and version are taken from here,
    /// as the reference does; what `buildpack.toml` says of them counts for nothing.
    pub directory: PathBuf,
    /// The bytes of its `buildpack.toml`.
    pub descriptor: Vec<u8>,
    /// The digest of all that is in it; none where nobody has counted it.
    pub digest: Option<Digest>,
}

/// A buildpack that can be run or, if it is a composite, opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Buildpack {
    /// Its `buildpack.toml`.
    pub descriptor: BuildpackDescriptor,
    /// Its folder inside the job.
    pub directory: PathBuf,
    /// The digest of all that is in it; none where nobody has counted it.
    pub digest: Option<Digest>,
}

/// The buildpacks at hand, by folder names.
#[derive(Debug, Clone, Default)]
pub struct Library(BTreeMap<String, BTreeMap<String, Result<Arc<Buildpack>, LibraryError>>>);

/// A buildpack that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// There is no such buildpack, or not in this version.
    #[error("buildpack {buildpack} is not at hand: {known}")]
    Missing {
        /// `id@version`, or the id.
        buildpack: String,
        /// What there is instead.
        known: String,
    },
    /// It is written for an API that is not supported, or does not say for which.
    #[error("buildpack {buildpack} is written for Buildpack API `{api}`, which is not supported: {} to {} are", BUILDPACK_APIS[0], BUILDPACK_APIS[BUILDPACK_APIS.len() - 1])]
    ApiUnsupported {
        /// `id@version` by its folder.
        buildpack: String,
        /// What it says; empty if nothing.
        api: String,
    },
    /// Its `buildpack.toml` cannot be understood.
    #[error("cannot read `{path}`: {why}")]
    Descriptor {
        /// Which file.
        path: String,
        /// Where and why.
        why: String,
    },
}

impl Failure for LibraryError {
    fn facts(&self) -> Facts {
        Facts::user(match self {
            Self::Missing { .. } => "buildpack_missing",
            Self::ApiUnsupported { .. } => "buildpack_api_unsupported",
            Self::Descriptor { .. } => "buildpack_toml_invalid",
        })
    }
}

impl Library {
    /// A library of `installed`. One that cannot be used is an error only when it is looked up.
    pub fn new(installed: impl IntoIterator<Item = Installed>) -> Self {
        let mut library = Self::default();
        for one in installed {
            let folder = |path: Option<&Path>| {
                path.and_then(Path::file_name)
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            };
            let version = folder(Some(&one.directory));
            let id = folder(one.directory.parent());
            let buildpack = open(one).map(Arc::new);
            library.0.entry(id).or_default().insert(version, buildpack);
        }
        library
    }

    /// A library of all that is below `root` (`/cnb/buildpacks`) in a job.
    pub fn read(job: &dyn Job, root: &Path) -> Result<Self, JobError> {
        let mut installed = Vec::new();
        for id in folders(job, root)? {
            for directory in folders(job, &id)? {
                let descriptor = job.read_file(&directory.join("buildpack.toml"), DESCRIPTOR_BYTES_MAX)?;
                let Some(descriptor) = descriptor else { continue };
                installed.push(Installed {
                    directory,
                    descriptor,
                    digest: None,
                });
            }
        }
        Ok(Self::new(installed))
    }

    /// The buildpack `id` in `version`; without a version there must be exactly one.
    pub fn find(
        &self,
        id: &BuildpackId,
        version: Option<&BuildpackVersion>,
    ) -> Result<(String, Arc<Buildpack>), LibraryError> {
        let missing = |known: String| {
            let version = version.map(|version| format!("@{version}")).unwrap_or_default();
            LibraryError::Missing {
                buildpack: format!("{id}{version}"),
                known,
            }
        };
        let Some(versions) = self.0.get(&id.escaped()) else {
            return Err(missing("the builder has no buildpack of that id".to_owned()));
        };
        let known = || versions.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let (version, buildpack) = match version {
            Some(version) => versions
                .get_key_value(version.as_str())
                .ok_or_else(|| missing(format!("the builder has {}", known())))?,
            None if versions.len() > 1 => {
                return Err(missing(format!(
                    "the order names no version and the builder has {}",
                    known()
                )));
            }
            None => versions.first_key_value().ok_or_else(|| missing(String::new()))?,
        };
        Ok((version.clone(), buildpack.clone()?))
    }
}

fn folders(job: &dyn Job, path: &Path) -> Result<Vec<PathBuf>, JobError> {
    let entries = job.list(path, BUILDPACKS_MAX)?;
    // A builder may hold a link to a folder; what is no folder has no `buildpack.toml`.
    let may_be_folder = |kind| matches!(kind, EntryKind::Directory | EntryKind::Symlink);
    Ok(entries
        .into_iter()
        .filter(|entry| may_be_folder(entry.kind))
        .map(|entry| path.join(entry.name))
        .collect())
}

fn open(installed: Installed) -> Result<Buildpack, LibraryError> {
    let path = installed.directory.join("buildpack.toml").display().to_string();
    let refused = |why: String| LibraryError::Descriptor {
        path: path.clone(),
        why,
    };
    let text = std::str::from_utf8(&installed.descriptor).map_err(|why| refused(why.to_string()))?;
    let table: toml::Table = text
        .parse()
        .map_err(|why: toml::de::Error| refused(why.to_string()))?;
    // Looked at before all else: a buildpack of another API may have another form.
    let api = table.get("api").and_then(toml::Value::as_str).unwrap_or_default();
    if !api.parse().is_ok_and(Api::is_supported_buildpack_api) {
        let buildpack = name_of(&installed.directory);
        return Err(LibraryError::ApiUnsupported {
            buildpack,
            api: api.to_owned(),
        });
    }
    let descriptor = BuildpackDescriptor::parse(text).map_err(|why| refused(why.to_string()))?;
    Ok(Buildpack {
        descriptor,
        directory: installed.directory,
        digest: installed.digest,
    })
}

/// `id@version` of the last two parts of a folder, with `_` where the id has `/`.
fn name_of(directory: &Path) -> String {
    let part = |path: Option<&Path>| {
        path.and_then(Path::file_name)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    format!("{}@{}", part(directory.parent()), part(Some(directory)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(installed: &[(&str, &str)]) -> Library {
        Library::new(installed.iter().map(|(place, descriptor)| Installed {
            directory: Path::new("/cnb/buildpacks").join(place),
            descriptor: descriptor.as_bytes().to_vec(),
            digest: None,
        }))
    }

    fn code(library: &Library, id: &str, version: Option<&str>) -> &'static str {
        let version = version.map(|version| version.parse().unwrap());
        match library.find(&id.parse().unwrap(), version.as_ref()) {
            Ok(_) => "found",
            Err(why) => why.facts().code,
        }
    }

    const FINE: &str = "api = '0.11'\n[buildpack]\nid = 'x/a'\nversion = '1'\n";

    #[test]
    fn buildpacks_are_found_by_their_folder() {
        let library = library(&[("x_a/1", FINE), ("x_a/2", FINE), ("b/7", FINE)]);
        assert_eq!(code(&library, "x/a", Some("2")), "found");
        assert_eq!(code(&library, "x/a", Some("3")), "buildpack_missing");
        assert_eq!(code(&library, "x/a", None), "buildpack_missing");
        assert_eq!(code(&library, "c", Some("1")), "buildpack_missing");
        assert_eq!(library.find(&"b".parse().unwrap(), None).unwrap().0, "7");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let library = library(&[
            ("a/1", "[buildpack]\nid = 'a'\n"),
            ("b/1", "api = '0.6'\n[buildpack]\nid = 'b'\n"),
            ("c/1", "api = = 1"),
            ("d/1", "api = '0.10'\n[buildpack]\nid = 1\n"),
            ("e/1", "api = '0.13'\nform = 'unknown'\n"),
        ]);
        assert_eq!(code(&library, "a", None), "buildpack_api_unsupported");
        assert_eq!(code(&library, "b", None), "buildpack_api_unsupported");
        assert_eq!(code(&library, "c", None), "buildpack_toml_invalid");
        assert_eq!(code(&library, "d", None), "buildpack_toml_invalid");
        let error = library.find(&"e".parse().unwrap(), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "buildpack e@1 is written for Buildpack API `0.13`, which is not supported: 0.7 to 0.12 are"
        );
    }
}
