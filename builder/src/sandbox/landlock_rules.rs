//! What Landlock adds to the namespaces: signals and abstract sockets stay inside a command, and where all ids are one,
//! only the job's own folders can be written.

use std::path::Path;

use landlock::ABI;
use landlock::AccessFs;
use landlock::CompatLevel;
use landlock::Compatible;
use landlock::PathBeneath;
use landlock::PathFd;
use landlock::Ruleset;
use landlock::RulesetAttr;
use landlock::RulesetCreatedAttr;
use landlock::RulesetError;
use landlock::Scope;

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

/// Restricts this process for ever. Kernels before 6.12 know no scopes; the namespaces hold there too. Of one id the
/// write list is demanded: without it the image's own files would be the job's to change.
pub(crate) fn restrict(start: &Start) -> Result<(), StepError> {
    if let Ok(created) = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
        .and_then(Ruleset::create)
    {
        drop(created.restrict_self());
    }
    restrict_writing(start)
}

/// The write list alone, for processes of file calls.
pub(crate) fn restrict_writing(start: &Start) -> Result<(), StepError> {
    match start.ids {
        Ids::Mapped(_) | Ids::Outer => Ok(()),
        // What root of an image may write is all of it.
        Ids::Single if start.uid == 0 => Ok(()),
        Ids::Single => allow_writing_to(start).map_err(|error| StepError {
            step: "restrict what can be written (Landlock, Linux 5.19)".to_owned(),
            why: error.to_string(),
            number: None,
        }),
    }
}

fn allow_writing_to(start: &Start) -> Result<(), RulesetError> {
    // The first ABI with REFER, without which nothing could be renamed from folder to folder.
    let writing = AccessFs::from_write(ABI::V2);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(writing)?
        .create()?;
    let binds = start
        .binds
        .iter()
        .filter(|bind| !bind.read_only)
        .map(|bind| Path::new(&bind.target));
    let fixed = WRITABLE.iter().map(Path::new);
    for path in fixed.chain([Path::new(&start.home)]).chain(binds) {
        // What the image lacks needs no rule.
        let Ok(folder) = PathFd::new(path) else { continue };
        ruleset =
            ruleset.add_rule(PathBeneath::new(folder, writing).set_compatibility(CompatLevel::BestEffort))?;
    }
    ruleset.restrict_self()?;
    Ok(())
}
