//! What every step of a build is told, whichever buildpack it is of.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use crate::buildpack::bindings::variables_for;
use crate::buildpack::env_files::read_env_files;
use crate::buildpack::env_files::values_allowance;
use crate::buildpack::environment::EnvFile;
use crate::buildpack::environment::Environment;
use crate::buildpack::environment::Step;
use crate::buildpack::environment::StepVariables;
use crate::buildpack::failed_step::Visitor;
use crate::buildpack::library::Buildpack;
use crate::buildpack::paths::Paths;
use crate::buildpack::target::RunTarget;
use crate::buildpack::target::distro_of_os_release;
use crate::model::secret::Secret;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;

/// The execution environment of a build that names none.
pub const EXEC_ENV_DEFAULT: &str = "production";
/// The largest `/etc/os-release` that is read.
const OS_RELEASE_BYTES_MAX: u64 = 64 << 10;

/// What every step is told.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Where things are.
    pub paths: Paths,
    /// What the run image is.
    pub target: RunTarget,
    /// The execution environment; empty is told to nobody.
    pub exec_env: String,
    /// What of the surroundings' variables is let through.
    pub outside: Environment,
    /// The user's variables: the files of the platform's `env`.
    pub user: Vec<EnvFile>,
    /// The builder owner's variables: the files of the build configuration's `env`.
    pub operator: Vec<EnvFile>,
    /// The build's secrets, for build steps alone.
    pub secrets: Vec<Secret>,
    /// Who looks at a step that fails.
    pub visitor: Option<Arc<dyn Visitor>>,
}

impl Setting {
    /// Reads from a job what is not given: the user's and the builder owner's variables and, if the run image does not
    /// name a distribution, that of the build image.
    pub fn read(
        job: &dyn Job,
        paths: Paths,
        outside: Environment,
        mut target: RunTarget,
        exec_env: String,
    ) -> Result<Self, JobError> {
        if target.distro.is_none() {
            let os_release = job.read_file(Path::new("/etc/os-release"), OS_RELEASE_BYTES_MAX)?;
            target.distro =
                os_release.and_then(|bytes| distro_of_os_release(&String::from_utf8_lossy(&bytes)));
        }
        let mut allowance = values_allowance();
        let user = read_env_files(job, &paths.platform.join("env"), &mut allowance)?;
        let operator = read_env_files(job, &paths.build_config.join("env"), &mut allowance)?;
        Ok(Self {
            paths,
            target,
            exec_env,
            outside,
            user,
            operator,
            secrets: Vec::new(),
            visitor: None,
        })
    }

    /// Whether a buildpack is for this execution environment (Buildpack API 0.12).
    pub fn takes_part(&self, buildpack: &Buildpack) -> bool {
        let wanted = &buildpack.descriptor.buildpack.exec_env;
        !buildpack.descriptor.api.at_least(0, 12)
            || wanted.is_empty()
            || wanted.iter().any(|one| one == "*" || *one == self.exec_env)
    }

    /// The whole environment of one step of a buildpack, over what the layers of the ones before it set.
    pub fn variables(
        &self,
        before: &Environment,
        buildpack: &Buildpack,
        step: Step<'_>,
    ) -> Vec<(OsString, OsString)> {
        let user = (!buildpack.descriptor.buildpack.clear_env).then_some(self.user.as_slice());
        let step = StepVariables {
            api: buildpack.descriptor.api,
            buildpack: &buildpack.directory,
            platform: &self.paths.platform,
            target: &self.target,
            exec_env: &self.exec_env,
            step,
        };
        let mut variables = before.for_step(user, &self.operator, &step).into_variables();
        if let Step::Build { .. } = step.step {
            for secret in variables_for(&self.secrets, &buildpack.descriptor.buildpack.id) {
                variables.retain(|(name, _)| *name != secret.0);
                variables.push(secret);
            }
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packhorse_spec::buildpack_toml::BuildpackDescriptor;

    #[test]
    fn execution_environments_count_from_api_0_12_on() {
        let setting = Setting {
            paths: Paths::default(),
            target: RunTarget::default(),
            exec_env: "test".into(),
            outside: Environment::default(),
            user: Vec::new(),
            operator: Vec::new(),
            secrets: Vec::new(),
            visitor: None,
        };
        let takes_part = |api: &str, list: &str| {
            let text = format!("api = '{api}'\n[buildpack]\nid = 'a'\nexec-env = {list}\n");
            let descriptor = BuildpackDescriptor::parse(&text).unwrap();
            setting.takes_part(&Buildpack {
                descriptor,
                directory: "/b".into(),
                digest: None,
            })
        };
        assert!(takes_part("0.12", "[]"));
        assert!(takes_part("0.12", "['production', 'test']"));
        assert!(takes_part("0.12", "['*']"));
        assert!(!takes_part("0.12", "['production']"));
        assert!(takes_part("0.11", "['production']"));
    }
}
