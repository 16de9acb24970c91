//! The layer with Node.js and npm: for the build, for launch, and kept from build to build.

use crate::NodejsBuildpack;
use crate::NodejsBuildpackError;
use crate::http::HttpClient;
use crate::http::HttpError;
use crate::integrity::Integrity;
use crate::layers::node_headers::NodeHeadersMetadata;
use crate::layers::node_headers::restore_node_headers;
use crate::node_choice::NodeChoice;
use crate::node_choice::NodeVersions;
use crate::output;
use crate::project::Project;
use crate::release::Package;
use crate::release::Release;
use crate::unpack::UnpackError;
use crate::unpack::UnpackLimits;
use crate::unpack::make_folders;
use crate::unpack::unpack_package;
use libcnb::build::BuildContext;
use libcnb::data::layer_name;
use libcnb::layer::CachedLayerDefinition;
use libcnb::layer::InvalidMetadataAction;
use libcnb::layer::LayerState;
use libcnb::layer::RestoredLayerAction;
use libcnb::layer_env::LayerEnv;
use libcnb::layer_env::ModificationBehavior;
use libcnb::layer_env::Scope;
use serde::Deserialize;
use serde::Serialize;
use std::cell::OnceCell;
use std::io;
use std::io::Seek;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

/// Raised when this file lays the same packages down in another way.
const LAYOUT: &str = "2";
/// Where npm is in the layer; `npm install --global` would put it there too.
const NPM_FOLDER: &str = "lib/node_modules/npm";

const TARBALL_BYTES_MAX: u64 = 256 * 1024 * 1024;
const UNPACK_LIMITS: UnpackLimits = UnpackLimits {
    entries_max: 50_000,
    size_bytes_max: 1024 * 1024 * 1024,
};

/// What the layer was made from.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NodeLayerMetadata {
    arch: String,
    layout: String,
    choice: NodeChoice,
}

/// Node.js and npm, ready to run.
pub(crate) struct NodeInstallation {
    pub(crate) layer: PathBuf,
    /// The folder that has the headers, for node-gyp.
    pub(crate) headers: PathBuf,
    pub(crate) env: LayerEnv,
    pub(crate) versions: NodeVersions,
}

/// What the registry said, and how to ask it more.
pub(crate) struct RegistryAnswer {
    pub(crate) client: HttpClient,
    pub(crate) release: Release,
}

/// The layer could not be filled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallNodeError {
    #[error("cannot download `{package}` {version}: {source}")]
    Download {
        package: &'static str,
        version: String,
        source: HttpError,
    },
    #[error("`{package}` {version} has the hash {found}, but the registry lists {listed}")]
    Integrity {
        package: &'static str,
        version: String,
        url: String,
        listed: Integrity,
        found: Integrity,
    },
    #[error("cannot unpack `{package}` {version}: {source}")]
    Unpack {
        package: &'static str,
        version: String,
        source: UnpackError,
    },
    #[error("cannot write `{path}`: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// Makes the layers of Node.js, or keeps the restored ones; `ask_registry` is called only where what was restored does
/// not settle which versions to use.
pub(crate) fn install_node(
    context: &BuildContext<NodejsBuildpack>,
    project: &Project,
    ask_registry: &dyn Fn() -> Result<RegistryAnswer, NodejsBuildpackError>,
) -> libcnb::Result<NodeInstallation, NodejsBuildpackError> {
    let answer = OnceCell::new();
    let ask_once = || match answer.get() {
        Some(answer) => Ok(answer),
        None => ask_registry().map(|fresh| answer.get_or_init(|| fresh)),
    };
    let headers = restore_node_headers(context)?;
    let layer = context.cached_layer(
        layer_name!("node"),
        CachedLayerDefinition {
            build: true,
            launch: true,
            invalid_metadata_action: &|_| InvalidMetadataAction::DeleteLayer,
            restored_layer_action: &|cached: &NodeLayerMetadata, path| {
                let is_whole = cached.arch == context.target.arch
                    && cached.layout == LAYOUT
                    && path.join("bin/node").is_file()
                    && headers.are_of(&headers_metadata(&cached.choice.node_version, context));
                judge_restored(cached, is_whole, project, &ask_once)
            },
        },
    )?;
    let versions = match &layer.state {
        LayerState::Restored { cause: versions } => {
            report_kept(versions, project, answer.get().is_some());
            versions.clone()
        }
        LayerState::Empty { .. } => {
            let RegistryAnswer { client, release } = ask_once()?;
            output::header("Installing Node.js");
            fill_layer(client, release, &layer.path()).map_err(NodejsBuildpackError::InstallNode)?;
            let node_version = release.node.version.to_string();
            headers.take_from(&layer.path(), headers_metadata(&node_version, context))?;
            layer.write_env(launch_env())?;
            release.versions()
        }
    };
    // Also for a layer that was kept: the request or the table may be another by now.
    if answer.get().is_some() {
        layer.write_metadata(NodeLayerMetadata {
            arch: context.target.arch.clone(),
            layout: LAYOUT.to_string(),
            choice: NodeChoice::new(&versions, project),
        })?;
    }
    Ok(NodeInstallation {
        layer: layer.path(),
        headers: headers.path(),
        env: layer.read_env()?,
        versions,
    })
}

