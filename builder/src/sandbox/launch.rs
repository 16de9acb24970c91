//! Starts a monitor: makes the job's folders, sends it the spec, waits until the job is there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::fs::SealFlags;
use rustix::net::SocketType;

use crate::sandbox::certificates;
use crate::sandbox::chroot::layout;
use crate::sandbox::chroot::leftovers::Mark;
use crate::sandbox::chroot::tenancy;
use crate::sandbox::directory;
use crate::sandbox::error::SandboxError;
use crate::sandbox::error::start_error_at;
use crate::sandbox::id_range;
use crate::sandbox::identity::IDS_OF_A_JOB;
use crate::sandbox::identity::Identity;
use crate::sandbox::job_files;
use crate::sandbox::ladder::Trees;
use crate::sandbox::ladder::Walls;
use crate::sandbox::message::Counters;
use crate::sandbox::message::Ended;
use crate::sandbox::message::IdMap;
use crate::sandbox::message::Ids;
use crate::sandbox::message::Report;
use crate::sandbox::message::Start;
use crate::sandbox::message::StartBind;
use crate::sandbox::socket::Socket;
use crate::sandbox::spec::BindMode;
use crate::sandbox::spec::JobSockets;
use crate::sandbox::spec::JobSpec;
use crate::sandbox::spec::Network;
use crate::sandbox::spec::USUAL_PORTS;
use crate::sandbox::spec::is_plain;
use crate::sandbox::step::MAKE_NAMESPACES;
use crate::sandbox::step::StepError;

/// Making a job takes milliseconds; on a machine that is on its knees, seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// What the monitor waits beyond the job's own wall clock, so that the worker can end it in good order.
const MONITOR_GRACE: Duration = Duration::from_secs(30);

/// Names are asked over TCP too.
const NAME_PORT: u16 = 53;
/// A job that is there.
pub(crate) struct Launched {
    pub(crate) monitor: Child,
    pub(crate) control: Socket,
    pub(crate) requests: Socket,
    pub(crate) sockets: Option<JobSockets>,
    pub(crate) notes: Vec<String>,
    pub(crate) limits: Vec<String>,
    pub(crate) counters: Counters,
    pub(crate) init: u32,
}

/// Starts the monitor of a job and waits until the job is there.
pub(crate) fn launch(spec: &JobSpec) -> Result<Launched, SandboxError> {
    check(spec)?;
    let range = match spec.ground.identity {
        Identity::Root => {
            Some(id_range::take(&spec.directory.ranges()).map_err(start_error("take a range of user ids"))?)
        }
        _ => None,
    };
    let ids = match (spec.ground.identity, &range) {
        (Identity::Single { .. }, _) => Ids::Single,
        (_, Some(range)) => Ids::Mapped(IdMap {
            first: range.first,
            count: IDS_OF_A_JOB,
            idmapped_mounts: true,
        }),
        (Identity::RootAlone, None) => Ids::Outer,
        (Identity::Root | Identity::Nested | Identity::Contained | Identity::Rootless { .. }, None) => {
            Ids::Mapped(IdMap {
                first: spec.ground.owners().on_disk(0),
                count: IDS_OF_A_JOB - 1,
                idmapped_mounts: false,
            })
        }
    };
    let tenancy = spec.mark().map(|mark| take_user(spec, mark)).transpose()?;
    job_files::make_folders(spec)?;
    if tenancy.is_some() {
        layout::lay_out(spec)?;
    }
    let (control, control_of_monitor) = Socket::pair().map_err(start_error("make a socket"))?;
    let (requests, requests_of_init) = Socket::pair().map_err(start_error("make a socket"))?;
    let mut monitor = spawn(spec, control_of_monitor)?;
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![requests_of_init.as_fd(), spec.directory.lock()];
    descriptors.extend(range.as_ref().map(|range| range.lock.as_fd()));
    descriptors.extend(tenancy.as_ref().map(AsFd::as_fd));
    let ready = control
        .send(&start_message(spec, ids), &descriptors)
        .map_err(start_error("send the spec to the monitor"))
        .and_then(|()| receive_ready(&control));
    drop(requests_of_init);
    let (report, sockets) = match ready {
        Ok(ready) => ready,
        Err(error) => {
            control.shut_down();
            drop(monitor.wait());
            return Err(error);
        }
    };
    let Report::Ready {
        notes,
        counters,
        limits,
        init,
    } = report
    else {
        drop(monitor.wait());
        return Err(failure_of(report));
    };
    Ok(Launched {
        monitor,
        control,
        requests,
        sockets: job_sockets(spec, sockets),
        notes,
        limits,
        counters,
        init,
    })
}

