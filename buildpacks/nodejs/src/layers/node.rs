//! The layer with Node.js and npm: for the build, for launch, and kept from build to build.

use crate::NodejsBuildpack;
use crate::NodejsBuildpackError;
use crate::http::HttpClient;
use crate::http::HttpError;
use crate::integrity::Integrity;
use crate::output;
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
use std::io;
use std::io::Seek;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

/// Raised when this file lays the same packages down in another way.
const LAYOUT: &str = "1";
/// Where npm is in the layer; `npm install --global` would put it there too.
const NPM_FOLDER: &str = "lib/node_modules/npm";

const TARBALL_BYTES_MAX: u64 = 256 * 1024 * 1024;
const UNPACK_LIMITS: UnpackLimits = UnpackLimits {
    entries_max: 50_000,
    size_bytes_max: 1024 * 1024 * 1024,
};

/// What the layer was made from; text throughout, since numbers change their type on the way through a cache.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NodeLayerMetadata {
    node_version: String,
    npm_version: String,
    arch: String,
    layout: String,
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

/// Makes the layer, or keeps the restored one if it is of the same release; returns its folder and environment.
pub(crate) fn install_node(
    context: &BuildContext<NodejsBuildpack>,
    client: &HttpClient,
    release: &Release,
) -> libcnb::Result<(PathBuf, LayerEnv), NodejsBuildpackError> {
    let metadata = NodeLayerMetadata {
        node_version: release.node.version.to_string(),
        npm_version: release.npm.version.to_string(),
        arch: context.target.arch.clone(),
        layout: LAYOUT.to_string(),
    };
    let layer = context.cached_layer(
        layer_name!("node"),
        CachedLayerDefinition {
            build: true,
            launch: true,
            invalid_metadata_action: &|_| InvalidMetadataAction::DeleteLayer,
            restored_layer_action: &|cached: &NodeLayerMetadata, path| {
                if *cached == metadata && path.join("bin/node").is_file() {
                    RestoredLayerAction::KeepLayer
                } else {
                    RestoredLayerAction::DeleteLayer
                }
            },
        },
    )?;
    match layer.state {
        LayerState::Restored { .. } => output::line("Kept from the last build"),
        LayerState::Empty { .. } => {
            fill_layer(client, release, &layer.path()).map_err(NodejsBuildpackError::InstallNode)?;
            layer.write_env(launch_env())?;
            layer.write_metadata(metadata)?;
        }
    }
    Ok((layer.path(), layer.read_env()?))
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

    #[test]
    fn the_metadata_is_text_only() {
        let metadata = NodeLayerMetadata {
            node_version: "22.23.3".to_string(),
            npm_version: "10.9.9".to_string(),
            arch: "amd64".to_string(),
            layout: LAYOUT.to_string(),
        };
        let json = serde_json::to_value(&metadata).unwrap();
        assert!(
            json.as_object()
                .unwrap()
                .values()
                .all(serde_json::Value::is_string)
        );
    }
}
