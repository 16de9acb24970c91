//! Which rung a machine allows and why not a higher one: decided from what was found, once, at the start.

use crate::model::owners::Owners;
use crate::model::rung::Rung;
use crate::model::rung::RungChoice;
use crate::sandbox::error::SandboxError;
use crate::sandbox::identity::IDS_OF_A_JOB;
use crate::sandbox::identity::Identity;
use crate::sandbox::identity::Surroundings;
use crate::sandbox::identity::missing_for_a_range;
use crate::sandbox::probe::Found;
use crate::sandbox::probe::Obstacle;
use crate::sandbox::probe::Refused;

/// What jobs stand on: who packhorse is, and which `/proc` they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ground {
    /// Who packhorse is.
    pub identity: Identity,
    /// The job's `/proc`.
    pub proc: Proc,
}

/// Which `/proc` a job gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Proc {
    /// One of its own, with its own processes alone.
    Own,
    /// That of packhorse's surroundings: their processes can be listed, and nothing can be done to them.
    Outer,
}

impl Ground {
    /// The rung that it comes to.
    pub fn rung(self) -> Rung {
        match (self.identity, self.proc) {
            (Identity::RootAlone, _) => Rung::NoUserNamespace,
            (_, Proc::Outer) => Rung::OuterProc,
            (Identity::Single { .. }, Proc::Own) => Rung::SingleId,
            (Identity::Nested | Identity::Rootless { .. }, Proc::Own) => Rung::Rootless,
            (Identity::Root, Proc::Own) => Rung::Full,
        }
    }

    /// The rung and what it means, for log and report.
    pub fn words(self) -> String {
        format!("{}: {}", self.rung(), self.identity.words())
    }

    /// How owners are kept on disk.
    pub fn owners(self) -> Owners {
        self.identity.owners()
    }
}

/// A rung that is not to be had, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The rung that this would give.
    pub rung: Rung,
    /// What is missing, in words.
    pub what: String,
    /// The kernel's words, or what was looked for.
    pub why: String,
    /// The command or file that gives it.
    pub cure: String,
}

/// The highest rung and what stands between it and those above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Climbed {
    /// What jobs can stand on; none: no sandbox is to be had.
    pub best: Option<Ground>,
    /// Why it is not higher, the highest rung first.
    pub missing: Vec<Missing>,
}

/// Climbs as high as the machine lets.
pub fn climb(surroundings: &Surroundings, found: &Found) -> Climbed {
    let mut missing = Vec::new();
    let best = match found.with_user_namespace {
        Some(refused) if refused.obstacle != Obstacle::Proc => {
            missing.push(namespaces_missing(surroundings, refused));
            has_every_id(surroundings)
                .then(|| without_user_namespace(found, &mut missing))
                .flatten()
        }
        other => {
            let identity = identity_of(surroundings, &mut missing);
            let proc = other.map_or(Proc::Own, |refused| {
                missing.push(proc_missing(refused));
                Proc::Outer
            });
            Some(Ground { identity, proc })
        }
    };
    Climbed { best, missing }
}

/// The ground that the user's choice comes to.
pub fn choose(climbed: &Climbed, choice: RungChoice) -> Result<Ground, SandboxError> {
    let Some(best) = climbed.best else {
        return Err(forbidden(climbed, "a sandbox of any kind"));
    };
    let ground = match choice.exactly {
        Some(rung) => {
            let lower = step_down(best, rung);
            lower.ok_or_else(|| forbidden(climbed, &format!("the rung `{rung}` that was asked for")))?
        }
        None => best,
    };
    match choice.minimum {
        Some(minimum) if ground.rung() < minimum => Err(forbidden(
            climbed,
            &format!(
                "at least the rung `{minimum}`, and the best to be had is `{}`",
                ground.rung()
            ),
        )),
        _ => Ok(ground),
    }
}

/// The same machine on a lower rung, where that means to do without something; none where it does not go.
fn step_down(best: Ground, rung: Rung) -> Option<Ground> {
    let outer = |ground: Ground| Ground {
        proc: Proc::Outer,
        ..ground
    };
    let single = || {
        let identity = match best.identity {
            Identity::Rootless { uid, gid } | Identity::Single { uid, gid } => Identity::Single { uid, gid },
            Identity::Root | Identity::Nested => Identity::Single { uid: 0, gid: 0 },
            Identity::RootAlone => return None,
        };
        Some(Ground { identity, ..best })
    };
    let candidate = match rung {
        Rung::OuterProc => (best.identity != Identity::RootAlone).then(|| outer(best)),
        Rung::SingleId => single(),
        Rung::NoUserNamespace => {
            matches!(best.identity, Identity::Root | Identity::RootAlone).then_some(Ground {
                identity: Identity::RootAlone,
                proc: Proc::Own,
            })
        }
        Rung::Full | Rung::Rootless => Some(best),
    };
    candidate.filter(|ground| ground.rung() == rung)
}