/// Keeps a whole layer if its versions are settled, or else if the registry would give the same ones.
fn judge_restored<'a>(
    cached: &NodeLayerMetadata,
    is_whole: bool,
    project: &Project,
    ask_once: &dyn Fn() -> Result<&'a RegistryAnswer, NodejsBuildpackError>,
) -> Result<(RestoredLayerAction, NodeVersions), NodejsBuildpackError> {
    if let Some(versions) = cached.choice.settled(project).filter(|_| is_whole) {
        return Ok((RestoredLayerAction::KeepLayer, versions));
    }
    let versions = ask_once()?.release.versions();
    let is_same = versions.node.to_string() == cached.choice.node_version
        && versions.npm.to_string() == cached.choice.npm_version;
    let action = if is_whole && is_same {
        RestoredLayerAction::KeepLayer
    } else {
        RestoredLayerAction::DeleteLayer
    };
    Ok((action, versions))
}

fn report_kept(versions: &NodeVersions, project: &Project, was_asked: bool) {
    if was_asked {
        output::line("Kept from the last build");
        return;
    }
    let NodeVersions { node, npm } = versions;
    let asked = project.node.text.escape_debug();
    output::line(&format!(
        "Node.js {node} and npm {npm} kept from the last build for `{asked}` ({}); the registry was not asked",
        project.node.origin
    ));
}

fn headers_metadata(node_version: &str, context: &BuildContext<NodejsBuildpack>) -> NodeHeadersMetadata {
    NodeHeadersMetadata {
        node_version: node_version.to_string(),
        arch: context.target.arch.clone(),
    }
}

fn fill_layer(client: &HttpClient, release: &Release, layer: &Path) -> Result<(), InstallNodeError> {
    install_package(client, &release.node, layer, Path::new(""))?;
    install_package(client, &release.npm, layer, Path::new(NPM_FOLDER))?;
    for (program, script) in [("npm", "npm-cli.js"), ("npx", "npx-cli.js")] {
        let path = layer.join("bin").join(program);
        symlink(format!("../{NPM_FOLDER}/bin/{script}"), &path)
            .map_err(|source| InstallNodeError::Write { path, source })?;
    }
    Ok(())
}

/// Unpacks `package` into the folder `inside` of the layer, if what was downloaded has the listed hash.
fn install_package(
    client: &HttpClient,
    package: &Package,
    layer: &Path,
    inside: &Path,
) -> Result<(), InstallNodeError> {
    let (name, version) = (package.name, package.version.to_string());
    output::line(&format!("Downloading {name} {version}"));
    let write_error = |source| InstallNodeError::Write {
        path: layer.to_path_buf(),
        source,
    };
    // The file has no name, so that nothing is left of it however the build ends.
    let mut tarball = tempfile::tempfile_in(layer).map_err(write_error)?;
    let found = client
        .download(&package.tarball_url, TARBALL_BYTES_MAX, &mut tarball)
        .map_err(|source| InstallNodeError::Download {
            package: name,
            version: version.clone(),
            source,
        })?;
    if found != package.integrity {
        let (url, listed) = (package.tarball_url.clone(), package.integrity.clone());
        return Err(InstallNodeError::Integrity {
            package: name,
            version,
            url,
            listed,
            found,
        });
    }
    tarball.rewind().map_err(write_error)?;
    make_folders(layer, inside)
        .and_then(|()| unpack_package(tarball, &layer.join(inside), UNPACK_LIMITS))
        .map_err(|source| InstallNodeError::Unpack {
            package: name,
            version,
            source,
        })
}

/// Production unless the user says otherwise; and `npm start` neither asks for updates nor writes logs.
fn launch_env() -> LayerEnv {
    let mut env = LayerEnv::new();
    for (name, value) in [
        ("NODE_ENV", "production"),
        ("NPM_CONFIG_UPDATE_NOTIFIER", "false"),
        ("NPM_CONFIG_LOGS_MAX", "0"),
    ] {
        env.insert(Scope::Launch, ModificationBehavior::Default, name, value);
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::TestServer;
    use libcnb::Env;
    use std::fs;

    fn tarball() -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_path("package/bin/npm-cli.js").unwrap();
        header.set_mode(0o755);
        header.set_size(2);
        header.set_cksum();
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(gzip);
        builder.append(&header, &b"js"[..]).unwrap();
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn package(url: String, listed: [u8; 64]) -> Package {
        let version = "1.2.3".parse().unwrap();
        Package {
            name: "npm",
            version,
            tarball_url: url,
            integrity: Integrity::of_digest(listed),
        }
    }

    fn serve(body: &[u8]) -> TestServer {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        TestServer::start(vec![[head.as_bytes(), body].concat()])
    }

    #[test]
    fn a_package_with_the_listed_hash_is_unpacked_and_nothing_else_is_left() {
        use sha2::Digest;
        let layer = tempfile::tempdir().unwrap();
        let server = serve(&tarball());
        let package = package(server.url("/npm.tgz"), sha2::Sha512::digest(tarball()).into());
        let client = HttpClient::new(&Env::new()).unwrap();
        install_package(&client, &package, layer.path(), Path::new(NPM_FOLDER)).unwrap();
        assert!(layer.path().join(NPM_FOLDER).join("bin/npm-cli.js").is_file());
        assert_eq!(fs::read_dir(layer.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_package_with_another_hash_is_not_unpacked() {
        let layer = tempfile::tempdir().unwrap();
        let server = serve(&tarball());
        let package = package(server.url("/npm.tgz"), [0; 64]);
        let client = HttpClient::new(&Env::new()).unwrap();
        let error = install_package(&client, &package, layer.path(), Path::new("npm")).unwrap_err();
        assert!(matches!(error, InstallNodeError::Integrity { .. }), "{error}");
        assert_eq!(fs::read_dir(layer.path()).unwrap().count(), 0);
    }
}
