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
    /// How its trees are put together.
    pub trees: Trees,
    /// What stands between it and the machine.
    pub walls: Walls,
}

/// How the trees of a job's root file system and layers are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Trees {
    /// By overlays, under an upper for what the job writes.
    Overlay,
    /// By copying them into one that is the job's own.
    Copies,
}

/// What stands between a job and the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Walls {
    /// Namespaces of its own.
    Namespaces,
    /// A root folder and a user of its own, filters and Landlock; processes and network are the machine's.
    Chroot,
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
        if self.walls == Walls::Chroot {
            return Rung::Chroot;
        }
        match (self.identity, self.proc) {
            (Identity::RootAlone, _) => Rung::NoUserNamespace,
            _ if self.trees == Trees::Copies => Rung::NoOverlay,
            (_, Proc::Outer) => Rung::OuterProc,
            (Identity::Single { .. }, Proc::Own) => Rung::SingleId,
            (Identity::Nested | Identity::Contained | Identity::Rootless { .. }, Proc::Own) => Rung::Rootless,
            (Identity::Root, Proc::Own) => Rung::Full,
        }
    }

    /// The rung and what it means, for log and report.
    pub fn words(self) -> String {
        let identity = match self.walls {
            Walls::Namespaces => self.identity.words(),
            Walls::Chroot => "root without namespaces; a job is another user in another root folder",
        };
        let trees = match self.trees {
            Trees::Overlay => "",
            Trees::Copies => "; its trees are copies",
        };
        format!("{}: {identity}{trees}", self.rung())
    }

    /// How owners are kept on disk.
    pub fn owners(self) -> Owners {
        self.identity.owners()
    }
}

/// Without any namespace.
const CHROOT: Ground = Ground {
    identity: Identity::RootAlone,
    proc: Proc::Own,
    trees: Trees::Copies,
    walls: Walls::Chroot,
};

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
            let proc = proc_of(other, &mut missing);
            let trees = trees_of(found, &mut missing);
            Some(Ground {
                identity,
                proc,
                trees,
                walls: Walls::Namespaces,
            })
        }
    };
    Climbed { best, missing }
}

fn proc_of(refused: Option<Refused>, missing: &mut Vec<Missing>) -> Proc {
    refused.map_or(Proc::Own, |refused| {
        missing.push(proc_missing(refused));
        Proc::Outer
    })
}

fn trees_of(found: &Found, missing: &mut Vec<Missing>) -> Trees {
    let (why, cure) = match (found.overlay, found.disk_is_overlay) {
        (None, false) => return Trees::Overlay,
        (_, true) => (
            "the data directory lies on an overlay itself, and the kernel stacks none on it".to_owned(),
            "put the data directory on a disk of its own: `--home DIRECTORY`; in a container on a volume",
        ),
        (Some(number), false) => (
            std::io::Error::from_raw_os_error(number).to_string(),
            "Linux 5.11 and the module `overlay` (`modprobe overlay`); a security module may deny it too",
        ),
    };
    missing.push(Missing {
        rung: Rung::OuterProc,
        what: "mounting an overlay".to_owned(),
        why,
        cure: cure.to_owned(),
    });
    Trees::Copies
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
    match (choice.minimum, choice.exactly) {
        (Some(minimum), Some(rung)) if rung < minimum => Err(SandboxError::Forbidden {
            what: format!("the rung `{rung}` that was asked for"),
            why: format!("it is below the configured minimum, `{minimum}`"),
            cure: "leave `--sandbox` out, or lower `[sandbox] minimum`".to_owned(),
        }),
        (Some(minimum), None) if ground.rung() < minimum => Err(forbidden(
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
    let is_root = matches!(best.identity, Identity::Root | Identity::RootAlone);
    let has_every_id = is_root || best.identity == Identity::Contained;
    let candidate = match rung {
        Rung::Full | Rung::Rootless => Some(best),
        Rung::SingleId => single(best),
        Rung::OuterProc => Some(Ground {
            proc: Proc::Outer,
            ..best
        }),
        Rung::NoOverlay => Some(Ground {
            trees: Trees::Copies,
            ..best
        }),
        Rung::NoUserNamespace => is_root.then_some(Ground {
            identity: Identity::RootAlone,
            proc: Proc::Own,
            ..best
        }),
        Rung::Chroot => has_every_id.then_some(CHROOT),
    };
    candidate.filter(|ground| ground.rung() == rung)
}

fn single(best: Ground) -> Option<Ground> {
    let identity = match best.identity {
        Identity::Rootless { uid, gid } | Identity::Single { uid, gid } => Identity::Single { uid, gid },
        Identity::Root | Identity::Nested => Identity::Single { uid: 0, gid: 0 },
        Identity::Contained | Identity::RootAlone => return None,
    };
    Some(Ground { identity, ..best })
}

fn identity_of(surroundings: &Surroundings, missing: &mut Vec<Missing>) -> Identity {
    let (uid, gid) = (surroundings.uid, surroundings.gid);
    if uid == 0 {
        let mapped = ids_from_zero(&surroundings.uid_map);
        if !surroundings.may_mount && mapped >= u64::from(IDS_OF_A_JOB) {
            missing.push(Missing {
                rung: Rung::Full,
                what: "a range of ids for each job".to_owned(),
                why: "root of this container may not mount (it lacks CAP_SYS_ADMIN)".to_owned(),
                cure: "start the container with `--cap-add SYS_ADMIN`; what there is holds as well as a plain user's"
                    .to_owned(),
            });
            return Identity::Contained;
        }
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
    match found.without_user_namespace {
        Some(refused) if refused.obstacle != Obstacle::Proc => {
            missing.push(Missing {
                rung: Rung::NoUserNamespace,
                what: "making namespaces as root".to_owned(),
                why: refused.why(),
                cure: "start the container with `--cap-add SYS_ADMIN --security-opt seccomp=unconfined`"
                    .to_owned(),
            });
            chroot(found, missing)
        }
        other => Some(Ground {
            identity: Identity::RootAlone,
            proc: other.map_or(Proc::Own, |_| Proc::Outer),
            trees: trees_of(found, missing),
            walls: Walls::Namespaces,
        }),
    }
}

fn chroot(found: &Found, missing: &mut Vec<Missing>) -> Option<Ground> {
    let Some(number) = found.chroot else {
        return Some(CHROOT);
    };
    missing.push(Missing {
        rung: Rung::Chroot,
        what: "another root folder and another user for the job".to_owned(),
        why: std::io::Error::from_raw_os_error(number).to_string(),
        cure: "give the container the capabilities that Docker gives by default: SYS_CHROOT, SETUID, SETGID, CHOWN, \
               FOWNER, DAC_OVERRIDE, KILL, MKNOD"
            .to_owned(),
    });
    None
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
