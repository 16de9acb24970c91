//! PID 1 of a job: it builds the root file system, then starts commands and file processes on request and reaps them.
//!
//! It has every capability of the job's user namespace and no other, is not dumpable, and dies with the monitor. On the
//! rung without namespaces it is a process among the machine's, and ends the job before it ends with the monitor.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::process::DumpableBehavior;
use rustix::process::Gid;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::Uid;
use rustix::process::WaitOptions;
use rustix::process::WaitStatus;

use crate::sandbox::chroot::leftovers;
use crate::sandbox::command_process;
use crate::sandbox::device::attach_new;
use crate::sandbox::file_process;
use crate::sandbox::filter::Filters;
use crate::sandbox::ladder::Walls;
use crate::sandbox::landlock_rules;
use crate::sandbox::linux;
use crate::sandbox::linux::Forked;
use crate::sandbox::message::Answer;
use crate::sandbox::message::Counters;
use crate::sandbox::message::Ids;
use crate::sandbox::message::Report;
use crate::sandbox::message::Request;
use crate::sandbox::message::RunRequest;
use crate::sandbox::message::Setup;
use crate::sandbox::message::Start;
use crate::sandbox::mount::JobMounts;
use crate::sandbox::mount_point::Place;
use crate::sandbox::network_namespace;
use crate::sandbox::root;
use crate::sandbox::secret_mount;
use crate::sandbox::socket::Socket;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;

/// Tries to end what a step has left, where that is not one call.
const SWEEP_TRIES_MAX: u32 = 5000;

/// What init inherits from the monitor.
pub(crate) struct Init {
    pub(crate) start: Start,
    pub(crate) filters: Filters,
    /// Where the worker's requests come from.
    pub(crate) requests: Socket,
    /// The limit of processes where no cgroup has it.
    pub(crate) process_limit: Option<u64>,
}

/// Runs until the worker's end of the requests is closed, or until the monitor kills it.
pub(crate) fn main(init: Init, setup: &Socket) -> ! {
    match prepare(&init.start, setup) {
        Ok(prepared) => {
            let sockets: Vec<BorrowedFd<'_>> = prepared.sockets.iter().map(AsFd::as_fd).collect();
            let report = Report::Ready {
                notes: prepared.notes,
                counters: Counters::default(),
                init: 0,
                limits: Vec::new(),
            };
            if setup.send(&report, &sockets).is_err() {
                linux::exit_now(1);
            }
            // The worker has the sockets now; here they would be inherited and would keep the ports.
            drop(prepared.sockets);
            let mut server = Server {
                init,
                layers: prepared.layers,
                commands: HashMap::new(),
            };
            let ended = server.serve(setup);
            linux::exit_now(i32::from(ended.is_err()));
        }
        Err(error) => {
            drop(setup.send(&Report::Failed(error), &[]));
            linux::exit_now(1);
        }
    }
}

struct Prepared {
    layers: Option<OwnedFd>,
    sockets: Vec<OwnedFd>,
    notes: Vec<String>,
}

fn prepare(start: &Start, setup: &Socket) -> Result<Prepared, StepError> {
    let died = || "hear from the monitor".to_owned();
    let gone = || Err(rustix::io::Errno::PIPE);
    match setup.receive::<Setup>().step(died)? {
        Some((Setup::IdsMapped, _)) => {}
        _ => return gone().step(died),
    }
    become_root_of_the_job(start)?;
    let mut received = Vec::new();
    loop {
        match setup.receive::<Setup>().step(died)? {
            Some((Setup::Mounts { more }, descriptors)) => {
                received.extend(descriptors);
                if !more {
                    break;
                }
            }
            _ => return gone().step(died),
        }
    }
    if start.walls == Walls::Chroot {
        // What a command leaves behind comes to this process and not to the machine's first.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .step(|| "answer for what commands leave".to_owned())?;
        root::enter_folder(start)?;
        return Ok(Prepared {
            layers: None,
            sockets: Vec::new(),
            notes: landlock_rules::missing(),
        });
    }
    let mounts = JobMounts::of(start, received)
        .ok_or(rustix::io::Errno::BADMSG)
        .step(|| "count the mounts".to_owned())?;
    rustix::system::sethostname(start.hostname.as_bytes()).step(|| "set the host name".to_owned())?;
    if !start.host_network {
        network_namespace::start_loopback()?;
    }
    let root = root::build(start, &mounts)?;
    let mut prepared = Prepared {
        layers: Some(root.layers),
        sockets: Vec::new(),
        notes: Vec::new(),
    };
    if let Some(ports) = &start.ports {
        let way_out = network_namespace::listen(ports)?;
        prepared.sockets = way_out.sockets;
        prepared.notes = way_out.notes;
    }
    Ok(prepared)
}

fn become_root_of_the_job(start: &Start) -> Result<(), StepError> {
    let step = || "become root of the job".to_owned();
    match start.ids {
        Ids::Mapped(_) | Ids::Outer => rustix::thread::set_thread_groups(&[]).step(step)?,
        // The kernel lets nobody drop groups who has no id but one; commands lose them with their own namespace.
        Ids::Single => {}
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).step(step)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).step(step)?;
    // After the ids: changing them clears it. A monitor that died before is noticed by the next message.
    // Without a process namespace it must outlive the monitor by the time that it takes to end all others.
    if start.walls == Walls::Namespaces {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step(step)?;
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step(step)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    linux::join_new_keyring();
    Ok(())
}

struct Command {
    id: u64,
    answer: Socket,
}

