//! Who this program is to the kernel: root, or a plain user that becomes root of a namespace of its own.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::process::Pid;
use rustix::process::WaitOptions;
use rustix::thread::CapabilitySet;
use rustix::thread::UnshareFlags;

use crate::model::owners::Owners;
use crate::model::rung::Rung;
use crate::sandbox::error::SandboxError;
use crate::sandbox::ladder::Missing;
use crate::sandbox::linux;
use crate::sandbox::linux::Forked;
use crate::sandbox::mount;
use crate::sandbox::subordinate_ids;
use crate::sandbox::subordinate_ids::SubordinateRange;

/// Ids that a job needs: 0 to 65535.
pub(crate) const IDS_OF_A_JOB: u32 = 65_536;

/// What decides who packhorse can become.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The text of `/proc/self/uid_map`.
    pub uid_map: String,
    /// Whether it has `CAP_SYS_ADMIN`, as root of a machine has and root of a container often not.
    pub may_mount: bool,
    /// The subordinate ids of the user.
    pub subordinate_uids: Option<SubordinateRange>,
    /// The subordinate ids of the group.
    pub subordinate_gids: Option<SubordinateRange>,
    /// The program `newuidmap`.
    pub newuidmap: Option<PathBuf>,
    /// The program `newgidmap`.
    pub newgidmap: Option<PathBuf>,
}

impl Surroundings {
    /// Reads them from the machine. `search_path` is the value of `PATH`, `user` that of `USER` (for users that are
    /// not in `/etc/passwd`).
    pub fn read(search_path: Option<&OsStr>, user: Option<&str>) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let login_name = subordinate_ids::login_name_of(&passwd, uid)
            .or(user)
            .map(str::to_owned);
        let range = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            subordinate_ids::range_of(&text, login_name.as_deref(), uid, IDS_OF_A_JOB)
        };
        Self {
            uid,
            gid: rustix::process::getegid().as_raw(),
            uid_map: fs::read_to_string("/proc/self/uid_map").unwrap_or_default(),
            may_mount: rustix::thread::capabilities(None)
                .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN)),
            subordinate_uids: range("/etc/subuid"),
            subordinate_gids: range("/etc/subgid"),
            newuidmap: find_program("newuidmap", search_path),
            newgidmap: find_program("newgidmap", search_path),
        }
    }
}

/// Who this program is once it has entered its management namespace, if it needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Root of the machine: every job gets a range of ids of its own, mounts are idmapped.
    Root,
    /// Root of a user namespace that somebody else made (a container); jobs share its ids.
    Nested,
    /// Root that may not mount (a container as Docker makes it), now root of a management namespace with the same ids; jobs
    /// share them.
    Contained,
    /// A plain user, now root of a management namespace of its own; jobs share its subordinate ids.
    Rootless {
        /// The user that it is outside.
        uid: u32,
        /// The group that it is outside.
        gid: u32,
    },
    /// A user who has no other id, now root of a management namespace with that one id; in a job every id is it.
    Single {
        /// The user that it is outside; 0 where it was root of such a namespace before.
        uid: u32,
        /// The group that it is outside.
        gid: u32,
    },
    /// Root, where no user namespace is to be had: ids inside a job are those outside.
    RootAlone,
}

impl Identity {
    /// How owners are kept on disk.
    pub fn owners(self) -> Owners {
        match self {
            Self::Root | Self::RootAlone => Owners::Natural,
            Self::Nested | Self::Contained | Self::Rootless { .. } => Owners::Shifted,
            Self::Single { .. } => Owners::Single,
        }
    }

    /// Who that is, for log and report.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Root => "root with a range of ids for each job",
            Self::Nested => "root of a container's user namespace",
            Self::Contained => "root of a container, in a user namespace of its own",
            Self::Rootless { .. } => "a plain user with subordinate ids",
            Self::Single { .. } => "a user without subordinate ids; all ids inside are one",
            Self::RootAlone => "root without user namespaces",
        }
    }
}

