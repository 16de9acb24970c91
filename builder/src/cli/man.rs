//! `packhorse man`: the manual, one page a command, made of the help texts.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::cli::arguments::Arguments;
use crate::cli::arguments::about::ManArguments;
use crate::cli::failure::CommandError;
use crate::cli::render;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// The manual could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the manual to `{}`: {source}", path.display())]
pub struct ManualUnwritable {
    /// Which file or folder.
    path: PathBuf,
    /// The system's words.
    source: io::Error,
}

impl Failure for ManualUnwritable {
    fn facts(&self) -> Facts {
        Facts::user("output_unwritable")
    }
}

/// One page.
struct Page {
    /// `packhorse-base-create.1`.
    name: String,
    roff: String,
}

/// Runs the command.
pub fn run(arguments: &ManArguments) -> Result<u8, CommandError> {
    let pages = pages();
    match &arguments.output_directory {
        None => render::result(&pages[0].roff)?,
        Some(directory) => {
            write(&pages, directory)?;
            render::note(&format!("{} pages in {}", pages.len(), directory.display()));
        }
    }
    Ok(0)
}

/// The page of the program, then those of its commands.
fn pages() -> Vec<Page> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add(&program, &mut pages);
    pages
}

fn add(command: &clap::Command, pages: &mut Vec<Page>) {
    let man = Man::new(command.clone());
    let mut roff = Vec::new();
    // Writing to memory cannot fail.
    if man.render(&mut roff).is_ok() {
        pages.push(Page {
            name: man.get_filename(),
            roff: String::from_utf8_lossy(&roff).into_owned(),
        });
    }
    for below in command.get_subcommands() {
        add(below, pages);
    }
}

fn write(pages: &[Page], directory: &Path) -> Result<(), ManualUnwritable> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| ManualUnwritable { path, source }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    for page in pages {
        let path = directory.join(&page.name);
        fs::write(&path, &page.roff).map_err(failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_of_its_own() {
        let pages = pages();
        let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        assert_eq!(names[0], "packhorse.1");
        for name in [
            "packhorse-build.1",
            "packhorse-base-create.1",
            "packhorse-doctor.1",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        for page in &pages {
            assert!(page.roff.contains(".SH SYNOPSIS"), "{}", page.name);
        }
    }
}
