//! One job at a time has a user: without a process namespace, only that tells its processes from others.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use crate::sandbox::chroot::leftovers;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;

/// The step's name when somebody else has the user.
pub(crate) const TAKE_USER: &str = "have a user for the job alone";

/// Takes `user` for as long as the socket is open, for the whole machine or container. Nobody's processes are ended here:
/// those that a killed job has left, the janitor knows.
pub(crate) fn take(user: u32) -> Result<OwnedFd, StepError> {
    let held = hold(user).step(|| TAKE_USER.to_owned())?;
    match leftovers::first_of(user) {
        None => Ok(held),
        Some(process) => Err(StepError {
            step: TAKE_USER.to_owned(),
            why: format!("process {} runs as user {user} already", process.as_raw_nonzero()),
            number: None,
        }),
    }
}

/// An abstract socket's name is there as long as somebody holds it open, and nobody can remove it.
fn hold(user: u32) -> Result<OwnedFd, Errno> {
    let name = format!("packhorse-chroot-{user}");
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_had_by_one_at_a_time() {
        const NOBODY_HAS_IT: u32 = 3_917_003;
        let held = take(NOBODY_HAS_IT).unwrap();
        assert!(take(NOBODY_HAS_IT).is_err());
        drop(held);
        assert!(take(NOBODY_HAS_IT).is_ok());
    }
}