/// Makes this process what `identity` says. To be called first thing in `main`, while it has one thread.
///
/// After an error the process should end: it may be half-way.
pub(crate) fn enter(identity: Identity, surroundings: &Surroundings) -> Result<(), SandboxError> {
    match identity {
        Identity::Root => Ok(()),
        Identity::Nested | Identity::RootAlone | Identity::Single { uid: 0, .. } => {
            have_own_mounts().map_err(|source| forbidden_mapping(&source.to_string()))
        }
        Identity::Rootless { .. } => {
            let maps = Maps::of(surroundings).map_err(|missing| forbidden_mapping(&missing.why))?;
            enter_mapped(|parent| run_helper(&maps.newuidmap, parent) && run_helper(&maps.newgidmap, parent))
        }
        Identity::Contained => enter_mapped(|parent| {
            let folder = PathBuf::from(format!("/proc/{}", parent.as_raw_nonzero()));
            let map = format!("0 0 {IDS_OF_A_JOB}");
            ["uid_map", "gid_map"]
                .iter()
                .all(|file| write_map(&folder.join(file), &map).is_ok())
        }),
        Identity::Single { uid, gid } => {
            enter_alone(uid, gid).map_err(|source| forbidden_mapping(&source.to_string()))
        }
    }
}

/// The end of the ids that are mapped in the namespace that `/proc/self/uid_map` tells of.
pub fn end_of_ids(uid_map: &str) -> u64 {
    let ends = uid_map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (first, count): (u64, u64) = (fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?);
        Some(first + count)
    });
    ends.max().unwrap_or(0)
}

/// What a plain user lacks for a range of ids, if anything.
pub(crate) fn missing_for_a_range(surroundings: &Surroundings) -> Option<Missing> {
    Maps::of(surroundings).err()
}

/// The arguments of newuidmap and newgidmap behind the process id.
struct Maps {
    newuidmap: (PathBuf, [String; 6]),
    newgidmap: (PathBuf, [String; 6]),
}

impl Maps {
    fn of(surroundings: &Surroundings) -> Result<Self, Missing> {
        let program = |found: &Option<PathBuf>, name: &str| {
            found.clone().ok_or_else(|| Missing {
                rung: Rung::Rootless,
                what: "a plain user needs a helper to map ids".to_owned(),
                why: format!("the program `{name}` is not there"),
                cure: "install it: `apt install uidmap`, or `dnf install shadow-utils`".to_owned(),
            })
        };
        let range = |found: Option<SubordinateRange>, file: &str, option: &str| {
            found.ok_or_else(|| Missing {
                rung: Rung::Rootless,
                what: "a plain user needs subordinate ids".to_owned(),
                why: format!(
                    "`{file}` gives user {} no range of {IDS_OF_A_JOB} ids",
                    surroundings.uid
                ),
                cure: format!(
                    "as root: `usermod {option} 100000-165535 USER` (a range that nobody else has)"
                ),
            })
        };
        let arguments = |own: u32, range: SubordinateRange| {
            [
                "0".to_owned(),
                own.to_string(),
                "1".to_owned(),
                "1".to_owned(),
                range.first.to_string(),
                IDS_OF_A_JOB.to_string(),
            ]
        };
        let map_users = program(&surroundings.newuidmap, "newuidmap")?;
        let map_groups = program(&surroundings.newgidmap, "newgidmap")?;
        let uids = range(surroundings.subordinate_uids, "/etc/subuid", "--add-subuids")?;
        let gids = range(surroundings.subordinate_gids, "/etc/subgid", "--add-subgids")?;
        Ok(Self {
            newuidmap: (map_users, arguments(surroundings.uid, uids)),
            newgidmap: (map_groups, arguments(surroundings.gid, gids)),
        })
    }
}

