//! What Landlock adds to the namespaces: signals and abstract sockets stay inside a command, and where all ids are one,
//! only the job's own folders can be written.

use std::path::Path;

use landlock::ABI;
use landlock::Access;
use landlock::AccessFs;
use landlock::AccessNet;
use landlock::CompatLevel;
use landlock::Compatible;
use landlock::NetPort;
use landlock::PathBeneath;
use landlock::PathFd;
use landlock::Ruleset;
use landlock::RulesetAttr;
use landlock::RulesetCreated;
use landlock::RulesetCreatedAttr;
use landlock::RulesetError;
use landlock::Scope;

use crate::sandbox::ladder::Walls;
use crate::sandbox::message::Ids;
use crate::sandbox::message::Start;
use crate::sandbox::step::StepError;

/// What commands may write to beside the home folder and the binds that are for writing.
const WRITABLE: [&str; 8] = [
    "/layers",
    "/workspace",
    "/tmp",
    "/var/tmp",
    "/dev",
    "/proc",
    "/run",
    "/var/lock",
];

/// Restricts this process for ever. Of one id the write list is demanded: without it the image's own files would be the
/// job's to change.
///
/// `apart`: it may not even connect to the worker's proxy.
pub(crate) fn restrict(start: &Start, apart: bool) -> Result<(), StepError> {
    if start.walls == Walls::Chroot {
        return stay_in_the_folder(start, start.proxy_port.filter(|_| !apart));
    }
    if has_write_list(start) {
        return allow_writing_to(start);
    }
    if let Ok(created) = scoped(Ruleset::default()).and_then(Ruleset::create) {
        // Kernels before 6.12 know no scopes; the namespaces hold there too.
        drop(created.restrict_self());
    }
    Ok(())
}

/// Nothing outside the root, whoever would get there, no writing but where jobs write, since nothing is mounted
/// read-only, and no connection but to the worker's proxy. As far as the kernel can; what it cannot, [`missing`] tells.
fn stay_in_the_folder(start: &Start, proxy_port: Option<u16>) -> Result<(), StepError> {
    let failed = |why: String| StepError {
        step: "keep the job in its folder (Landlock)".to_owned(),
        why,
        number: None,
    };
    let root = PathFd::new("/").map_err(|error| failed(error.to_string()))?;
    folder_and_proxy(root, start, proxy_port)
        .and_then(RulesetCreated::restrict_self)
        .map(drop)
        .map_err(|error| failed(error.to_string()))
}

fn folder_and_proxy(
    root: PathFd,
    start: &Start,
    proxy_port: Option<u16>,
) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(ABI::V5);
    let mut ruleset = scoped(Ruleset::default())?
        .handle_access(all)?
        .handle_access(AccessNet::ConnectTcp)?
        .create()?
        .add_rule(PathBeneath::new(root, AccessFs::from_read(ABI::V5)))?;
    for folder in writable(start) {
        ruleset = ruleset.add_rule(PathBeneath::new(folder, all))?;
    }
    match proxy_port {
        Some(port) => ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp)),
        None => Ok(ruleset),
    }
}

/// What the log is to say of what Landlock cannot hold here, where nothing else does.
pub(crate) fn missing() -> Vec<String> {
    let demanded = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let connections = demanded()
        .handle_access(AccessNet::ConnectTcp)
        .and_then(Ruleset::create);
    let scopes = demanded()
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
        .and_then(Ruleset::create);
    let mut missing = Vec::new();
    if connections.is_err() {
        missing.push(
            "this kernel cannot hold a job's connections (Landlock, Linux 6.7): without a network namespace it can \
             connect to whatever this machine can"
                .to_owned(),
        );
    }
    if scopes.is_err() {
        missing.push(
            "this kernel cannot hold a job's signals and abstract sockets (Landlock, Linux 6.12): without namespaces it \
             reaches processes of its own user number, and services that listen on such sockets"
                .to_owned(),
        );
    }
    missing
}

/// The write list alone, for processes of file calls.
pub(crate) fn restrict_writing(start: &Start) -> Result<(), StepError> {
    if has_write_list(start) {
        allow_writing_to(start)
    } else {
        Ok(())
    }
}

/// What root of an image may write is all of it.
fn has_write_list(start: &Start) -> bool {
    matches!(start.ids, Ids::Single) && start.uid != 0
}

/// Signals and abstract sockets stay inside, where the kernel can.
fn scoped(ruleset: Ruleset) -> Result<Ruleset, RulesetError> {
    ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
}

fn allow_writing_to(start: &Start) -> Result<(), StepError> {
    write_list(start)
        .and_then(RulesetCreated::restrict_self)
        .map(drop)
        .map_err(|error| StepError {
            step: "restrict what can be written (Landlock, Linux 5.19)".to_owned(),
            why: error.to_string(),
            number: None,
        })
}

/// One ruleset for all: under a second one without REFER, nothing could be renamed from folder to folder.
fn write_list(start: &Start) -> Result<RulesetCreated, RulesetError> {
    // The first ABI with REFER.
    let writing = AccessFs::from_write(ABI::V2);
    let demanded = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(writing)?;
    let mut ruleset = scoped(demanded)?.create()?;
    for folder in writable(start) {
        ruleset = ruleset.add_rule(PathBeneath::new(folder, writing))?;
    }
    Ok(ruleset)
}

/// What commands may write to, as far as the image has it.
fn writable(start: &Start) -> impl Iterator<Item = PathFd> {
    let binds = start.binds.iter().filter(|bind| !bind.read_only);
    let binds = binds.map(|bind| Path::new(&bind.target));
    let fixed = WRITABLE.iter().map(Path::new);
    fixed
        .chain([Path::new(&start.home)])
        .chain(binds)
        .filter_map(|path| PathFd::new(path).ok())
}
