//! The only file that writes to the terminal: events, results and errors; plain, with moving lines, or as JSON.

use std::collections::HashMap;
use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use console::style;
use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use crate::cli::arguments::Progress;
use crate::cli::failure::CommandError;
use crate::cli::words;
use crate::events::Event;
use crate::events::Events;
use crate::events::Unit;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// How this invocation speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Only the result.
    Quiet,
    /// Lines on standard error.
    Plain,
    /// Lines and moving progress on standard error, which is a terminal where lines can move.
    Terminal,
    /// One JSON object a line on standard output.
    Json,
}

impl Manner {
    /// What the flags and the terminal ask for.
    pub fn of(progress: Progress, quiet: bool) -> Self {
        match progress {
            Progress::Json => Self::Json,
            _ if quiet => Self::Quiet,
            Progress::Auto if !MultiProgress::new().is_hidden() => Self::Terminal,
            Progress::Auto | Progress::Plain => Self::Plain,
        }
    }
}

/// Renders events as they come.
#[derive(Debug)]
pub struct Renderer {
    manner: Manner,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Moving lines, by what they are about.
    bars: HashMap<String, ProgressBar>,
    area: MultiProgress,
    /// Transfers that plain output has already named.
    named: HashSet<String>,
    /// The beginning of an output line whose end has not come yet, by buildpack.
    open_lines: HashMap<String, String>,
    /// What was told while somebody else has the terminal; none: nobody has.
    held: Option<Vec<Event>>,
}

/// An output line is shown in pieces of at most this many bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
/// What is told while somebody else has the terminal; more is not shown.
const HELD_MAX: usize = 1000;

impl Renderer {
    /// A renderer that speaks in `manner`.
    pub fn new(manner: Manner) -> Self {
        Self {
            manner,
            state: Mutex::default(),
        }
    }

    /// Leaves the terminal to somebody else, until what comes back is dropped; what is told meanwhile is shown then.
    pub fn hold(&self) -> Held<'_> {
        let mut state = self.state();
        state.end_open_lines();
        state.end_transfers();
        state.held = Some(Vec::new());
        Held(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as this is held, the renderer leaves the terminal alone.
pub struct Held<'a>(&'a Renderer);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let told = self.0.state().held.take();
        for event in told.unwrap_or_default() {
            self.0.tell(event);
        }
    }
}

impl Events for Renderer {
    fn tell(&self, event: Event) {
        match self.manner {
            Manner::Quiet => {}
            Manner::Json => json(&event),
            Manner::Plain => self.state().tell(event, false),
            Manner::Terminal => self.state().tell(event, true),
        }
    }
}

impl State {
    fn tell(&mut self, event: Event, is_terminal: bool) {
        if let Some(held) = &mut self.held {
            if held.len() < HELD_MAX && !matches!(event, Event::Progress { .. }) {
                held.push(event);
            }
            return;
        }
        match event {
            Event::PhaseStarted { phase } => self.line(&format!("{}", style(phase).for_stderr().bold())),
            Event::PhaseEnded { phase, elapsed } => {
                self.end_transfers();
                self.line(
                    &style(format!("{phase} took {}", words::seconds(elapsed)))
                        .for_stderr()
                        .dim()
                        .to_string(),
                );
            }
            Event::BuildpackStarted { buildpack } => {
                self.line(&format!("  {}", style(buildpack).for_stderr().cyan()));
            }
            Event::Output { buildpack, text, .. } => self.output(buildpack, &text),
            Event::Decision { text } => self.line(&format!("  {text}")),
            Event::Warning { text } => {
                self.line(&format!("  {} {text}", style("warning:").for_stderr().yellow()));
            }
            // Each was told as a warning when it came.
            Event::Layer { .. } | Event::Refused { .. } => {}
            Event::Progress {
                what,
                done,
                total,
                unit,
            } if is_terminal => self.moving(what, done, total, unit),
            Event::Progress {
                what, total, unit, ..
            } => self.name(what, total, unit),
        }
    }

    /// Prints above the moving lines.
    fn line(&mut self, line: &str) {
        self.end_open_lines();
        self.print(line);
    }

    fn print(&self, line: &str) {
        self.area.suspend(|| say(line));
    }