/// The user that the job alone has, and a note of it for the janitor.
fn take_user(spec: &JobSpec, mark: Mark) -> Result<OwnedFd, SandboxError> {
    let held = tenancy::take(mark.user).map_err(failure_of_step)?;
    let directory = spec.directory.path();
    directory::record_mark(directory, mark).map_err(start_error_at("write into", directory))?;
    Ok(held)
}

fn check(spec: &JobSpec) -> Result<(), SandboxError> {
    let wrong = |why: String| Err(SandboxError::Spec(why));
    if spec.root_layers.is_empty() {
        return wrong("the root file system has no layers".to_owned());
    }
    if let Some(problem) = spec.user.problem() {
        return wrong(format!("its user cannot be: {problem}"));
    }
    if spec.ground.walls == Walls::Chroot && spec.network == Network::Host {
        return Err(SandboxError::Forbidden {
            what: "giving build steps the machine's network and detection none".to_owned(),
            why: "this rung has no network namespaces".to_owned(),
            cure: "leave `--network host` out: connections through the builder's proxy work here".to_owned(),
        });
    }
    if spec.ground.walls == Walls::Chroot && spec.user.uid == 0 {
        return Err(SandboxError::Forbidden {
            what: "running as root of the image".to_owned(),
            why: "without namespaces that is root of this machine".to_owned(),
            cure: "run where a stronger sandbox is to be had, or an image with another user".to_owned(),
        });
    }
    if !is_plain(&spec.hostname) {
        return wrong(format!("`{}` is no name", spec.hostname));
    }
    let mut targets = spec.binds.iter().map(|bind| bind.target.as_path());
    match targets.find(|path| !path.is_absolute()) {
        Some(path) => wrong(format!("`{}` is not an absolute path", path.display())),
        None => Ok(()),
    }
}