fn identity_of(surroundings: &Surroundings, missing: &mut Vec<Missing>) -> Identity {
    let (uid, gid) = (surroundings.uid, surroundings.gid);
    if uid == 0 {
        let mapped = ids_from_zero(&surroundings.uid_map);
        if mapped == u64::from(u32::MAX) {
            return Identity::Root;
        }
        if mapped >= u64::from(IDS_OF_A_JOB) {
            return Identity::Nested;
        }
        missing.push(Missing {
            rung: Rung::Rootless,
            what: "this container has too few user ids".to_owned(),
            why: format!("{mapped} ids are mapped, {IDS_OF_A_JOB} are needed"),
            cure: "start the container with a user namespace of at least 65536 ids".to_owned(),
        });
        return Identity::Single { uid, gid };
    }
    match missing_for_a_range(surroundings) {
        None => Identity::Rootless { uid, gid },
        Some(what) => {
            missing.push(what);
            Identity::Single { uid, gid }
        }
    }
}

fn without_user_namespace(found: &Found, missing: &mut Vec<Missing>) -> Option<Ground> {
    let ground = |proc| Ground {
        identity: Identity::RootAlone,
        proc,
    };
    match found.without_user_namespace {
        None => Some(ground(Proc::Own)),
        Some(refused) if refused.obstacle == Obstacle::Proc => Some(ground(Proc::Outer)),
        Some(refused) => {
            missing.push(Missing {
                rung: Rung::NoUserNamespace,
                what: "making namespaces as root".to_owned(),
                why: refused.why(),
                cure: "start the container with `--cap-add SYS_ADMIN --security-opt seccomp=unconfined`"
                    .to_owned(),
            });
            None
        }
    }
}

fn namespaces_missing(surroundings: &Surroundings, refused: Refused) -> Missing {
    let rung = if surroundings.uid == 0 {
        Rung::Full
    } else {
        Rung::Rootless
    };
    let why = refused.why();
    if refused.obstacle == Obstacle::Mount {
        return Missing {
            rung,
            what: "mounting inside a user namespace".to_owned(),
            why: format!("{why}; a security module denies it"),
            cure: "on Ubuntu: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or an AppArmor profile with \
                   `userns,` for this program"
                .to_owned(),
        };
    }
    Missing {
        rung,
        what: "making a user namespace".to_owned(),
        why,
        cure: "`sysctl user.max_user_namespaces=15000`, on older Debian `sysctl kernel.unprivileged_userns_clone=1`; \
               in a container `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`"
            .to_owned(),
    }
}

fn proc_missing(refused: Refused) -> Missing {
    Missing {
        rung: Rung::Rootless,
        what: "a `/proc` of the job's own".to_owned(),
        why: format!("{}; parts of the one around are covered", refused.why()),
        cure: "start the container with `--security-opt systempaths=unconfined`; in Kubernetes set \
               `securityContext.procMount: Unmasked` and `hostUsers: false`"
            .to_owned(),
    }
}

fn forbidden(climbed: &Climbed, what: &str) -> SandboxError {
    let first = climbed.missing.first();
    SandboxError::Forbidden {
        what: first.map_or_else(|| what.to_owned(), |missing| format!("{what}: {}", missing.what)),
        why: first.map_or_else(
            || "this machine does not go down to it".to_owned(),
            |missing| missing.why.clone(),
        ),
        cure: first.map_or_else(
            || "leave `--sandbox` out for the strongest that there is".to_owned(),
            |missing| missing.cure.clone(),
        ),
    }
}

/// Whether this is root with the ids that a job's files and users have.
fn has_every_id(surroundings: &Surroundings) -> bool {
    surroundings.uid == 0 && ids_from_zero(&surroundings.uid_map) >= u64::from(IDS_OF_A_JOB)
}

/// How many ids from 0 on are mapped without a gap.
fn ids_from_zero(uid_map: &str) -> u64 {
    let mut ranges: Vec<(u64, u64)> = uid_map
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            Some((fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?))
        })
        .collect();
    ranges.sort_unstable();
    ranges.iter().fold(
        0,
        |end, (first, count)| if *first == end { end + count } else { end },
    )
}

#[cfg(test)]
mod tests;
