//! A job of our own runner, as the worker holds it.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::model::limits::Limits;
use crate::sandbox::attachment::Attachment;
use crate::sandbox::cgroup;
use crate::sandbox::chroot::layers::Layers;
use crate::sandbox::command::Command;
use crate::sandbox::command::Exit;
use crate::sandbox::connect;
use crate::sandbox::directory::JobDirectory;
use crate::sandbox::disk_usage::DiskWatch;
use crate::sandbox::ending;
use crate::sandbox::error::SandboxError;
use crate::sandbox::files;
use crate::sandbox::job::Entry;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;
use crate::sandbox::job::Output;
use crate::sandbox::kill_handle::KillHandle;
use crate::sandbox::kill_handle::Shared;
use crate::sandbox::ladder::Walls;
use crate::sandbox::launch;
use crate::sandbox::message::Answer;
use crate::sandbox::message::Counters;
use crate::sandbox::message::Ended;
use crate::sandbox::message::FileRequest;
use crate::sandbox::message::Request;
use crate::sandbox::running;
use crate::sandbox::secret_mount;
use crate::sandbox::socket::Socket;
use crate::sandbox::spec::JobSockets;
use crate::sandbox::spec::JobSpec;
use crate::sandbox::spec::Network;
use crate::sandbox::spec::Variables;
use crate::sandbox::turn::Turns;

/// How long the end of a job may take before its monitor is killed too.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// A running job. Dropping it kills everything inside and removes its directory.
pub struct NativeJob {
    pub(crate) shared: Arc<Shared>,
    requests: Socket,
    monitor: Mutex<Child>,
    directory: JobDirectory,
    sockets: Mutex<Option<JobSockets>>,
    /// Where they are moved and not mounted.
    layers: Mutex<Option<Layers>>,
    /// Why the job died, once somebody asked.
    ended: Mutex<Option<Ended>>,
    notes: Vec<String>,
    rung: String,
    pub(crate) counters: Counters,
    /// Its first process, as the worker sees it.
    pub(crate) init: u32,
    pub(crate) has_disk_limit: bool,
    pub(crate) disk: Mutex<Option<DiskWatch>>,
    pub(crate) limits: Limits,
    pub(crate) grace: Duration,
    pub(crate) deadline: Instant,
    pub(crate) variables: Variables,
    pub(crate) turns: Turns,
    /// Whether commands that start now are kept out of the machine's network, which the job has.
    apart: AtomicBool,
}

impl NativeJob {
    /// Starts a job; its wall clock begins.
    pub fn start(spec: JobSpec) -> Result<Self, SandboxError> {
        let deadline = Instant::now() + spec.limits.timeout;
        let launched = launch::launch(&spec)?;
        let begins_apart = matches!(spec.network, Network::Host | Network::Proxy { .. });
        let disk = DiskWatch::begin(&spec);
        let limits_in_force = launched.limits.join(", ");
        Ok(Self {
            shared: Arc::new(Shared::new(launched.control)),
            requests: launched.requests,
            monitor: Mutex::new(launched.monitor),
            sockets: Mutex::new(launched.sockets),
            layers: Mutex::new((spec.ground.walls == Walls::Chroot).then(|| Layers::of(&spec))),
            ended: Mutex::new(None),
            notes: launched.notes,
            rung: format!("{}; {limits_in_force}", spec.ground.words()),
            counters: launched.counters,
            init: launched.init,
            has_disk_limit: disk.is_some(),
            disk: Mutex::new(disk),
            variables: spec.variables(),
            directory: spec.directory,
            limits: spec.limits,
            grace: spec.grace,
            deadline,
            turns: Turns::default(),
            apart: AtomicBool::new(begins_apart),
        })
    }

    /// What is missing on this machine, in sentences for the log.
    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// The rung that is in force and the limits that hold, in words for log and report.
    pub fn rung(&self) -> &str {
        &self.rung
    }

    /// The job's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The sockets of a job with a way out; once. Close them when the job ends.
    pub fn take_sockets(&self) -> Option<JobSockets> {
        lock(&self.sockets).take()
    }

