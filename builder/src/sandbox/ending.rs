//! The end of a job as its worker hears of it: why it died, and whether its monitor is gone in time.

use std::process::Child;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Pid;
use rustix::process::PidfdFlags;

use crate::sandbox::message::Ended;
use crate::sandbox::message::Report;
use crate::sandbox::socket::Socket;

/// How long the monitor may take to say why a job died.
const REASON_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the job died, as its monitor says over `control`; none when it lives, and what was lost is one process of it.
pub(crate) fn reason(control: &Socket) -> Option<Ended> {
    let mut polled = [PollFd::new(control, PollFlags::IN)];
    let timeout = Timespec::try_from(REASON_TIMEOUT).ok();
    if !matches!(rustix::event::poll(&mut polled, timeout.as_ref()), Ok(1..)) {
        return None;
    }
    Some(match control.receive::<Report>().ok().flatten() {
        Some((Report::Ended(ended), _)) => ended,
        Some((Report::Failed(error), _)) => Ended::because(error.to_string()),
        Some((Report::Ready { .. }, _)) | None => Ended::because("its monitor is gone".to_owned()),
    })
}

/// Whether a child that nobody has waited for ends in time.
pub(crate) fn ends_within(child: &Child, timeout: Duration) -> bool {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let Some(Ok(pidfd)) = pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty())) else {
        return false;
    };
    let timeout = Timespec::try_from(timeout).ok();
    let ended = rustix::io::retry_on_intr(|| {
        rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref())
    });
    matches!(ended, Ok(1..))
}
