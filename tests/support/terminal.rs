//! A terminal with a test in front of it: what is typed, what is on the screen, its size and its mode.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::pty::OpenptFlags;
use rustix::termios::LocalModes;
use rustix::termios::OutputModes;
use rustix::termios::Winsize;

/// A terminal.
pub(crate) struct Terminal {
    outer: File,
    inner: Option<OwnedFd>,
}

impl Terminal {
    /// A terminal of this size.
    pub(crate) fn new(rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let outer = rustix::pty::openpt(flags).unwrap();
        rustix::pty::unlockpt(&outer).unwrap();
        let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags).unwrap();
        let terminal = Self {
            outer: outer.into(),
            inner: Some(inner),
        };
        terminal.resize(rows, columns);
        terminal
    }

    /// Gives it another size, as a window does.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&self.outer, size).unwrap();
    }

    /// Types.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.outer.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether keys come as they are typed, nothing is echoed, Ctrl-C is a key, and output is not changed.
    pub(crate) fn is_raw(&self) -> bool {
        let mode = rustix::termios::tcgetattr(&self.outer).unwrap();
        let local = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        !mode.local_modes.intersects(local) && !mode.output_modes.contains(OutputModes::OPOST)
    }

    /// Whether it is as a terminal is for a shell.
    pub(crate) fn is_usual(&self) -> bool {
        let mode = rustix::termios::tcgetattr(&self.outer).unwrap();
        let local = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        mode.local_modes.contains(local) && mode.output_modes.contains(OutputModes::OPOST)
    }

    /// What comes on the screen.
    pub(crate) fn screen(&self) -> File {
        self.outer.try_clone().unwrap()
    }

    /// The side of the program; once.
    pub(crate) fn take_inner(&mut self) -> OwnedFd {
        self.inner.take().unwrap()
    }
}