    /// Lets commands that start from now on use the machine's network in a job with [`Network::Host`], the worker's proxy
    /// in one with [`Network::Proxy`].
    pub fn open_network(&self) {
        self.apart.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_apart(&self) -> bool {
        self.apart.load(Ordering::SeqCst)
    }

    /// Kills the job from another thread.
    pub fn kill_handle(&self) -> KillHandle {
        KillHandle::new(&self.shared)
    }

    /// A TCP connection to a port on the job's own loopback.
    pub fn connect_inside(&self, port: u16) -> Result<OwnedFd, JobError> {
        connect::connect_to_loopback(self, port)
    }

    /// Sends a request and gives back the socket on which the answers come.
    pub(crate) fn send(
        &self,
        during: &str,
        request: &Request,
        with: &[BorrowedFd<'_>],
    ) -> Result<Socket, JobError> {
        if self.is_cancelled() {
            return Err(JobError::Cancelled);
        }
        let ended = |error: io::Error| JobError::Ended {
            during: during.to_owned(),
            why: error.to_string(),
        };
        let (answers, answer) = Socket::pair().map_err(ended)?;
        let mut descriptors = vec![answer.as_fd()];
        descriptors.extend(with);
        match self.requests.send(request, &descriptors) {
            Ok(()) => Ok(answers),
            Err(_) => Err(self.death(during)),
        }
    }

    /// Sends a request and waits for its one answer.
    pub(crate) fn ask(
        &self,
        during: &str,
        request: &Request,
        with: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Option<OwnedFd>), JobError> {
        let answers = self.send(during, request, with)?;
        match answers.receive::<Answer>() {
            Ok(Some((answer, descriptors))) => Ok((answer, descriptors.into_iter().next())),
            Ok(None) | Err(_) => Err(self.death(during)),
        }
    }

    pub(crate) fn ask_file(
        &self,
        during: &str,
        request: FileRequest,
        with: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Option<OwnedFd>), JobError> {
        self.ask(during, &Request::File(request), with)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.is_cancelled()
    }

    /// How many of the job's processes the kernel has killed for memory until now.
    pub(crate) fn memory_kills(&self) -> u64 {
        cgroup::memory_kills(&self.counters)
    }

    /// Ends the job at once, for good.
    pub(crate) fn end(&self) {
        self.shared.control.shut_down();
    }

    /// The number of the monitor's process.
    pub(crate) fn monitor_number(&self) -> u32 {
        lock(&self.monitor).id()
    }

    /// Why the job died.
    pub(crate) fn reason(&self) -> Ended {
        let mut ended = lock(&self.ended);
        if ended.is_none() {
            *ended = ending::reason(&self.shared.control);
        }
        ended
            .clone()
            .unwrap_or_else(|| Ended::because("no answer came".to_owned()))
    }

    pub(crate) fn death(&self, during: &str) -> JobError {
        if self.is_cancelled() {
            return JobError::Cancelled;
        }
        JobError::Ended {
            during: during.to_owned(),
            why: self.reason().why,
        }
    }

    fn done(
        &self,
        during: &str,
        action: &'static str,
        path: &Path,
        request: &Request,
    ) -> Result<(), JobError> {
        let why = match self.ask(during, request, &[])?.0 {
            Answer::Done => return Ok(()),
            Answer::Failed { why } => why,
            other => format!("an odd answer: {other:?}"),
        };
        Err(JobError::File {
            action,
            path: path.display().to_string(),
            why,
        })
    }
}

impl Job for NativeJob {
    fn run(&self, command: &Command, output: Output<'_>) -> Result<Exit, JobError> {
        running::run(self, command, None, output)
    }

    fn run_attached(
        &self,
        command: &Command,
        attachment: &Attachment<'_>,
        output: Output<'_>,
    ) -> Result<Exit, JobError> {
        running::run(self, command, Some(attachment), output)
    }

    fn sweep(&self) -> Result<(), JobError> {
        self.done("killing what is left", "sweep", Path::new("/"), &Request::Sweep)
    }

    fn attach_layers(&self) -> Result<(), JobError> {
        if let Some(layers) = lock(&self.layers).as_mut() {
            return layers.attach().map_err(|error| JobError::File {
                action: "attach",
                path: "/layers".to_owned(),
                why: error.to_string(),
            });
        }
        self.done(
            "attaching the layers",
            "attach",
            Path::new("/layers"),
            &Request::AttachLayers,
        )
    }

    fn show_secrets(&self, folder: &Path, files: &[(&Path, &[u8])]) -> Result<(), JobError> {
        // A mount there would be the machine's own, and stay when this process is killed.
        if lock(&self.layers).is_some() {
            return Err(JobError::Secrets {
                why: "this rung has no mounts of its own".to_owned(),
            });
        }
        secret_mount::show(self, folder, files)
    }

    fn hide_secrets(&self, folder: &Path) -> Result<(), JobError> {
        secret_mount::hide(self, folder)
    }

    fn read_file(&self, path: &Path, size_bytes_max: u64) -> Result<Option<Vec<u8>>, JobError> {
        files::read_file(self, path, size_bytes_max)
    }

    fn list(&self, path: &Path, entries_max: usize) -> Result<Vec<Entry>, JobError> {
        files::list(self, path, entries_max)
    }

    fn write_file(&self, path: &Path, contents: &[u8], mode: u32) -> Result<(), JobError> {
        files::write_file(self, path, contents, mode)
    }

    fn make_directory(&self, path: &Path) -> Result<(), JobError> {
        files::change(
            self,
            "make",
            path,
            FileRequest::MakeDirectory { path: path.into() },
        )
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), JobError> {
        files::change(
            self,
            "rename",
            from,
            FileRequest::Rename {
                from: from.into(),
                to: to.into(),
            },
        )
    }

    fn remove(&self, path: &Path) -> Result<(), JobError> {
        files::change(self, "remove", path, FileRequest::Remove { path: path.into() })
    }

    fn open_directory(&self, path: &Path) -> Result<OwnedFd, JobError> {
        files::open_directory(self, path)
    }
}

impl Drop for NativeJob {
    fn drop(&mut self) {
        self.end();
        // They keep the job's network namespace.
        drop(self.take_sockets());
        let mut monitor = lock(&self.monitor);
        if !ending::ends_within(&monitor, END_TIMEOUT) {
            // Init dies with it.
            drop(monitor.kill());
        }
        drop(monitor.wait());
        if let Some(layers) = lock(&self.layers).as_mut() {
            // What stays inside goes with the job's directory; the next build then begins without it.
            drop(layers.detach());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