struct Server {
    init: Init,
    /// The mount for `/layers` until it is attached.
    layers: Option<OwnedFd>,
    commands: HashMap<i32, Command>,
}

impl Server {
    /// Ends with the worker; without a process namespace also with the monitor, whose end of `setup` closes.
    fn serve(&mut self, setup: &Socket) -> std::io::Result<()> {
        let ended = self.answer_all(setup);
        if self.init.start.walls == Walls::Chroot {
            self.sweep();
        }
        ended
    }

    fn answer_all(&mut self, setup: &Socket) -> std::io::Result<()> {
        let children = linux::watch_children()?;
        loop {
            let mut polled = [
                PollFd::new(&self.init.requests, PollFlags::IN),
                PollFd::new(&children, PollFlags::IN),
                PollFd::new(setup, PollFlags::IN),
            ];
            match rustix::event::poll(&mut polled, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let [asked, child_ended, monitor_ended] =
                [0, 1, 2].map(|one: usize| !polled[one].revents().is_empty());
            if monitor_ended {
                return Ok(());
            }
            if child_ended {
                let mut signals = [0_u8; 1024];
                // What it says does not matter; pending signals of one kind are merged.
                let _ = rustix::io::read(&children, &mut signals);
                while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                    self.tell_end(pid, status);
                }
            }
            if asked {
                let Some((request, descriptors)) = self.init.requests.receive::<Request>()? else {
                    return Ok(());
                };
                self.handle(request, descriptors);
            }
        }
    }

    fn handle(&mut self, request: Request, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        let Some(answer) = descriptors.next().map(Socket::from) else {
            return;
        };
        match request {
            Request::Run(run) => self.run(&run, answer, descriptors.as_slice()),
            Request::File(file) => match linux::fork() {
                Ok(Forked::Child) => {
                    file_process::main(&self.init.start, &file, &answer, descriptors.collect())
                }
                Ok(Forked::Parent(_)) => {}
                Err(error) => reply(
                    &answer,
                    &Answer::Failed {
                        why: error.to_string(),
                    },
                ),
            },
            Request::Signal { command, signal } => {
                let process = self.commands.iter().find(|(_, running)| running.id == command);
                if let (Some(pid), Some(signal)) = (
                    process.and_then(|(pid, _)| Pid::from_raw(*pid)),
                    Signal::from_named_raw(signal),
                ) {
                    // Until it leads a group of its own it is signalled alone. Gone already is as good.
                    let _ = rustix::process::kill_process_group(pid, signal)
                        .or_else(|_| rustix::process::kill_process(pid, signal));
                }
                reply(&answer, &Answer::Done);
            }
            Request::Sweep => {
                let answered = if self.sweep() {
                    Answer::Done
                } else {
                    Answer::Failed {
                        why: "processes of the step do not end".to_owned(),
                    }
                };
                reply(&answer, &answered);
            }
            Request::AttachLayers => reply(&answer, &self.attach_layers()),
            Request::ShowSecrets { folder, files } => {
                let contents = descriptors.next();
                reply(
                    &answer,
                    &secret_mount::attach(&self.init.start, Path::new(&folder), &files, contents),
                );
            }
            Request::HideSecrets { folder } => reply(&answer, &secret_mount::detach(Path::new(&folder))),
            Request::Connect { address } => match network_namespace::begin_to_connect(address) {
                Ok(socket) => drop(answer.send(&Answer::Done, &[socket.as_fd()])),
                Err(error) => reply(
                    &answer,
                    &Answer::Failed {
                        why: std::io::Error::from(error).to_string(),
                    },
                ),
            },
        }
    }

    fn run(&mut self, run: &RunRequest, answer: Socket, outputs: &[OwnedFd]) {
        match linux::fork() {
            Ok(Forked::Child) => command_process::main(&self.init, run, &answer, outputs),
            Ok(Forked::Parent(pid)) => {
                self.commands.insert(
                    pid.as_raw_nonzero().get(),
                    Command {
                        id: run.command,
                        answer,
                    },
                );
            }
            Err(error) => reply(
                &answer,
                &Answer::NotStarted {
                    why: error.to_string(),
                },
            ),
        }
    }

    /// Whether nothing is left.
    fn sweep(&mut self) -> bool {
        if self.init.start.walls == Walls::Chroot {
            let user = self.init.start.uid;
            return leftovers::end_all_of(user, SWEEP_TRIES_MAX, |pid, status| self.tell_end(pid, status));
        }
        linux::kill_all_others();
        // Ends with ECHILD once nobody is left; everybody has been sent KILL.
        while let Ok(Some((pid, status))) =
            rustix::io::retry_on_intr(|| rustix::process::wait(WaitOptions::empty()))
        {
            self.tell_end(pid, status);
        }
        true
    }

    fn tell_end(&mut self, pid: Pid, status: WaitStatus) {
        let Some(command) = self.commands.remove(&pid.as_raw_nonzero().get()) else {
            return;
        };
        let answer = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Answer::Exited { code },
            (None, Some(signal)) => Answer::Killed { signal },
            (None, None) => return,
        };
        reply(&command.answer, &answer);
    }

    fn attach_layers(&mut self) -> Answer {
        let Some(layers) = self.layers.take() else {
            return Answer::Failed {
                why: "they are attached already".to_owned(),
            };
        };
        match attach_new(&layers, Path::new("/layers"), Place::Directory) {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed {
                why: error.to_string(),
            },
        }
    }
}

fn reply(answer: &Socket, message: &Answer) {
    // A worker that no longer waits for the answer has closed its end.
    drop(answer.send(message, &[]));
}
