//! A command's terminal, as the command's process makes it: one of the job's own, so that its name means something inside.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;

use crate::sandbox::attachment::WindowSize;
use crate::sandbox::message::Answer;
use crate::sandbox::socket::Socket;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;
use crate::sandbox::streams::winsize;

/// Makes the terminal the controlling one of this process, which leads a session, and all three of its standard
/// descriptors; the other side goes to the worker. As the job's user, who is its owner then (devpts, `pts(4)`).
pub(crate) fn connect(size: WindowSize, answer: &Socket) -> Result<(), StepError> {
    let (outer, inner) = open().step(|| "make a terminal".to_owned())?;
    rustix::termios::tcsetwinsize(&inner, winsize(size)).step(|| "set the terminal's size".to_owned())?;
    rustix::process::ioctl_tiocsctty(&inner).step(|| "take the terminal".to_owned())?;
    answer
        .send(&Answer::Terminal, &[outer.as_fd()])
        .step(|| "hand the terminal over".to_owned())?;
    rustix::stdio::dup2_stdin(&inner)
        .and_then(|()| rustix::stdio::dup2_stdout(&inner))
        .and_then(|()| rustix::stdio::dup2_stderr(&inner))
        .step(|| "connect the terminal".to_owned())
}

fn open() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let outer = rustix::fs::open("/dev/ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&outer)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags)?;
    Ok((outer, inner))
}
