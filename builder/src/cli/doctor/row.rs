//! One row of the doctor's table, and all of them as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::model::rung::Rung;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// Builds are possible, and less good than they could be.
    Warn,
    /// Builds fail.
    Fail,
    /// Good to know.
    Info,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }
}

/// What would make a row better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Cure {
    /// What it gives, in words.
    pub(super) gives: String,
    /// Commands, or a file with its path in the first line.
    pub(super) lines: String,
}

/// One check. The keys of its JSON are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// What was looked at.
    pub(super) name: &'static str,
    /// How it came out.
    pub(super) state: State,
    /// What was found.
    pub(super) found: String,
    /// What this depends on and was never tried for real.
    pub(super) never_tried: Option<&'static str>,
    /// What would make it better.
    pub(super) cures: Vec<Cure>,
}

impl Row {
    /// A row without cures.
    pub(super) fn new(name: &'static str, state: State, found: impl Into<String>) -> Self {
        Self {
            name,
            state,
            found: found.into(),
            never_tried: None,
            cures: Vec::new(),
        }
    }

    /// The same row with one more cure.
    pub(super) fn cure(mut self, gives: impl Into<String>, lines: impl Into<String>) -> Self {
        self.cures.push(Cure {
            gives: gives.into(),
            lines: lines.into(),
        });
        self
    }

    /// The same row with more cures.
    pub(super) fn cures(mut self, cures: impl IntoIterator<Item = Cure>) -> Self {
        self.cures.extend(cures);
        self
    }

    /// The same row, saying what of it was never tried for real.
    pub(super) fn never_tried(mut self, what: Option<&'static str>) -> Self {
        self.never_tried = what;
        self
    }
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The rung on which a build would run; none: no sandbox is to be had, or none that is allowed.
    pub(super) rung: Option<Rung>,
    /// The exit code.
    pub(super) exit_code: u8,
    /// Every check.
    pub(super) rows: Vec<Row>,
}

/// No sandbox is to be had.
const NO_SANDBOX: u8 = 77;
/// Another check failed.
const FAILED: u8 = 1;

impl Report {
    /// The rows with what they come to.
    pub(super) fn of(rung: Option<Rung>, rows: Vec<Row>) -> Self {
        let has_failed = rows.iter().any(|row| row.state == State::Fail);
        let exit_code = match rung {
            None => NO_SANDBOX,
            Some(_) if has_failed => FAILED,
            Some(_) => 0,
        };
        Self {
            rung,
            exit_code,
            rows,
        }
    }

    /// The table, the cures below it, and what it comes to.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        for row in &self.rows {
            line(
                &mut text,
                &format!("{:<4}  {:<width$}  {}", row.state.name(), row.name, row.found),
            );
            if let Some(what) = row.never_tried {
                line(
                    &mut text,
                    &format!("      {:width$}  never tried for real: {what}", ""),
                );
            }
        }
        self.cures_to(&mut text);
        line(&mut text, "");
        line(&mut text, &self.end());
        text
    }

    fn cures_to(&self, text: &mut String) {
        let mut told: Vec<&Cure> = Vec::new();
        for (row, cure) in self
            .rows
            .iter()
            .flat_map(|row| row.cures.iter().map(move |cure| (row, cure)))
        {
            if told.contains(&cure) {
                continue;
            }
            if told.is_empty() {
                line(text, "\nto get more:");
            }
            told.push(cure);
            line(text, &format!("\n  {}: {}", row.name, cure.gives));
            for one in cure.lines.lines() {
                line(text, format!("    {one}").trim_end());
            }
        }
    }

    fn end(&self) -> String {
        let failed: Vec<&str> = self
            .rows
            .iter()
            .filter(|row| row.state == State::Fail)
            .map(|row| row.name)
            .collect();
        match self.rung {
            None => "No build is possible here: there is no sandbox that may be used.".to_owned(),
            Some(rung) if failed.is_empty() => {
                format!("Builds are possible here, on the rung `{rung}`.")
            }
            Some(rung) => format!(
                "Builds would run on the rung `{rung}`, and fail where they need: {}.",
                failed.join(", ")
            ),
        }
    }
}

fn line(text: &mut String, content: &str) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whether_a_build_is_possible() {
        let row = |state| vec![Row::new("disk", state, "full")];
        let code = |rung, state| Report::of(rung, row(state)).exit_code;
        assert_eq!(code(Some(Rung::Full), State::Ok), 0);
        assert_eq!(code(Some(Rung::Full), State::Warn), 0);
        assert_eq!(code(Some(Rung::Full), State::Fail), 1);
        assert_eq!(code(None, State::Ok), 77);
        assert_eq!(code(None, State::Fail), 77);
    }

    #[test]
    fn a_cure_of_two_rows_is_told_once() {
        let row = |name| Row::new(name, State::Warn, "missing").cure("both", "the command");
        let report = Report::of(Some(Rung::Rootless), vec![row("one"), row("two")]);
        assert_eq!(report.text().matches("the command").count(), 1);
    }
}
