//! Every failure of the buildpack in the words that its user reads: title, where, why, and what to do.

mod project;
mod npm;

use crate::NodejsBuildpackError;
use crate::http::HttpError;
use crate::layers::node::InstallNodeError;
use crate::node_request::Origin;
use crate::registry_url::hide_credentials;
use crate::release::ResolveReleaseError;
use std::error::Error;
use std::fmt;
use std::io;

/// One failure, told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// What failed.
    title: String,
    /// On what.
    place: String,
    why: String,
    /// What to do about it.
    hint: String,
}

impl fmt::Display for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "error: {}", self.title)?;
        writeln!(formatter, "  where: {}", self.place)?;
        writeln!(formatter, "  why: {}", self.why)?;
        write!(formatter, "hint: {}", self.hint)
    }
}

/// The words for `error`.
pub(crate) fn message(error: &libcnb::Error<NodejsBuildpackError>) -> Message {
    match error {
        libcnb::Error::BuildpackError(error) => buildpack_message(error),
        libcnb::Error::LayerError(error) if is_disk_full(error) => disk_full(&error.to_string()),
        other => Message {
            title: "the buildpack could not do its part of the contract with the platform".to_string(),
            place: "a file or variable of the platform".to_string(),
            why: other.to_string(),
            hint: "this is not the app's fault; build again, and report it if it comes back".to_string(),
        },
    }
}

fn buildpack_message(error: &NodejsBuildpackError) -> Message {
    if is_disk_full(error) {
        return disk_full(&error.to_string());
    }
    match error {
        NodejsBuildpackError::ReadProject(error) => project::message(error),
        NodejsBuildpackError::UnsupportedArchitecture(arch) => Message {
            title: format!("there is no Node.js for {}", arch.escape_debug()),
            place: "the target architecture of the image".to_string(),
            why: "Node.js comes from npm packages that exist for amd64 and arm64".to_string(),
            hint: "build for linux/amd64 or linux/arm64".to_string(),
        },
        NodejsBuildpackError::NoCertificates(error) => Message {
            title: "no server can be trusted".to_string(),
            place: "SSL_CERT_FILE, else the certificates of the build image".to_string(),
            why: error.to_string(),
            hint: "install the package `ca-certificates` in the build image, or name a PEM file in SSL_CERT_FILE"
                .to_string(),
        },
        NodejsBuildpackError::ResolveRelease { source, asked, origin, registry } => {
            release_message(source, asked, *origin, registry)
        }
        NodejsBuildpackError::InstallNode(error) => install_message(error),
        NodejsBuildpackError::InstallDependencies { source, lockfile, differences } => {
            npm::install_message(source, *lockfile, differences)
        }
        NodejsBuildpackError::NodeModules(error) => Message {
            title: "the dependencies could not be put in their place".to_string(),
            place: error.path.display().to_string(),
            why: error.to_string(),
            hint: "the folders of the layers and of the app must be writable for the build's user".to_string(),
        },
        NodejsBuildpackError::BuildScript(error) => npm::build_script_message(error),
        NodejsBuildpackError::PruneDevDependencies(error) => npm::prune_message(error),
    }
}

fn release_message(error: &ResolveReleaseError, asked: &str, origin: Origin, registry: &str) -> Message {
    let asked = asked.escape_debug();
    match error {
        ResolveReleaseError::Fetch(error) => registry_message(error),
        ResolveReleaseError::NoNode { nearest } => Message {
            title: format!("there is no Node.js `{asked}`"),
            place: format!("{origin}, which asks for `{asked}`"),
            why: format!(
                "no version at {registry} fits; the nearest are {}",
                nearest.join(", ")
            ),
            hint: match origin {
                Origin::EnginesNode | Origin::EnginesNpm => {
                    r#"ask for a line that exists, such as `"engines": { "node": "24.x" }`"#.to_string()
                }
                Origin::Nvmrc | Origin::NodeVersionFile => {
                    format!("write a version that exists into {origin}, such as `24`")
                }
                Origin::Default => "ask for one of them in `engines.node` in package.json".to_string(),
            },
        },
        ResolveReleaseError::NoNpm { node } => Message {
            title: format!("there is no npm for Node.js {node}"),
            place: "`engines` in package.json".to_string(),
            why: format!("{error} at {registry}"),
            hint: "ask for a newer Node.js, or for another npm in `engines.npm`, or for none".to_string(),
        },
        ResolveReleaseError::Metadata { .. } | ResolveReleaseError::NoIntegrity { .. } => Message {
            title: "the npm registry gave an answer that cannot be used".to_string(),
            place: registry.to_string(),
            why: error.to_string(),
            hint:
                "check NPM_CONFIG_REGISTRY and `registry` in .npmrc; a mirror must serve npm's metadata whole"
                    .to_string(),
        },
    }
}

fn install_message(error: &InstallNodeError) -> Message {
    match error {
        InstallNodeError::Download { source, .. } => registry_message(source),
        InstallNodeError::Integrity {
            package,
            version,
            url,
            listed,
            found,
        } => Message {
            title: format!("the download of {package} {version} is not what was published"),
            place: hide_credentials(url),
            why: format!("its hash is {found}, but the registry lists {listed}; nothing of it was used"),
            hint: "build again; if it comes back, a mirror or proxy on the way changes or mixes up files"
                .to_string(),
        },
        InstallNodeError::Unpack { package, version, .. } => Message {
            title: format!("{package} {version} could not be unpacked"),
            place: "the layer `node`".to_string(),
            why: error.to_string(),
            hint: "build again; if it comes back, ask for another version of Node.js".to_string(),
        },
        InstallNodeError::Write { path, source } => Message {
            title: "Node.js could not be installed".to_string(),
            place: path.display().to_string(),
            why: source.to_string(),
            hint: "the layers folder must be writable for the build's user".to_string(),
        },
    }
}

fn registry_message(error: &HttpError) -> Message {
    let hint = match error {
        HttpError::Proxy(_) => "set it to something like `http://proxy.example:3128`, or unset it",
        HttpError::Status {
            status: 401 | 403, ..
        } => "this buildpack reads public packages only: name a registry or mirror that needs no login",
        HttpError::Status { status: 404, .. } => {
            "check NPM_CONFIG_REGISTRY and `registry` in .npmrc: a mirror must have this package"
        }
        _ => {
            "check that the build may reach the registry: its network policy, https_proxy, SSL_CERT_FILE, and \
             NPM_CONFIG_REGISTRY for a mirror; or try again later"
        }
    };
    Message {
        title: "the npm registry could not be read".to_string(),
        place: "the registry that Node.js and npm come from".to_string(),
        why: error.to_string(),
        hint: hint.to_string(),
    }
}

fn disk_full(why: &str) -> Message {
    Message {
        title: "the disk is full".to_string(),
        place: "the build's layers, app or temporary folder".to_string(),
        why: why.to_string(),
        hint: "give builds more room, or remove what the app does not need".to_string(),
    }
}

fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    chain
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        })
}

#[cfg(test)]
mod tests;