/// Moves into a user namespace whose ids `map` writes from outside, given this process, and becomes root there.
fn enter_mapped(map: impl FnOnce(Pid) -> bool) -> Result<(), SandboxError> {
    let failed = |source: io::Error| forbidden_mapping(&source.to_string());
    let (unshared, waits) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    // It must be done outside the new namespace: set-user-id, file capabilities and root's own rights hold only there.
    let parent = rustix::process::getpid();
    let helper = match linux::fork().map_err(failed)? {
        Forked::Child => {
            drop(waits);
            let mut byte = [0_u8; 1];
            let told = matches!(rustix::io::read(&unshared, &mut byte), Ok(1));
            let mapped = told && map(parent);
            linux::exit_now(i32::from(!mapped));
        }
        Forked::Parent(helper) => helper,
    };
    drop(unshared);
    linux::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(failed)?;
    rustix::io::write(&waits, &[1]).map_err(|e| failed(e.into()))?;
    let status = wait_for(helper).map_err(failed)?;
    if status != 0 {
        return Err(forbidden_mapping("the map was refused"));
    }
    let (root, group) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_res_gid(group, group, group).map_err(|e| failed(e.into()))?;
    rustix::thread::set_thread_res_uid(root, root, root).map_err(|e| failed(e.into()))
}

/// Root of a user namespace may still stand in mounts that are its maker's; those it cannot hand to jobs, copies it can.
fn have_own_mounts() -> io::Result<()> {
    match mount::clone_of(Path::new("/")) {
        Err(rustix::io::Errno::PERM) => linux::unshare(UnshareFlags::NEWNS),
        _ => Ok(()),
    }
}

/// Maps `0 → me` and nothing else, which needs no helper.
fn enter_alone(uid: u32, gid: u32) -> io::Result<()> {
    linux::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    map_self([0, uid], [0, gid])
}

fn run_helper((program, arguments): &(PathBuf, [String; 6]), process: Pid) -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "the sandbox owns the programs that map ids"
    )]
    let mut command = std::process::Command::new(program);
    command.arg(process.as_raw_nonzero().to_string()).args(arguments);
    command.status().is_ok_and(|status| status.success())
}

fn forbidden_mapping(why: &str) -> SandboxError {
    SandboxError::Forbidden {
        what: "mapping the subordinate ids".to_owned(),
        why: why.to_owned(),
        cure: "`newuidmap` and `newgidmap` must be set-user-id root, or in a container have the file capabilities \
               `setcap cap_setuid+ep` and `cap_setgid+ep`, and the range must be free for this user"
            .to_owned(),
    }
}

fn wait_for(child: Pid) -> io::Result<i32> {
    let ended = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child), WaitOptions::empty()))?;
    Ok(ended.and_then(|(_, status)| status.exit_status()).unwrap_or(-1))
}

fn find_program(name: &str, search_path: Option<&OsStr>) -> Option<PathBuf> {
    let own = search_path.map(std::env::split_paths).into_iter().flatten();
    let usual = ["/usr/bin", "/bin", "/usr/local/bin"].map(PathBuf::from);
    own.filter(|folder| folder.is_absolute())
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The hidden entry `__as-user UID GID PROGRAM ARGUMENTS…`: runs a program of the user's (ssh, a credential helper) so
/// that it sees itself as that user and not as root of the management namespace. Returns only when that failed.
pub fn as_user_main(arguments: &[OsString]) -> i32 {
    const NOT_STARTED: i32 = 127;
    let number = |position: usize| arguments.get(position)?.to_str()?.parse::<u32>().ok();
    let (Some(uid), Some(gid), Some(program)) = (number(0), number(1), arguments.get(2)) else {
        return NOT_STARTED;
    };
    if uid != 0 && become_user(uid, gid).is_err() {
        return NOT_STARTED;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the wrapper that owners of user programs go through"
    )]
    let mut command = std::process::Command::new(program);
    drop(command.args(&arguments[3..]).exec());
    NOT_STARTED
}

/// Makes a namespace in which root of the management namespace, that is the real user, has its real numbers.
fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    linux::unshare(UnshareFlags::NEWUSER)?;
    map_self([uid, 0], [gid, 0])
}

/// Maps one user and one group in the namespace that this process has just made: each as inside, outside.
pub(crate) fn map_self([uid, uid_outside]: [u32; 2], [gid, gid_outside]: [u32; 2]) -> io::Result<()> {
    // The kernel demands it of whoever maps a group without privilege.
    write_map(Path::new("/proc/self/setgroups"), "deny")?;
    write_map(Path::new("/proc/self/uid_map"), &format!("{uid} {uid_outside} 1"))?;
    write_map(Path::new("/proc/self/gid_map"), &format!("{gid} {gid_outside} 1"))
}

