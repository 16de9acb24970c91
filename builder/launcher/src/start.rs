//! One start from beginning to end: which API, what the image holds, which process, and then becoming it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use packhorse_spec::api::Api;
use packhorse_spec::metadata_toml::BuildMetadata;

use crate::choose;
use crate::choose::Request;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::failure::LaunchError;
use crate::failure::io_text;
use crate::launch;
use crate::launch::Launch;

/// How the launcher was called.
pub(crate) struct Invocation {
    /// The name that it was called by: a link in `/cnb/process` stands for a process type.
    pub(crate) name: OsString,
    /// The user's arguments.
    pub(crate) arguments: Vec<OsString>,
    /// The environment of the container.
    pub(crate) environment: BTreeMap<OsString, OsString>,
}

impl Invocation {
    /// A variable; an empty one counts as none.
    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    fn folder(&self, name: &str, default: &str) -> PathBuf {
        // Through its components, so that `/layers/` gives the same paths as `/layers`.
        Path::new(self.variable(name).unwrap_or(OsStr::new(default)))
            .components()
            .collect()
    }
}

/// Starts what was asked for, and so comes back only if that fails. Warnings go to `output`.
pub(crate) fn start(invocation: Invocation, output: &mut dyn Write) -> Result<Infallible, Failure> {
    let platform_api = platform_api(invocation.variable("CNB_PLATFORM_API"))?;
    let layers_dir = invocation.folder("CNB_LAYERS_DIR", "/layers");
    let metadata = read_metadata(&layers_dir)?;
    verify_buildpack_apis(&metadata)?;
    warn_of_process_type(&invocation, platform_api, output);

    let exec_env = invocation
        .variable("CNB_EXEC_ENV")
        .unwrap_or(OsStr::new("production"))
        .to_owned();
    let app_dir = invocation.folder("CNB_APP_DIR", "/workspace");
    let process = choose::choose_process(&Request {
        metadata: &metadata,
        platform_api,
        exec_env: &exec_env,
        name: &invocation.name,
        arguments: &invocation.arguments,
    })
    .map_err(LaunchError::StartCommand)?;

    let never = launch::launch(Launch {
        process,
        name: invocation.name,
        buildpacks: &metadata.buildpacks,
        layers_dir,
        app_dir,
        environment: Environment::of_container(invocation.environment),
    })?;
    Ok(never)
}

fn platform_api(text: Option<&OsStr>) -> Result<Api, Failure> {
    let text = text.unwrap_or_default().to_string_lossy();
    if text.trim().is_empty() {
        return Err(Failure::NoPlatformApi);
    }
    let api: Api = text
        .parse()
        .map_err(|_| Failure::UnreadablePlatformApi(text.to_string()))?;
    if api.is_supported_platform_api() {
        Ok(api)
    } else {
        Err(Failure::UnsupportedPlatformApi(text.to_string()))
    }
}

fn read_metadata(layers_dir: &Path) -> Result<BuildMetadata, Failure> {
    let path = layers_dir.join("config").join("metadata.toml");
    let text = fs::read_to_string(&path).map_err(|source| Failure::OpenMetadata {
        path: path.clone(),
        why: io_text(&source),
    })?;
    BuildMetadata::parse(&text).map_err(|source| Failure::ParseMetadata { path, source })
}

fn verify_buildpack_apis(metadata: &BuildMetadata) -> Result<(), Failure> {
    for buildpack in &metadata.buildpacks {
        let (id, api) = (buildpack.id.to_string(), buildpack.api.clone());
        match api.parse::<Api>() {
            Err(_) => return Err(Failure::UnreadableBuildpackApi { id, api }),
            Ok(parsed) if !parsed.is_supported_buildpack_api() => {
                return Err(Failure::UnsupportedBuildpackApi { id, api });
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// The variable chose the process before Platform API 0.4; images are still started with it.
fn warn_of_process_type(invocation: &Invocation, platform_api: Api, output: &mut dyn Write) {
    if let Some(process_type) = invocation.variable("CNB_PROCESS_TYPE") {
        let process_type = process_type.to_string_lossy();
        let _nobody_to_tell = write!(
            output,
            "Warning: CNB_PROCESS_TYPE is not supported in Platform API {platform_api}\n\
             Warning: Run with ENTRYPOINT '{process_type}' to invoke the '{process_type}' process type\n"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_apis() {
        let api = |text: &str| platform_api(Some(OsStr::new(text))).map_err(|failure| failure.to_string());
        assert_eq!(api("0.15").unwrap(), Api::new(0, 15));
        assert_eq!(api("0.7").unwrap(), Api::new(0, 7));
        assert_eq!(
            api("0.3").unwrap_err(),
            "failed to set platform API: platform API version '0.3' is incompatible with the lifecycle"
        );
        assert_eq!(api("x").unwrap_err(), "failed to parse platform API 'x'");
        assert!(matches!(platform_api(None), Err(Failure::NoPlatformApi)));
        assert!(matches!(
            platform_api(Some(OsStr::new(" "))),
            Err(Failure::NoPlatformApi)
        ));
    }

    #[test]
    fn buildpack_apis() {
        let verify = |api: &str| {
            let text = format!("[[buildpacks]]\nid = 'vec/one'\nversion = '1'\napi = '{api}'\n");
            verify_buildpack_apis(&BuildMetadata::parse(&text).unwrap())
        };
        assert!(verify("0.12").is_ok());
        let failure = verify("0.6").unwrap_err();
        assert_eq!(failure.exit_code(), 12);
        assert_eq!(
            failure.to_string(),
            "failed to set API for buildpack 'vec/one': buildpack API version '0.6' is incompatible with the lifecycle"
        );
        assert_eq!(verify("").unwrap_err().exit_code(), 12);
    }

    #[test]
    fn folders_have_one_spelling() {
        let environment = BTreeMap::from([
            ("CNB_LAYERS_DIR".into(), "//l/./x/".into()),
            ("CNB_APP_DIR".into(), "".into()),
        ]);
        let invocation = Invocation {
            name: "web".into(),
            arguments: Vec::new(),
            environment,
        };
        assert_eq!(invocation.folder("CNB_LAYERS_DIR", "/layers"), Path::new("/l/x"));
        assert_eq!(
            invocation.folder("CNB_APP_DIR", "/workspace"),
            Path::new("/workspace")
        );
    }
}
