//! What a job is made of: everything that `sandbox::start` needs to know.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::limits::Limits;
use crate::sandbox::certificates;
use crate::sandbox::chroot::leftovers::Mark;
use crate::sandbox::directory::JobDirectory;
use crate::sandbox::ladder::Ground;
use crate::sandbox::ladder::Walls;

/// The address at which the job's name server listens; it is in the job's `resolv.conf`.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Ports that a job's connections are always taken from: ssh, http, https, git.
pub const USUAL_PORTS: [u16; 4] = [22, 80, 443, 9418];

/// One job.
#[derive(Debug)]
pub struct JobSpec {
    /// Its directory, made for it; removed when the job is dropped.
    pub directory: JobDirectory,
    /// The program that has the entry `__monitor`; usually `/proc/self/exe`.
    pub program: PathBuf,
    /// What it stands on.
    pub ground: Ground,
    /// Unpacked trees of the root file system, the top one first; at least one, never written.
    pub root_layers: Vec<PathBuf>,
    /// The trees behind `/layers`.
    pub layers: LayersState,
    /// A plain tree, at `/workspace` for reading and writing.
    pub workspace: PathBuf,
    /// More of the machine's folders and files.
    pub binds: Vec<Bind>,
    /// Whom commands run as.
    pub user: User,
    /// What they may use up.
    pub limits: Limits,
    /// The job's host name.
    pub hostname: String,
    /// Its way out.
    pub network: Network,
    /// A bundle of CA certificates to stand over the image's own and to be named in every command's environment.
    pub environment_ca: Option<PathBuf>,
    /// Time between TERM and KILL when the wall clock ends something.
    pub grace: Duration,
}

impl JobSpec {
    /// How its processes are told from the machine's, where it has no namespace for them.
    pub(crate) fn mark(&self) -> Option<Mark> {
        (self.ground.walls == Walls::Chroot).then(|| Mark::of(self.user.uid, self.directory.id()))
    }

    /// What every command gets that has not set it itself.
    pub(crate) fn variables(&self) -> Variables {
        let certificates = self.environment_ca.as_ref().map(|_| certificates::variables());
        let mut variables = certificates.unwrap_or_default();
        if let Network::Proxy { variables: proxy, .. } = &self.network {
            variables.extend(proxy.iter().cloned());
        }
        variables
    }
}

/// The trees behind `/layers`. The kernel wants `upper` on a file system that is no overlay itself.
#[derive(Debug, Clone)]
pub struct LayersState {
    /// Trees below, the newest first; none gives a plain folder.
    pub lowers: Vec<PathBuf>,
    /// A folder for `upper` (what the job writes; the store renames it afterwards) and `work`. Both are made if they
    /// are missing.
    pub directory: PathBuf,
    /// Leave out every fsync; the pair of upper and work can then be mounted only once.
    pub volatile: bool,
}

/// A folder or file of the machine inside the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Where it is on the machine.
    pub source: PathBuf,
    /// Where it appears: an absolute path inside the job, made if it is missing.
    pub target: PathBuf,
    /// Whether the job may write to it.
    pub mode: BindMode,
}

/// Whether a job may write to a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindMode {
    /// It may not.
    ReadOnly,
    /// It may, where owner and mode allow it.
    ReadWrite,
}

/// The highest number that a job's user may have; 65534 is nobody.
const USER_NUMBER_MAX: u32 = 65_533;

/// Whom a job's commands run as: numbers inside the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user, at most 65533.
    pub uid: u32,
    /// The group, at most 65533.
    pub gid: u32,
    /// The name that `/etc/passwd` gets if it has no line for `uid`.
    pub name: String,
    /// The home folder, made if it is missing.
    pub home: PathBuf,
}

impl User {
    /// Why no job may have this user, if none may.
    pub fn problem(&self) -> Option<String> {
        let Self { uid, gid, name, home } = self;
        if *uid > USER_NUMBER_MAX || *gid > USER_NUMBER_MAX {
            return Some(format!("{uid}:{gid} is beyond {USER_NUMBER_MAX}"));
        }
        if !is_plain(name) {
            return Some(format!("`{}` is no name", name.escape_debug()));
        }
        (!home.is_absolute()).then(|| format!("the home folder `{}` is not an absolute path", home.display()))
    }
}

/// Whether a name can stand in a line of `/etc/passwd` or `/etc/hosts`, and as one part of a path.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains([':', '\n', '\0', '/'])
}

/// A job's way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Nothing but its own loopback.
    None,
    /// That of the machine, where a job has no network namespace. Its commands may connect to this TCP port alone, at which
    /// the worker's proxy listens (Linux 6.7), on whichever host, and have no UDP; those that start before
    /// [`NativeJob::open_network`](crate::sandbox::native::NativeJob::open_network) connect to nothing.
    Proxy {
        /// The proxy's port on loopback.
        port: u16,
        /// The variables that name it, with the job's own password.
        variables: Vec<(OsString, OsString)>,
    },
    /// Every connection to [`USUAL_PORTS`] and these ports is taken by listeners that the worker gets.
    Listeners {
        /// More ports.
        ports: Vec<u16>,
    },
    /// The machine's own network, without a way to refuse anything. Commands that start before
    /// [`NativeJob::open_network`](crate::sandbox::native::NativeJob::open_network) have a loopback alone.
    Host,
}

/// Sockets inside a job's network namespace; close them when the job ends, they keep the namespace.
#[derive(Debug)]
pub struct JobSockets {
    /// Listening TCP sockets, not blocking. `getsockname` of an accepted connection is what the job dialled.
    pub tcp: Vec<OwnedFd>,
    /// A UDP socket at [`NAME_SERVER`] port 53, not blocking.
    pub dns: OwnedFd,
    /// A raw socket on which the first packet of each IPv4 connection arrives, whether somebody listens or not; none
    /// where the kernel gives none.
    pub attempts: Option<OwnedFd>,
}

/// Environment variables, in order.
pub(crate) type Variables = Vec<(OsString, OsString)>;