fn spawn(spec: &JobSpec, control: Socket) -> Result<Child, SandboxError> {
    // A job of this user's own id could change the program's file through `/proc/self/exe` (CVE-2019-5736), not this;
    // without user namespaces user 0 has it.
    let copy = match spec.ground.identity {
        Identity::Single { .. } | Identity::RootAlone => {
            Some(sealed_copy(&spec.program).map_err(start_error("copy the program into memory"))?)
        }
        _ => None,
    };
    let program = copy.as_ref().map_or_else(
        || spec.program.clone(),
        |copy| PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())),
    );
    #[expect(clippy::disallowed_methods, reason = "the sandbox owns its monitors")]
    let mut command = std::process::Command::new(program);
    command.arg("__monitor").env_clear().current_dir("/");
    command
        .stdin(Stdio::from(OwnedFd::from(control)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().map_err(start_error("start the monitor"))
}

/// A copy of a program that lives in memory and that nobody can change.
fn sealed_copy(program: &Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = fs::File::from(rustix::fs::memfd_create("packhorse", flags)?);
    io::copy(&mut fs::File::open(program)?, &mut copy)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

fn start_message(spec: &JobSpec, ids: Ids) -> Start {
    let stacked = |trees: &[PathBuf]| -> Vec<OsString> {
        match spec.ground.trees {
            Trees::Overlay => trees.iter().map(|tree| tree.clone().into()).collect(),
            Trees::Copies => Vec::new(),
        }
    };
    let workspace = StartBind {
        source: spec.workspace.clone().into(),
        target: "/workspace".into(),
        read_only: false,
        only_over_existing: false,
    };
    let named = spec.binds.iter().map(|bind| StartBind {
        source: bind.source.clone().into(),
        target: bind.target.clone().into(),
        read_only: bind.mode == BindMode::ReadOnly,
        only_over_existing: false,
    });
    let certificates = spec
        .environment_ca
        .iter()
        .flat_map(|bundle| certificates::binds(bundle));
    let lifetime = spec.limits.timeout + spec.limits.visit_timeout + spec.grace + MONITOR_GRACE;
    Start {
        id: spec.directory.id().to_owned(),
        directory: spec.directory.path().into(),
        ids,
        proc: spec.ground.proc,
        trees: spec.ground.trees,
        walls: spec.ground.walls,
        mark: spec.mark().map(|mark| mark.group),
        root_layers: stacked(&spec.root_layers),
        layers_lowers: stacked(&spec.layers.lowers),
        layers_directory: spec.layers.directory.clone().into(),
        layers_volatile: spec.layers.volatile,
        binds: std::iter::once(workspace)
            .chain(named)
            .chain(certificates)
            .collect(),
        uid: spec.user.uid,
        gid: spec.user.gid,
        user_name: spec.user.name.clone(),
        home: spec.user.home.clone().into(),
        hostname: spec.hostname.clone(),
        ports: ports(&spec.network),
        proxy_port: match spec.network {
            Network::Proxy { port, .. } => Some(port),
            Network::None | Network::Listeners { .. } | Network::Host => None,
        },
        host_network: spec.network == Network::Host,
        memory_bytes_max: spec.limits.memory_bytes_max,
        processes_max: spec.limits.processes_max,
        cpu_hundredths_max: spec.limits.cpu_hundredths_max,
        lifetime_ms_max: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
    }
}

fn ports(network: &Network) -> Option<Vec<u16>> {
    match network {
        Network::None | Network::Proxy { .. } | Network::Host => None,
        Network::Listeners { ports } => {
            let always = USUAL_PORTS.iter().chain(&[NAME_PORT]);
            let mut all: Vec<u16> = always.chain(ports).copied().collect();
            all.sort_unstable();
            all.dedup();
            Some(all)
        }
    }
}

fn receive_ready(control: &Socket) -> Result<(Report, Vec<OwnedFd>), SandboxError> {
    let failed = || start_error("hear from the monitor");
    control.limit_wait(START_TIMEOUT).map_err(failed())?;
    let received = control.receive::<Report>().map_err(failed())?;
    control.limit_wait(Duration::ZERO).map_err(failed())?;
    received.ok_or_else(|| failed()(io::Error::other("it died")))
}

fn failure_of(report: Report) -> SandboxError {
    match report {
        Report::Failed(error) => failure_of_step(error),
        Report::Ended(Ended { why, .. }) => SandboxError::Start {
            step: "make the job".to_owned(),
            why,
        },
        Report::Ready { .. } => SandboxError::Start {
            step: "make the job".to_owned(),
            why: "no reason".to_owned(),
        },
    }
}

fn failure_of_step(StepError { step, why, number }: StepError) -> SandboxError {
    if step == tenancy::TAKE_USER {
        return SandboxError::Busy { why };
    }
    let is_forbidden = match number {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => true,
        // No more namespaces, says the kernel so; of anything else it means a full disk.
        Some(libc::ENOSPC | libc::EUSERS) => step == MAKE_NAMESPACES,
        _ => false,
    };
    if is_forbidden {
        return SandboxError::Forbidden {
            what: format!("cannot {step}"),
            why,
            cure: "in a container allow it with `--security-opt seccomp=unconfined \
                   --security-opt systempaths=unconfined` (and `apparmor=unconfined`); on a machine of its own \
                   look at `sysctl user.max_user_namespaces`"
                .to_owned(),
        };
    }
    // An overlay that finds no room for its work folder is mounted all the same, for reading alone.
    if matches!(number, Some(libc::ENOSPC | libc::EROFS)) {
        SandboxError::DiskFull { step, why }
    } else {
        SandboxError::Start { step, why }
    }
}

fn job_sockets(spec: &JobSpec, sockets: Vec<OwnedFd>) -> Option<JobSockets> {
    ports(&spec.network)?;
    let is_raw = |socket: &OwnedFd| rustix::net::sockopt::socket_type(socket) == Ok(SocketType::RAW);
    let (raw, sockets): (Vec<OwnedFd>, Vec<OwnedFd>) = sockets.into_iter().partition(is_raw);
    let mut sockets = sockets.into_iter();
    let dns = sockets.next()?;
    Some(JobSockets {
        dns,
        tcp: sockets.collect(),
        attempts: raw.into_iter().next(),
    })
}

/// What fails on this side of the monitor is not what machines forbid.
fn start_error(step: &'static str) -> impl FnOnce(io::Error) -> SandboxError {
    move |source| {
        let (step, why) = (step.to_owned(), source.to_string());
        match source.kind() {
            io::ErrorKind::StorageFull => SandboxError::DiskFull { step, why },
            _ => SandboxError::Start { step, why },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::failure::Failure as _;

    #[test]
    fn what_the_kernel_says_means_something_else_for_each_step() {
        for (step, number, code) in [
            (MAKE_NAMESPACES, libc::ENOSPC, "sandbox_forbidden"),
            (MAKE_NAMESPACES, libc::EUSERS, "sandbox_forbidden"),
            (MAKE_NAMESPACES, libc::EPERM, "sandbox_forbidden"),
            ("make a /proc of its own", libc::EPERM, "sandbox_forbidden"),
            ("write `etc/passwd`", libc::ENOSPC, "disk_full"),
            ("make the mount point `/workspace`", libc::EROFS, "disk_full"),
            ("write `etc/passwd`", libc::EIO, "sandbox_start"),
        ] {
            let error = failure_of(Report::Failed(StepError {
                step: step.to_owned(),
                why: "no".to_owned(),
                number: Some(number),
            }));
            assert_eq!(error.facts().code, code, "{step} {number}");
        }
    }

    #[test]
    fn a_disk_that_is_full_is_named_as_such() {
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let on_the_way = start_error("take a range of user ids")(full());
        let in_a_folder = start_error_at("make", Path::new("/jobs/1"))(full());
        for error in [on_the_way, in_a_folder] {
            assert_eq!(error.facts().code, "disk_full", "{error}");
        }
    }
}
