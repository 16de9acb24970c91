//! What the bench is told: where to work, how often, and which of its parts.

use std::path::PathBuf;

use anyhow::Context;
use anyhow::bail;

/// The parts, by their letters in `docs/benchmarks.md`.
const PARTS: &str = "abcdef";

/// The command line.
pub(crate) struct Options {
    /// An empty folder on a fresh file system, which any user may enter.
    pub(crate) directory: PathBuf,
    /// Builds for one median.
    pub(crate) rounds: usize,
    /// The parts that are wanted.
    parts: String,
    /// A data directory that has a base already; then its assembly is not measured.
    pub(crate) home: Option<PathBuf>,
    /// `UID:GID` of a plain user with subordinate ids.
    pub(crate) plain_user: Option<String>,
    /// packhorse, where any user may start it.
    pub(crate) packhorse: PathBuf,
    /// This program, likewise.
    pub(crate) itself: PathBuf,
}

impl Options {
    /// Reads the arguments and puts the programs into the directory.
    pub(crate) fn parse(words: &[String]) -> anyhow::Result<Self> {
        let mut options = Self {
            directory: PathBuf::new(),
            rounds: 20,
            parts: PARTS.to_owned(),
            home: None,
            plain_user: None,
            packhorse: PathBuf::new(),
            itself: PathBuf::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .cloned()
                    .with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--directory" => options.directory = value()?.into(),
                "--rounds" => options.rounds = value()?.parse().context("--rounds is a number")?,
                "--only" => options.parts = value()?,
                "--home" => options.home = Some(value()?.into()),
                "--plain-user" => options.plain_user = Some(value()?),
                _ => bail!("there is no option {word}; start this by scripts/bench"),
            }
        }
        options.directory = options
            .directory
            .canonicalize()
            .context("--directory names no folder; start this by scripts/bench")?;
        options.place_programs()?;
        Ok(options)
    }

    fn place_programs(&mut self) -> anyhow::Result<()> {
        let place = self.directory.join("bin");
        std::fs::create_dir_all(&place)?;
        (self.packhorse, self.itself) = (place.join("packhorse"), place.join("figures"));
        std::fs::copy(env!("CARGO_BIN_EXE_packhorse"), &self.packhorse)?;
        std::fs::copy(std::env::current_exe()?, &self.itself)?;
        Ok(())
    }

    /// Whether a part is to be measured.
    pub(crate) fn wants(&self, part: char) -> bool {
        self.parts.contains(part)
    }
}
