//! The table of what came of all attacks, and whether that is what is expected.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use crate::attacks::assault::Line;
use crate::attacks::expectation::Column;
use crate::attacks::expectation::Exception;
use crate::attacks::expectation::exception;
use crate::support::home::target;

/// What came of everything.
#[derive(Default)]
pub(super) struct Table {
    columns: Vec<&'static Column>,
    /// By attack, column and user.
    cells: BTreeMap<(String, &'static str, u32), (String, String)>,
    twice: Vec<String>,
}

impl Table {
    /// Adds a column.
    pub(super) fn add(&mut self, column: &'static Column, lines: Vec<Line>) {
        self.columns.push(column);
        for line in lines {
            let key = (line.attack, column.name, line.user);
            let name = format!("{key:?}");
            if self.cells.insert(key, (line.verdict, line.why)).is_some() {
                self.twice.push(name);
            }
        }
    }

    /// What is not as expected.
    pub(super) fn wrong(&self, known: &BTreeSet<String>) -> Vec<String> {
        let mut wrong = self.twice.clone();
        for column in &self.columns {
            let name = column.name;
            for user in column.users() {
                for attack in known {
                    let cell = self.cells.get(&(attack.clone(), name, *user));
                    let (verdict, why) = cell.map_or(("silent", ""), |(verdict, why)| (verdict, why));
                    if !is_expected(verdict, exception(attack, name, *user)) {
                        wrong.push(format!("{attack} on {name} as {user}: {verdict} {why}"));
                    }
                }
            }
        }
        let unknown = self.cells.keys().filter(|(attack, ..)| !known.contains(attack));
        wrong.extend(unknown.map(|(attack, ..)| format!("{attack} is not known")));
        wrong
    }

    /// Writes it as Markdown to `attacks.md` in the target directory, and shows it.
    pub(super) fn write(&self) {
        let text = self.markdown();
        fs::write(target().join("attacks.md"), &text).unwrap();
        eprintln!("{text}");
    }

    fn markdown(&self) -> String {
        let attacks: BTreeSet<&str> = self.cells.keys().map(|(attack, ..)| attack.as_str()).collect();
        let mut notes: Vec<&str> = Vec::new();
        let heads: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        let mut text = format!(
            "| attack | {} |\n|---|{}\n",
            heads.join(" | "),
            "---|".repeat(self.columns.len())
        );
        for attack in attacks {
            let cells = self.columns.iter().map(|column| {
                let users = column.users();
                let of_users: Vec<String> = users
                    .iter()
                    .map(|user| self.cell(attack, column.name, *user, &mut notes))
                    .collect();
                if of_users.iter().all(|one| *one == of_users[0]) {
                    return of_users[0].clone();
                }
                let named = users
                    .iter()
                    .zip(&of_users)
                    .map(|(user, cell)| format!("{cell} (user {user})"));
                named.collect::<Vec<_>>().join(", ")
            });
            let cells: Vec<String> = cells.collect();
            // A String takes everything.
            let _ = writeln!(text, "| {attack} | {} |", cells.join(" | "));
        }
        for (position, note) in notes.iter().enumerate() {
            let _ = write!(text, "\n{}. {note}.", position + 1);
        }
        text
    }

    fn cell(&self, attack: &str, column: &'static str, user: u32, notes: &mut Vec<&str>) -> String {
        let cell = self.cells.get(&(attack.to_owned(), column, user));
        let verdict = cell.map_or("silent", |(verdict, _)| verdict);
        match exception(attack, column, user).filter(|_| verdict == "broken") {
            Some(exception) => {
                let position = notes.iter().position(|note| *note == exception.because);
                let number = position.unwrap_or_else(|| {
                    notes.push(exception.because);
                    notes.len() - 1
                });
                format!("not applicable [{}]", number + 1)
            }
            None => verdict.to_owned(),
        }
    }
}

fn is_expected(verdict: &str, exception: Option<&Exception>) -> bool {
    match exception {
        None => matches!(verdict, "held" | "absent"),
        Some(exception) if exception.depends => matches!(verdict, "held" | "broken"),
        Some(_) => verdict == "broken",
    }
}
