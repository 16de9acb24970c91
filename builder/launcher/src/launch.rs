//! Becomes the chosen process: the environment, the programs that extend it, and then `execve`.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use packhorse_spec::group_toml::GroupMember;

use crate::bash;
use crate::choose::Chosen;
use crate::environment::Environment;
use crate::exec_d;
use crate::failure::LaunchError;
use crate::failure::io_text;
use crate::layers;
use crate::lookup;
use crate::profiles;

/// A process and where it is to run.
pub(crate) struct Launch<'a> {
    /// The process.
    pub(crate) process: Chosen,
    /// The name that the launcher was called by.
    pub(crate) name: OsString,
    /// The buildpacks of the image, in order.
    pub(crate) buildpacks: &'a [GroupMember],
    /// The folder of the layers.
    pub(crate) layers_dir: PathBuf,
    /// The folder of the application.
    pub(crate) app_dir: PathBuf,
    /// The variables of the container.
    pub(crate) environment: Environment,
}

/// Comes back only if something fails.
pub(crate) fn launch(mut launch: Launch<'_>) -> Result<Infallible, LaunchError> {
    change_folder(&launch.app_dir).map_err(|why| LaunchError::AppDir {
        path: launch.app_dir.clone(),
        why,
    })?;

    let process_type = launch.process.process_type.as_deref();
    let layers =
        layers::find_layers(&launch.layers_dir, launch.buildpacks).map_err(LaunchError::ModifyEnv)?;
    for layers in &layers {
        layers::apply_layers(layers, process_type, &mut launch.environment)
            .map_err(LaunchError::ModifyEnv)?;
    }
    for layer in layers.iter().flatten() {
        for program in layers::find_files(layer, "exec.d", process_type).map_err(LaunchError::ListExecD)? {
            exec_d::run(&program, &mut launch.environment).map_err(LaunchError::ExecD)?;
        }
    }

    if launch.process.direct {
        become_program(&launch)
    } else {
        become_shell(&launch, &layers)
    }
}

fn become_program(launch: &Launch<'_>) -> Result<Infallible, LaunchError> {
    let process = &launch.process;
    let Some((program, always)) = process.command.split_first() else {
        return Err(LaunchError::NoCommand(
            process.process_type.clone().unwrap_or_default(),
        ));
    };
    // Before going to the working folder: a relative program is looked for in the application's, run in the other.
    let path = lookup::find_program(program, launch.environment.get(OsStr::new("PATH")))
        .map_err(LaunchError::PathLookup)?;
    let working_dir = working_dir(launch);
    change_folder(working_dir).map_err(|why| LaunchError::WorkingDir {
        path: working_dir.to_owned(),
        why,
    })?;
    let arguments = [always, &process.arguments].concat();
    Err(LaunchError::DirectExec(io_text(&execute(
        &path,
        program,
        &arguments,
        &launch.environment,
    ))))
}

fn become_shell(launch: &Launch<'_>, layers: &[Vec<PathBuf>]) -> Result<Infallible, LaunchError> {
    let process = &launch.process;
    let profiles = profiles::find_profiles(layers, process.process_type.as_deref(), &launch.app_dir)
        .map_err(LaunchError::FindProfiles)?;
    refuse_unknown_buildpack(launch)?;
    let arguments = bash::arguments(
        &profiles,
        working_dir(launch),
        &launch.name,
        &process.command,
        &process.arguments,
    );
    let source = execute(
        Path::new("/bin/bash"),
        OsStr::new("bash"),
        &arguments,
        &launch.environment,
    );
    Err(LaunchError::BashExec(io_text(&source)))
}

/// How words are evaluated once depended on the buildpack's API, so the reference asks for it still.
fn refuse_unknown_buildpack(launch: &Launch<'_>) -> Result<(), LaunchError> {
    let process = &launch.process;
    let id = process.buildpack_id.as_str();
    let is_known = id.is_empty() || launch.buildpacks.iter().any(|buildpack| buildpack.id == id);
    if process.arguments.is_empty() || is_known {
        return Ok(());
    }
    let process_type = process.process_type.clone().unwrap_or_default();
    Err(LaunchError::UnknownBuildpack {
        process_type,
        id: id.to_owned(),
    })
}

fn working_dir<'a>(launch: &'a Launch<'_>) -> &'a Path {
    if launch.process.working_dir.is_empty() {
        &launch.app_dir
    } else {
        Path::new(&launch.process.working_dir)
    }
}

fn change_folder(path: &Path) -> Result<(), String> {
    std::env::set_current_dir(path).map_err(|source| io_text(&source))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, and this is where it ends"
)]
fn execute(path: &Path, name: &OsStr, arguments: &[OsString], environment: &Environment) -> io::Error {
    Command::new(path)
        .arg0(name)
        .args(arguments)
        .env_clear()
        .envs(environment.variables())
        .exec()
}
