//! From a fork of init to the program of a command: session, limits, no capabilities, filters, exec.

use std::convert::Infallible;
use std::ffi::CString;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Gid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Uid;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;
use rustix::thread::UnshareFlags;

use crate::sandbox::identity::map_self;
use crate::sandbox::init::Init;
use crate::sandbox::landlock_rules::restrict;
use crate::sandbox::linux;
use crate::sandbox::message::Answer;
use crate::sandbox::message::Ids;
use crate::sandbox::message::RunRequest;
use crate::sandbox::message::Start;
use crate::sandbox::network_namespace;
use crate::sandbox::socket::Socket;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;

/// Open files of a process; more than most programs ask for.
const OPEN_FILES_MAX: u64 = 65_536;
/// The highest capability that could exist.
const CAPABILITY_NUMBERS: u32 = 64;

/// Becomes the command, or says why not. `outputs` are its stdout and stderr.
pub(crate) fn main(init: &Init, run: &RunRequest, answer: &Socket, outputs: &[OwnedFd]) -> ! {
    const NOT_STARTED: i32 = 127;
    let Err(error) = execute(init, run, outputs);
    // A worker that is gone does not read it.
    drop(answer.send(
        &Answer::NotStarted {
            why: error.to_string(),
        },
        &[],
    ));
    linux::exit_now(NOT_STARTED)
}

fn execute(init: &Init, run: &RunRequest, outputs: &[OwnedFd]) -> Result<Infallible, StepError> {
    let program = run
        .arguments
        .first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        .step(|| "find a program".to_owned())?;
    let path = c_string(program)?;
    let arguments = run
        .arguments
        .iter()
        .map(c_string)
        .collect::<Result<Vec<_>, _>>()?;
    let environment = run
        .environment
        .iter()
        .map(variable)
        .collect::<Result<Vec<_>, _>>()?;

    if run.apart {
        linux::unshare(UnshareFlags::NEWNET).step(|| "leave the machine's network".to_owned())?;
        network_namespace::start_loopback()?;
    }
    linux::reset_signals();
    rustix::process::setsid().step(|| "make a session".to_owned())?;
    connect_outputs(outputs).step(|| "connect the outputs".to_owned())?;
    limit(init.process_limit).step(|| "set the limits".to_owned())?;
    become_user(&init.start).step(|| "become the job's user".to_owned())?;
    restrict(&init.start)?;
    linux::close_descriptors_on_exec().step(|| "close descriptors".to_owned())?;
    rustix::process::chdir(run.working_directory.as_os_str())
        .step(|| format!("enter `{}`", run.working_directory.display()))?;
    init.filters.install().map_err(|why| StepError {
        step: "install the filters".to_owned(),
        why,
        number: None,
    })?;
    Err(linux::execute(&path, &arguments, &environment)).step(|| format!("start `{}`", program.display()))
}

fn connect_outputs(outputs: &[OwnedFd]) -> rustix::io::Result<()> {
    let [stdout, stderr] = outputs else {
        return Err(rustix::io::Errno::BADF);
    };
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(null)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)
}

fn limit(processes_max: Option<u64>) -> rustix::io::Result<()> {
    let set = |resource, value: u64| {
        let hard = rustix::process::getrlimit(resource)
            .maximum
            .map_or(value, |maximum| maximum.min(value));
        rustix::process::setrlimit(
            resource,
            Rlimit {
                current: Some(hard),
                maximum: Some(hard),
            },
        )
    };
    set(Resource::Core, 0)?;
    set(Resource::Nofile, OPEN_FILES_MAX)?;
    processes_max.map_or(Ok(()), |count| set(Resource::Nproc, count))
}

/// Becomes the job's user: without capabilities, now and for ever, and without groups where there is a choice.
fn become_user(start: &Start) -> io::Result<()> {
    match start.ids {
        Ids::Mapped(_) | Ids::Outer => {
            drop_capabilities_for_ever()?;
            change_ids(start.uid, start.gid)?;
        }
        // The one id gets the user's number in a namespace of its own.
        Ids::Single => {
            linux::unshare(UnshareFlags::NEWUSER)?;
            map_self([start.uid, 0], [start.gid, 0])?;
            drop_capabilities_for_ever()?;
        }
    }
    no_capabilities()
}

/// The same for the processes of file calls, which run nothing of the job and may keep their number.
pub(crate) fn become_user_for_files(start: &Start) -> io::Result<()> {
    drop_capabilities_for_ever()?;
    if !matches!(start.ids, Ids::Single) {
        change_ids(start.uid, start.gid)?;
    }
    no_capabilities()
}

fn drop_capabilities_for_ever() -> rustix::io::Result<()> {
    for number in 0..CAPABILITY_NUMBERS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel's last capability was the one before.
            Err(rustix::io::Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

fn change_ids(uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

fn no_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(rustix::thread::set_no_new_privs(true)?)
}

fn c_string(text: &OsString) -> Result<CString, StepError> {
    CString::new(text.as_bytes())
        .map_err(io::Error::from)
        .step(|| format!("pass the argument `{}`", text.display()))
}

fn variable((name, value): &(OsString, OsString)) -> Result<CString, StepError> {
    let bytes = [name.as_bytes(), b"=", value.as_bytes()].concat();
    CString::new(bytes)
        .map_err(io::Error::from)
        .step(|| format!("pass the variable `{}`", name.display()))
}
