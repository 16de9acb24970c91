//! Parses a Procfile: lines of `name: command`, blank lines and comments.

use std::fmt;

/// As many as anyone needs, and few enough for an image's label.
const PROCESSES_MAX: usize = 100;
const SHOWN_CHARACTERS_MAX: usize = 60;

/// The processes of a Procfile, in the order in which their names first appear.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Procfile {
    processes: Vec<ProcfileProcess>,
    /// The lines whose process a later line replaced.
    replaced_lines: Vec<usize>,
}

/// One `name: command`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProcfileProcess {
    /// Of `[A-Za-z0-9_-]`, not empty.
    pub(crate) name: String,
    /// A command for a shell.
    pub(crate) command: String,
    line: usize,
}

/// A line that is no process.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`Procfile`, line {line}: `{text}` {why}")]
pub(crate) struct ParseProcfileError {
    pub(crate) line: usize,
    /// The line, cut and with its control characters made visible.
    pub(crate) text: String,
    pub(crate) why: WhyBroken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhyBroken {
    NoColon,
    NoName,
    BadName,
    NoCommand,
    ControlCharacter,
    TooMany,
}

impl fmt::Display for WhyBroken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoColon => formatter.write_str("has no colon after the name of a process"),
            Self::NoName => formatter.write_str("has no name before the colon"),
            Self::BadName => {
                formatter.write_str("has a name with other characters than A-Z, a-z, 0-9, `_` and `-`")
            }
            Self::NoCommand => formatter.write_str("has no command after the colon"),
            Self::ControlCharacter => formatter.write_str("has a control character in its command"),
            Self::TooMany => write!(
                formatter,
                "is one process more than the {PROCESSES_MAX} that are allowed"
            ),
        }
    }
}

impl Procfile {
    pub(crate) fn processes(&self) -> &[ProcfileProcess] {
        &self.processes
    }

    /// What is allowed but hardly meant.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .replaced_lines
            .iter()
            .map(|line| format!("line {line} counts for nothing: a later line has the same name"))
            .collect();
        if self.processes.is_empty() {
            warnings.push("there is no process in the Procfile".to_string());
        }
        warnings
    }
}

/// Parses the text of a Procfile; of two lines with one name the last counts.
pub(crate) fn parse_procfile(text: &str) -> Result<Procfile, ParseProcfileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut procfile = Procfile::default();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let broken = |why| ParseProcfileError {
            line,
            text: shown(content),
            why,
        };
        let (name, command) = parse_line(content).map_err(broken)?;
        let process = ProcfileProcess {
            name: name.to_string(),
            command: command.to_string(),
            line,
        };
        if let Some(earlier) = procfile.processes.iter_mut().find(|earlier| earlier.name == name) {
            procfile.replaced_lines.push(earlier.line);
            *earlier = process;
        } else if procfile.processes.len() == PROCESSES_MAX {
            return Err(broken(WhyBroken::TooMany));
        } else {
            procfile.processes.push(process);
        }
    }
    Ok(procfile)
}

fn parse_line(line: &str) -> Result<(&str, &str), WhyBroken> {
    let (name, command) = line.split_once(':').ok_or(WhyBroken::NoColon)?;
    let (name, command) = (name.trim_end(), command.trim_start());
    if name.is_empty() {
        return Err(WhyBroken::NoName);
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    {
        return Err(WhyBroken::BadName);
    }
    if command.is_empty() {
        return Err(WhyBroken::NoCommand);
    }
    if command
        .chars()
        .any(|letter| letter.is_control() && letter != '\t')
    {
        return Err(WhyBroken::ControlCharacter);
    }
    Ok((name, command))
}

fn shown(line: &str) -> String {
    let mut shown: String = line
        .chars()
        .take(SHOWN_CHARACTERS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if line.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(procfile: &Procfile) -> Vec<(&str, &str)> {
        procfile
            .processes()
            .iter()
            .map(|process| (process.name.as_str(), process.command.as_str()))
            .collect()
    }

    #[test]
    fn procfiles_that_are_valid() {
        for (text, expected) in [
            ("web: node server.js", vec![("web", "node server.js")]),
            ("web: a\nworker: b\n", vec![("web", "a"), ("worker", "b")]),
            (
                "\u{feff}web: a\r\n\r\n# comment: no\r\nworker:b\r\n",
                vec![("web", "a"), ("worker", "b")],
            ),
            ("  web :  a: b  ", vec![("web", "a: b")]),
            ("web: a # not a comment", vec![("web", "a # not a comment")]),
            (
                "Web-2_x: cd app && FOO=\"$PORT\" exec ./run",
                vec![("Web-2_x", "cd app && FOO=\"$PORT\" exec ./run")],
            ),
            ("web: a\tb", vec![("web", "a\tb")]),
            ("web: 猫", vec![("web", "猫")]),
            ("", vec![]),
            ("# nothing", vec![]),
        ] {
            assert_eq!(pairs(&parse_procfile(text).unwrap()), expected, "{text:?}");
        }
    }

    #[test]
    fn procfiles_that_are_broken() {
        for (text, expected) in [
            (
                "web node",
                "`Procfile`, line 1: `web node` has no colon after the name of a process",
            ),
            (
                "web: a\n\n: b",
                "`Procfile`, line 3: `: b` has no name before the colon",
            ),
            (
                "my web: a",
                "`Procfile`, line 1: `my web: a` has a name with other characters than A-Z, a-z, 0-9, `_` and `-`",
            ),
            (
                "wéb: a",
                "`Procfile`, line 1: `wéb: a` has a name with other characters than A-Z, a-z, 0-9, `_` and `-`",
            ),
            (
                "web:",
                "`Procfile`, line 1: `web:` has no command after the colon",
            ),
            (
                "web: a\u{1b}[2J",
                "`Procfile`, line 1: `web: a\\u{1b}[2J` has a control character in its command",
            ),
            (
                "<<<<<<< HEAD and a line that goes on and on and on, past what is shown",
                "`Procfile`, line 1: `<<<<<<< HEAD and a line that goes on and on and on, past wha…` has no colon after the name of a process",
            ),
        ] {
            assert_eq!(parse_procfile(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_last_of_two_lines_counts_and_is_warned_about() {
        let procfile = parse_procfile("web: a\nworker: b\nweb: c").unwrap();
        assert_eq!(pairs(&procfile), [("web", "c"), ("worker", "b")]);
        assert_eq!(
            procfile.warnings(),
            ["line 1 counts for nothing: a later line has the same name"]
        );
        assert_eq!(
            parse_procfile("#").unwrap().warnings(),
            ["there is no process in the Procfile"]
        );
    }

    #[test]
    fn there_is_a_limit() {
        let lines: Vec<String> = (0..=PROCESSES_MAX)
            .map(|number| format!("p{number}: a"))
            .collect();
        let text = lines.join("\n");
        assert_eq!(parse_procfile(&text).unwrap_err().why, WhyBroken::TooMany);
    }
}
