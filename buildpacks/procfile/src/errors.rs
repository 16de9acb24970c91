//! Every failure of the buildpack in the words that its user reads: title, where, why, and what to do.

use crate::ProcfileBuildpackError;
use crate::procfile::ParseProcfileError;
use crate::procfile::WhyBroken;
use crate::procfile_file::ReadProcfileError;
use std::fmt;

/// One failure, told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    title: &'static str,
    place: String,
    why: String,
    hint: &'static str,
}

impl fmt::Display for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "error: {}", self.title)?;
        writeln!(formatter, "  where: {}", self.place)?;
        writeln!(formatter, "  why: {}", self.why)?;
        write!(formatter, "hint: {}", self.hint)
    }
}

/// The words for `error`.
pub(crate) fn message(error: &libcnb::Error<ProcfileBuildpackError>) -> Message {
    match error {
        libcnb::Error::BuildpackError(ProcfileBuildpackError::Parse(error)) => parse_message(error),
        libcnb::Error::BuildpackError(ProcfileBuildpackError::Read(error)) => read_message(error),
        other => Message {
            title: "the buildpack could not do its part of the contract with the platform",
            place: "a file or variable of the platform".to_string(),
            why: other.to_string(),
            hint: "this is not the app's fault; build again, and report it if it comes back",
        },
    }
}

fn parse_message(error: &ParseProcfileError) -> Message {
    let hint = match error.why {
        WhyBroken::NoColon | WhyBroken::NoName => {
            "write each process as `name: command` on one line, such as `web: node server.js`, and comments after `#`"
        }
        WhyBroken::BadName => {
            "rename the process, with `-` or `_` between words, such as `web-2: node server.js`"
        }
        WhyBroken::NoCommand => {
            "write the command on the same line, such as `web: node server.js`, or remove the line"
        }
        WhyBroken::ControlCharacter => "remove the character; it often comes along when text is pasted",
        WhyBroken::TooMany => "remove processes, or start some of them from a script",
    };
    Message {
        title: "the Procfile has a broken line",
        place: format!("Procfile, line {}", error.line),
        why: format!("`{}` {}", error.text, error.why),
        hint,
    }
}

fn read_message(error: &ReadProcfileError) -> Message {
    let hint = match error {
        ReadProcfileError::Io(_) => "the Procfile must be a file that the build's user may read",
        ReadProcfileError::TooLarge => {
            "a Procfile has one short line for each process; move long commands to scripts"
        }
        ReadProcfileError::NotUtf8 { .. } => "save the Procfile as UTF-8",
    };
    Message {
        title: "the Procfile could not be read",
        place: "Procfile".to_string(),
        why: error.to_string(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfile::parse_procfile;

    fn words(error: ProcfileBuildpackError) -> String {
        message(&libcnb::Error::BuildpackError(error)).to_string()
    }

    #[test]
    fn a_broken_line_is_told_with_its_number_text_and_cure() {
        let error = parse_procfile("web: node server.js\nworker node worker.js\n").unwrap_err();
        assert_eq!(
            words(ProcfileBuildpackError::Parse(error)),
            "\
error: the Procfile has a broken line
  where: Procfile, line 2
  why: `worker node worker.js` has no colon after the name of a process
hint: write each process as `name: command` on one line, such as `web: node server.js`, and comments after `#`"
        );
    }

    #[test]
    fn a_file_that_is_no_text_is_told() {
        assert_eq!(
            words(ProcfileBuildpackError::Read(ReadProcfileError::NotUtf8 {
                line: 7
            })),
            "\
error: the Procfile could not be read
  where: Procfile
  why: `Procfile`, line 7: not valid UTF-8
hint: save the Procfile as UTF-8"
        );
    }
}