    /// Whole lines go out indented and untouched; the rest waits for its end.
    fn output(&mut self, buildpack: String, text: &str) {
        let mut open = self.open_lines.remove(&buildpack).unwrap_or_default();
        open.push_str(text);
        while let Some(end) = open.find('\n') {
            self.print(&format!("    {}", &open[..end]));
            open.drain(..=end);
        }
        if open.len() > LINE_BYTES_MAX {
            self.print(&format!("    {open}"));
            open.clear();
        }
        if !open.is_empty() {
            self.open_lines.insert(buildpack, open);
        }
    }

    fn end_open_lines(&mut self) {
        for (_, open) in std::mem::take(&mut self.open_lines) {
            self.print(&format!("    {open}"));
        }
    }

    /// Where nothing moves, a transfer is a line when it begins.
    fn name(&mut self, what: String, total: Option<u64>, unit: Unit) {
        let size = total.map_or_else(String::new, |total| format!(" ({})", words::amount(total, unit)));
        let line = format!("  {what}{size}");
        if self.named.insert(what) {
            self.line(&line);
        }
    }

    fn moving(&mut self, what: String, done: u64, total: Option<u64>, unit: Unit) {
        let bar = self.bars.entry(what).or_insert_with_key(|what| {
            self.area.add(
                ProgressBar::new(total.unwrap_or(0))
                    .with_style(bar_style(total.is_some(), unit))
                    .with_message(what.clone()),
            )
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
        if total.is_some_and(|total| done >= total) {
            bar.finish_and_clear();
        }
    }

    fn end_transfers(&mut self) {
        for (_, bar) in self.bars.drain() {
            bar.finish_and_clear();
        }
        self.named.clear();
    }
}

fn bar_style(has_total: bool, unit: Unit) -> ProgressStyle {
    let template = match (unit, has_total) {
        (Unit::Bytes, true) => {
            "  {msg:<40!} {bar:24} {decimal_bytes:>10} of {decimal_total_bytes:<10} {decimal_bytes_per_sec}"
        }
        (Unit::Bytes, false) => "  {msg:<40!} {decimal_bytes:>10} {decimal_bytes_per_sec}",
        (Unit::Objects, _) => "  {msg:<40!} {bar:24} {pos:>6} of {len} objects",
        (Unit::Packages, _) => "  {msg:<40!} {bar:24} {pos:>6} of {len} packages",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// One JSON object on a line of its own.
pub fn json(value: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        // Events go on without a reader.
        let _reader_gone = writeln!(std::io::stdout(), "{text}");
    }
}

/// Standard output takes no more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result to standard output: {0}")]
struct ResultUnwritable(std::io::Error);

impl Failure for ResultUnwritable {
    fn facts(&self) -> Facts {
        Facts::platform("result_unwritable")
    }
}

/// The result of a command, on standard output. That a reader has gone away is no failure of ours; that it gets only a
/// part is.
pub fn result(text: &str) -> Result<(), CommandError> {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::of(&ResultUnwritable(error), 1))
        }
        _ => Ok(()),
    }
}

/// Bytes of a process that runs for the user, as they come.
pub fn pass_through(stream: crate::events::Stream, bytes: &[u8]) {
    let _reader_gone = match stream {
        crate::events::Stream::Stdout => std::io::stdout()
            .write_all(bytes)
            .and_then(|()| std::io::stdout().flush()),
        crate::events::Stream::Stderr => std::io::stderr().write_all(bytes),
    };
}

/// One line on standard error. One that nobody can read any more is no failure of the build.
fn say(line: &str) {
    let _reader_gone = writeln!(std::io::stderr(), "{line}");
}

/// A note beside the result, on standard error.
pub fn note(text: &str) {
    say(text);
}

/// Why a command failed and what to do, on standard error; as JSON on standard output if that was asked for.
pub fn failure(manner: Manner, error: &CommandError) {
    if manner == Manner::Json {
        json(&serde_json::json!({
            "event": "failed",
            "message": error.message,
            "hint": error.hint,
            "code": error.facts.code,
            "temporary": error.facts.temporary,
            "exit_code": error.exit_code,
        }));
        return;
    }
    say(&format!(
        "{} {}",
        style("error:").for_stderr().red().bold(),
        error.message
    ));
    if let Some(hint) = &error.hint {
        say(&format!("{} {hint}", style("hint:").for_stderr().cyan()));
    }
    say(&format!(
        "{} {}",
        style("code:").for_stderr().dim(),
        error.facts.code
    ));
}
