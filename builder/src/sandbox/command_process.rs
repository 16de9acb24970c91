//! From a fork of init to the program of a command: session, limits, no capabilities, filters, exec.

use std::convert::Infallible;
use std::ffi::CString;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::thread::UnshareFlags;

use crate::sandbox::init::Init;
use crate::sandbox::ladder::Walls;
use crate::sandbox::landlock_rules::restrict;
use crate::sandbox::linux;
use crate::sandbox::message::Answer;
use crate::sandbox::message::RunInput;
use crate::sandbox::message::RunRequest;
use crate::sandbox::network_namespace;
use crate::sandbox::privilege::become_root;
use crate::sandbox::privilege::become_user;
use crate::sandbox::socket::Socket;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;
use crate::sandbox::terminal;

/// Open files of a process; more than most programs ask for.
const OPEN_FILES_MAX: u64 = 65_536;

/// Becomes the command, or says why not. `streams` are its stdout, stderr and, if it is a pipe, its stdin.
pub(crate) fn main(init: &Init, run: &RunRequest, answer: &Socket, streams: &[OwnedFd]) -> ! {
    const NOT_STARTED: i32 = 127;
    let Err(error) = execute(init, run, answer, streams);
    // A worker that is gone does not read it.
    drop(answer.send(
        &Answer::NotStarted {
            why: error.to_string(),
        },
        &[],
    ));
    linux::exit_now(NOT_STARTED)
}

fn execute(
    init: &Init,
    run: &RunRequest,
    answer: &Socket,
    streams: &[OwnedFd],
) -> Result<Infallible, StepError> {
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

    if run.apart && init.start.walls == Walls::Namespaces {
        linux::unshare(UnshareFlags::NEWNET).step(|| "leave the machine's network".to_owned())?;
        network_namespace::start_loopback()?;
    }
    linux::reset_signals();
    rustix::process::setsid().step(|| "make a session".to_owned())?;
    limit(init.process_limit).step(|| "set the limits".to_owned())?;
    if run.as_root {
        become_root(&init.start)?;
    } else {
        become_user(&init.start).step(|| "become the job's user".to_owned())?;
    }
    match run.input {
        RunInput::Terminal { size } => terminal::connect(size, answer)?,
        RunInput::Nothing | RunInput::Pipe => connect(streams).step(|| "connect the outputs".to_owned())?,
    }
    restrict(&init.start, run.apart)?;
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

fn connect(streams: &[OwnedFd]) -> rustix::io::Result<()> {
    let (stdout, stderr) = match streams {
        [stdout, stderr] => {
            let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::stdio::dup2_stdin(null)?;
            (stdout, stderr)
        }
        [stdout, stderr, stdin] => {
            rustix::stdio::dup2_stdin(stdin)?;
            (stdout, stderr)
        }
        _ => return Err(rustix::io::Errno::BADF),
    };
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
