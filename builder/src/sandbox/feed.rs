//! What a command reads, copied by the worker: one buffer at a time, so that who does not read holds up who writes.

use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::io::Errno;

/// Bytes that wait for the command at most.
const BUFFER_BYTES: usize = 16 << 10;

/// A copy under way. Its end is passed on.
#[derive(Debug)]
pub(crate) struct Feed<'a> {
    source: BorrowedFd<'a>,
    /// The command's end must block, this one must not; none once there is nothing more to say.
    sink: Option<OwnedFd>,
    waiting: Vec<u8>,
}

impl<'a> Feed<'a> {
    /// Copies from `source`, which may block, to `sink`, which does not.
    pub(crate) fn new(source: BorrowedFd<'a>, sink: OwnedFd) -> Self {
        Self {
            source,
            sink: Some(sink),
            waiting: Vec::new(),
        }
    }

    /// What the next step waits for; none after the end.
    pub(crate) fn watched(&self) -> Option<PollFd<'_>> {
        let sink = self.sink.as_ref()?;
        Some(if self.waiting.is_empty() {
            PollFd::from_borrowed_fd(self.source, PollFlags::IN)
        } else {
            PollFd::new(sink, PollFlags::OUT)
        })
    }

    /// The next step, when what is watched is ready.
    pub(crate) fn advance(&mut self) {
        if self.waiting.is_empty() {
            let mut buffer = [0; BUFFER_BYTES];
            match rustix::io::read(self.source, &mut buffer) {
                Ok(count @ 1..) => self.waiting.extend_from_slice(&buffer[..count]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Ok(_) | Err(_) => self.sink = None,
            }
        }
        let Some(sink) = self.sink.as_ref().filter(|_| !self.waiting.is_empty()) else {
            return;
        };
        match rustix::io::write(sink, &self.waiting) {
            Ok(count) => drop(self.waiting.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody reads any more.
            Err(_) => self.sink = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn who_does_not_read_holds_up_who_writes_and_the_end_comes_through() {
        let (source, source_end) = rustix::pipe::pipe().unwrap();
        let (sink_end, sink) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&sink, true).unwrap();
        let mut feed = Feed::new(source.as_fd(), sink);
        let mut written = 0_usize;
        let mut read = 0_usize;
        rustix::io::ioctl_fionbio(&source_end, true).unwrap();
        // Until neither end takes any more.
        loop {
            let wrote = rustix::io::write(&source_end, &[b'x'; 4096]).unwrap_or(0);
            written += wrote;
            feed.advance();
            if wrote == 0 && !feed.waiting.is_empty() {
                break;
            }
        }
        assert!(feed.waiting.len() <= BUFFER_BYTES, "{}", feed.waiting.len());
        drop(source_end);
        let mut buffer = [0; 4096];
        loop {
            if feed.watched().is_some() {
                feed.advance();
            }
            match rustix::io::read(&sink_end, &mut buffer).unwrap() {
                0 => break,
                count => read += count,
            }
        }
        assert_eq!(read, written);
    }
}
