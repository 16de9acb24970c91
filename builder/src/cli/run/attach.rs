//! What the process reads and writes: pipes or a terminal, by `-i` and `-t` and by what there is.

use crate::cli::terminal;
use crate::sandbox::attachment::Input;

/// What the process is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attached {
    /// Pipes, and nothing to read.
    Outputs,
    /// Pipes, this program's standard input among them.
    Pipes,
    /// A terminal, to which nothing is typed.
    Screen,
    /// A terminal in place of the user's own.
    Terminal,
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Whether standard input is a terminal.
    pub(super) input: bool,
    /// Whether standard output is one.
    pub(super) output: bool,
}

impl Surroundings {
    /// Those of this process.
    pub(super) fn read() -> Self {
        Self {
            input: terminal::is_input(),
            output: terminal::is_output(),
        }
    }
}

impl Attached {
    /// What `-i` and `-t` ask for. As docker, but that `-i` alone means `-it` where a person sits on both sides.
    pub(super) fn of(interactive: bool, tty: bool, surroundings: Surroundings) -> Result<Self, String> {
        match (interactive, tty) {
            (false, false) => Ok(Self::Outputs),
            (false, true) => Ok(Self::Screen),
            (true, false) if surroundings.input && surroundings.output => Ok(Self::Terminal),
            (true, false) => Ok(Self::Pipes),
            (true, true) if surroundings.input => Ok(Self::Terminal),
            (true, true) => Err(
                "-i and -t together need a terminal as standard input, and this is none: leave out -t to pass it on \
                 as it is"
                    .to_owned(),
            ),
        }
    }

    /// Whether the process gets a terminal.
    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::Screen | Self::Terminal)
    }

    /// As the sandbox takes it.
    pub(super) fn input(self) -> Input<'static> {
        let keyboard = rustix::stdio::stdin();
        match self {
            Self::Outputs => Input::Nothing,
            Self::Pipes => Input::Pipe(keyboard),
            Self::Screen | Self::Terminal => Input::Terminal {
                keyboard: (self == Self::Terminal).then_some(keyboard),
                size: terminal::size(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_surroundings_decide() {
        let all = |interactive, tty| {
            [(false, false), (false, true), (true, false), (true, true)]
                .map(|(input, output)| Attached::of(interactive, tty, Surroundings { input, output }).ok())
        };
        assert_eq!(all(false, false), [Some(Attached::Outputs); 4]);
        assert_eq!(all(false, true), [Some(Attached::Screen); 4]);
        let (pipes, terminal) = (Some(Attached::Pipes), Some(Attached::Terminal));
        assert_eq!(all(true, false), [pipes, pipes, pipes, terminal]);
        assert_eq!(all(true, true), [None, None, terminal, terminal]);
    }
}
