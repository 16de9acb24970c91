//! A command's output on its way to whoever watches, with a cap for both streams together.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::events::Stream;
use crate::sandbox::job::Output;

/// Bytes of one read; a pipe holds this much.
const CHUNK_BYTES: usize = 64 << 10;

/// Passes output on up to the cap; the rest is dropped.
pub(crate) struct Capped<'a> {
    output: Output<'a>,
    bytes_left: u64,
    is_over: bool,
    buffer: Vec<u8>,
}

impl<'a> Capped<'a> {
    /// Passes on at most `bytes_max`.
    pub(crate) fn new(output: Output<'a>, bytes_max: u64) -> Self {
        Self {
            output,
            bytes_left: bytes_max,
            is_over: false,
            buffer: vec![0; CHUNK_BYTES],
        }
    }

    /// Reads once from a pipe that does not block. False at its end.
    pub(crate) fn read_from(&mut self, pipe: &OwnedFd, stream: Stream) -> Result<bool, Errno> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut buffer[..]));
        let result = match read {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.pass_on(stream, &buffer[..count]);
                Ok(true)
            }
            Err(error) => Err(error),
        };
        self.buffer = buffer;
        result
    }

    fn pass_on(&mut self, stream: Stream, bytes: &[u8]) {
        let kept = usize::try_from(self.bytes_left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        if kept > 0 {
            (self.output)(stream, &bytes[..kept]);
        }
        self.bytes_left -= kept as u64;
        self.is_over |= kept < bytes.len();
    }

    /// Adds a line of our own.
    pub(crate) fn note(&self, text: &str) {
        (self.output)(Stream::Stderr, format!("{text}\n").as_bytes());
    }

    /// Whether there was more than the cap.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn the_cap_is_one_for_both_streams() {
        let seen = Mutex::new(Vec::new());
        let watch = |stream: Stream, bytes: &[u8]| seen.lock().unwrap().push((stream, bytes.to_vec()));
        let mut capped = Capped::new(&watch, 5);
        capped.pass_on(Stream::Stdout, b"abc");
        capped.pass_on(Stream::Stderr, b"de");
        assert!(!capped.is_over());
        capped.pass_on(Stream::Stderr, b"fg");
        capped.pass_on(Stream::Stdout, b"h");
        assert!(capped.is_over());
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen[0], (Stream::Stdout, b"abc".to_vec()));
        assert_eq!(seen[1], (Stream::Stderr, b"de".to_vec()));
        assert_eq!(seen.len(), 2);
    }
}