/// Writes an id map in one write, as the kernel demands.
pub(crate) fn write_map(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

/// The wrapper's arguments in front of a program of the user's; none when no wrapper is needed.
pub fn as_user_arguments(identity: Identity) -> Vec<OsString> {
    match identity {
        Identity::Root | Identity::Nested | Identity::Contained | Identity::RootAlone => Vec::new(),
        Identity::Rootless { uid, gid } | Identity::Single { uid, gid } => {
            ["__as-user".to_owned(), uid.to_string(), gid.to_string()]
                .map(OsString::from)
                .to_vec()
        }
    }
}

/// A number from the bytes that tell a machine's packhorse directories apart.
pub(crate) fn number_of(bytes: &OsStr) -> u64 {
    // FNV-1a: spreads, needs no secret.
    bytes.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::DumpableBehavior;

    use super::*;

    #[test]
    fn a_user_without_a_range_is_told_the_cure() {
        let surroundings = Surroundings {
            uid: 1234,
            gid: 1234,
            uid_map: String::new(),
            may_mount: false,
            subordinate_uids: None,
            subordinate_gids: None,
            newuidmap: Some("/usr/bin/newuidmap".into()),
            newgidmap: Some("/usr/bin/newgidmap".into()),
        };
        let missing = missing_for_a_range(&surroundings).unwrap();
        assert_eq!(missing.why, "`/etc/subuid` gives user 1234 no range of 65536 ids");
        assert!(missing.cure.contains("usermod --add-subuids"), "{}", missing.cure);
        let missing = missing_for_a_range(&Surroundings {
            newuidmap: None,
            ..surroundings
        });
        assert!(missing.unwrap().cure.contains("apt install uidmap"));
    }

    /// The first plain user of `/etc/subuid`, which `scripts/setup tests` makes if need be.
    fn plain_user() -> (u32, u32) {
        let subordinate = fs::read_to_string("/etc/subuid").unwrap();
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let account = |name: &str| {
            let line = passwd
                .lines()
                .find(|line| line.starts_with(&format!("{name}:")))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        let names = subordinate.lines().filter_map(|line| line.split(':').next());
        let mut users = names.filter(|name| *name != "root").filter_map(account);
        users.next().expect("no plain user has subordinate ids")
    }

    /// Whether `enter` makes a plain user what `identity` says, with `map` as `/proc/self/uid_map` (fields, one blank).
    fn becomes(identity: Identity, (uid, gid): (u32, u32), map: impl Fn(&str) -> bool) -> i32 {
        let act = || {
            let (user, group) = (
                rustix::process::Uid::from_raw(uid),
                rustix::process::Gid::from_raw(gid),
            );
            let dropped = rustix::thread::set_thread_groups(&[])
                .and_then(|()| rustix::thread::set_thread_res_gid(group, group, group))
                .and_then(|()| rustix::thread::set_thread_res_uid(user, user, user))
                // Changing ids cleared it, and its files in `/proc` were root's.
                .and_then(|()| rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable));
            let surroundings = Surroundings::read(None, None);
            if dropped.is_err() || surroundings.uid != uid {
                return 2;
            }
            if enter(identity, &surroundings).is_err() {
                return 3;
            }
            let found = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
            let fields: Vec<&str> = found.split_whitespace().collect();
            if !rustix::process::getuid().is_root() || !map(&fields.join(" ")) {
                return 4;
            }
            0
        };
        match linux::fork().unwrap() {
            Forked::Child => linux::exit_now(act()),
            Forked::Parent(child) => wait_for(child).unwrap(),
        }
    }

    #[test]
    #[ignore = "needs root, to become a plain user"]
    fn a_plain_user_becomes_root_of_a_namespace_of_its_own() {
        let (uid, gid) = plain_user();
        let with_range = |map: &str| map.starts_with(&format!("0 {uid} 1 1 ")) && map.ends_with(" 65536");
        assert_eq!(
            becomes(Identity::Rootless { uid, gid }, (uid, gid), with_range),
            0
        );
        let alone = |map: &str| map == format!("0 {uid} 1");
        assert_eq!(becomes(Identity::Single { uid, gid }, (uid, gid), alone), 0);
    }
}
