//! Which buildpacks are at hand in the job, and in which order they are asked.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use packhorse_spec::buildpack_toml::BuildpackDescriptor;
use packhorse_spec::order_toml::Group;
use packhorse_spec::order_toml::GroupEntry;
use packhorse_spec::order_toml::Order;
use packhorse_spec::system_toml::SystemBuildpacks;

use crate::buildpack::library::Installed;
use crate::buildpack::library::Library;
use crate::buildpack::library::LibraryError;
use crate::buildpack::order;
use crate::buildpack::order::Verified;
use crate::model::request::BuildRequest;
use crate::phases::detect::DetectError;
use crate::store::embedded::BUILDPACKS;
use crate::store::embedded::Embedded;

/// The largest `buildpack.toml` that is read.
const DESCRIPTOR_BYTES_MAX: u64 = 1 << 20;
/// Where a builder keeps its buildpacks.
const ROOT: &str = "/cnb/buildpacks";

/// The built-in builder's order: Node.js with an optional Procfile, else a Procfile alone.
const BUILT_IN_ORDER: [&[(&str, bool)]; 2] = [
    &[("packhorse/nodejs", false), ("packhorse/procfile", true)],
    &[("packhorse/procfile", false)],
];

/// A buildpack on this machine, and where the job will see it.
pub(super) struct Shelved {
    /// Its folder on this machine.
    pub(super) source: PathBuf,
    /// Whether the user named it; then it is copied, since the job's user may not read where it is.
    pub(super) is_named: bool,
    /// Its folder inside the job, and its `buildpack.toml`.
    pub(super) installed: Installed,
    entry: GroupEntry,
}

/// The buildpacks that the command line names, else the shipped ones.
pub(super) fn shelve(request: &BuildRequest, embedded: &Embedded) -> Result<Vec<Shelved>, DetectError> {
    if request.buildpacks.is_empty() {
        return BUILDPACKS
            .iter()
            .map(|name| shelved(embedded.buildpack(name), false))
            .collect();
    }
    request
        .buildpacks
        .iter()
        .map(|path| shelved(path.clone(), true))
        .collect()
}

fn shelved(source: PathBuf, is_named: bool) -> Result<Shelved, DetectError> {
    let path = source.join("buildpack.toml");
    let invalid = |why: String| LibraryError::Descriptor {
        path: path.display().to_string(),
        why,
    };
    let size = fs::metadata(&path)
        .map_err(|error| invalid(error.to_string()))?
        .len();
    if size > DESCRIPTOR_BYTES_MAX {
        return Err(invalid(format!("it is larger than {DESCRIPTOR_BYTES_MAX} bytes")).into());
    }
    let bytes = fs::read(&path).map_err(|error| invalid(error.to_string()))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| invalid(error.to_string()))?;
    let descriptor = BuildpackDescriptor::parse(text).map_err(|error| invalid(error.to_string()))?;
    let id = descriptor.buildpack.id;
    let version = descriptor
        .buildpack
        .version
        .ok_or_else(|| invalid("it names no version".to_owned()))?;
    let directory = Path::new(ROOT).join(id.escaped()).join(version.to_string());
    let installed = Installed {
        directory,
        descriptor: bytes,
        digest: None,
    };
    Ok(Shelved {
        source,
        is_named,
        installed,
        entry: GroupEntry {
            id,
            version: Some(version),
            optional: false,
        },
    })
}

/// The library of the shelf, and the order in which its buildpacks are asked: those that the user named make one group.
pub(super) fn library_and_order(shelf: &[Shelved]) -> Result<(Library, Verified), DetectError> {
    let library = Library::new(shelf.iter().map(|one| one.installed.clone()));
    let groups = if shelf.iter().any(|one| one.is_named) {
        vec![Group {
            group: shelf.iter().map(|one| one.entry.clone()).collect(),
        }]
    } else {
        BUILT_IN_ORDER
            .iter()
            .map(|group| built_in(group, shelf))
            .collect()
    };
    let order = Order {
        order: groups,
        order_extensions: Vec::new(),
    };
    let verified = order::verify(&order, &SystemBuildpacks::default(), &library)?;
    Ok((library, verified))
}

fn built_in(group: &[(&str, bool)], shelf: &[Shelved]) -> Group {
    let entry = |(id, optional): &(&str, bool)| {
        let shelved = shelf.iter().find(|one| one.entry.id.as_str() == *id)?;
        Some(GroupEntry {
            optional: *optional,
            ..shelved.entry.clone()
        })
    };
    Group {
        group: group.iter().filter_map(entry).collect(),
    }
}
