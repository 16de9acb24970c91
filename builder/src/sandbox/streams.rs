//! What lies between the worker and a command: pipes, or the worker's side of a terminal.

use std::os::fd::OwnedFd;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;

use crate::events::Stream;
use crate::sandbox::attachment::Input;
use crate::sandbox::attachment::WindowSize;
use crate::sandbox::feed::Feed;
use crate::sandbox::message::RunInput;
use crate::sandbox::output::Capped;

/// The worker's ends.
#[derive(Debug)]
pub(crate) struct Streams<'a> {
    outputs: [(Stream, Option<OwnedFd>); 2],
    feed: Option<Feed<'a>>,
    /// The terminal itself, to tell it its size.
    terminal: Option<OwnedFd>,
}

/// The command's ends: its stdout, stderr and, if it is a pipe, its stdin. None of them with a terminal.
pub(crate) type Inside = Vec<OwnedFd>;

impl<'a> Streams<'a> {
    /// What a command with this input needs before it starts.
    pub(crate) fn open(input: Input<'a>) -> rustix::io::Result<(Self, Inside, RunInput)> {
        let keyboard = match input {
            Input::Terminal { size, .. } => {
                let streams = Self {
                    outputs: [(Stream::Stdout, None), (Stream::Stderr, None)],
                    feed: None,
                    terminal: None,
                };
                return Ok((streams, Vec::new(), RunInput::Terminal { size }));
            }
            Input::Nothing => None,
            Input::Pipe(source) => Some(source),
        };
        let (stdout, stdout_inside) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_inside) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        for pipe in [&stdout, &stderr] {
            // Only this end: the command's must block.
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let mut streams = Self {
            outputs: [(Stream::Stdout, Some(stdout)), (Stream::Stderr, Some(stderr))],
            feed: None,
            terminal: None,
        };
        let mut inside = vec![stdout_inside, stderr_inside];
        let Some(source) = keyboard else {
            return Ok((streams, inside, RunInput::Nothing));
        };
        let (stdin_inside, stdin) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&stdin, true)?;
        streams.feed = Some(Feed::new(source, stdin));
        inside.push(stdin_inside);
        Ok((streams, inside, RunInput::Pipe))
    }

    /// The terminal that the command has made.
    pub(crate) fn take_terminal(&mut self, input: Input<'a>, terminal: OwnedFd) -> rustix::io::Result<()> {
        rustix::io::ioctl_fionbio(&terminal, true)?;
        let copy = || rustix::io::fcntl_dupfd_cloexec(&terminal, 3);
        self.outputs[0].1 = Some(copy()?);
        if let Input::Terminal {
            keyboard: Some(keyboard),
            ..
        } = input
        {
            self.feed = Some(Feed::new(keyboard, copy()?));
        }
        self.terminal = Some(terminal);
        Ok(())
    }

    /// What to wait for: stdout, stderr, and the way in.
    pub(crate) fn watched(&self) -> [Option<PollFd<'_>>; 3] {
        let [stdout, stderr] = self.outputs.each_ref().map(|(_, pipe)| {
            let pipe = pipe.as_ref()?;
            Some(PollFd::new(pipe, PollFlags::IN))
        });
        [stdout, stderr, self.feed.as_ref().and_then(Feed::watched)]
    }

    /// Whether output may still come.
    pub(crate) fn has_output(&self) -> bool {
        self.outputs.iter().any(|(_, pipe)| pipe.is_some())
    }

    /// Reads from those outputs that are ready.
    pub(crate) fn read(&mut self, ready: [bool; 2], output: &mut Capped<'_>) {
        for ((stream, pipe), ready) in self.outputs.iter_mut().zip(ready) {
            let Some(descriptor) = pipe.as_ref().filter(|_| ready) else {
                continue;
            };
            match output.read_from(descriptor, *stream) {
                Ok(true) | Err(Errno::AGAIN) => {}
                // A terminal says so with an error when nobody has it open any more.
                Ok(false) | Err(_) => *pipe = None,
            }
        }
    }

    /// Carries on what the command reads.
    pub(crate) fn feed(&mut self) {
        if let Some(feed) = &mut self.feed {
            feed.advance();
        }
    }

    /// Tells the terminal its size; the kernel tells the command.
    pub(crate) fn resize(&self, size: WindowSize) {
        if let Some(terminal) = &self.terminal {
            // One whose size cannot be set keeps the one that it has.
            let _ = rustix::termios::tcsetwinsize(terminal, winsize(size));
        }
    }
}

/// A size as the kernel takes it.
pub(crate) fn winsize(size: WindowSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
