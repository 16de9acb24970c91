//! The user's terminal: whether there is one, its size, and raw mode, in which every key is for a process inside.
//!
//! The one file that changes the terminal's mode. The mode is put back on every way out: when [`Raw`] is dropped, in a panic
//! too, and by [`restore`] where the process is ended without that.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::termios::OptionalActions;
use rustix::termios::Termios;
use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::task::JoinHandle;

use crate::sandbox::attachment::Control;
use crate::sandbox::attachment::Controls;
use crate::sandbox::attachment::WindowSize;

/// The size where the terminal does not know its own.
const USUAL_SIZE: WindowSize = WindowSize {
    rows: 24,
    columns: 80,
};

/// The mode before raw mode, as long as that lasts.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether standard input is a terminal.
pub fn is_input() -> bool {
    rustix::termios::isatty(rustix::stdio::stdin())
}

/// Whether standard output is a terminal.
pub fn is_output() -> bool {
    rustix::termios::isatty(rustix::stdio::stdout())
}

/// The terminal's size.
pub fn size() -> WindowSize {
    let asked = rustix::termios::tcgetwinsize(rustix::stdio::stdout())
        .or_else(|_| rustix::termios::tcgetwinsize(rustix::stdio::stdin()));
    match asked {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => WindowSize {
            rows: size.ws_row,
            columns: size.ws_col,
        },
        _ => USUAL_SIZE,
    }
}

/// As long as this is held, keys come as they are typed, Ctrl-C among them, and what is written is not changed.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Begins raw mode on standard input, which must be a terminal.
    pub fn begin() -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let began = Self(());
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(began)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts back the mode that the terminal had before raw mode, if it is in that.
pub fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // A terminal that is gone has no mode.
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
    }
}

/// As long as this is held, a process inside hears of the terminal's size.
#[derive(Debug)]
pub struct FollowedSize(JoinHandle<()>);

impl Drop for FollowedSize {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells `controls` each new size of the terminal. Must be called on a runtime; none where there is none.
pub fn follow_size(controls: &Arc<Controls>) -> Option<FollowedSize> {
    let runtime = Handle::try_current().ok()?;
    let controls = Arc::clone(controls);
    Some(FollowedSize(runtime.spawn(async move {
        let Ok(mut changed) = signal(SignalKind::window_change()) else {
            return;
        };
        while changed.recv().await.is_some() {
            controls.tell(Control::Size(size()));
        }
    })))
}
