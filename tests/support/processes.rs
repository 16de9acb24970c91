//! What runs below a process, as `/proc` tells it.

use std::fs;

/// A process that cannot be mistaken for a later one with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    id: u32,
    /// When it was started, in ticks since boot.
    started: String,
    name: String,
}

impl Process {
    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Whether it runs this program.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name == name
    }

    /// Whether this is among its arguments.
    pub(crate) fn has_argument(&self, argument: &str) -> bool {
        let arguments = fs::read(format!("/proc/{}/cmdline", self.id)).unwrap_or_default();
        arguments
            .split(|byte| *byte == 0)
            .any(|one| one == argument.as_bytes())
    }

    /// Whether it still runs; one that only waits to be reaped does not.
    pub(crate) fn is_alive(&self) -> bool {
        read(self.id).is_some_and(|(process, _, state)| process == *self && state != "Z" && state != "X")
    }
}

/// Every process below `ancestor`, without itself.
pub(crate) fn descendants(ancestor: u32) -> Vec<Process> {
    let names = fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<_> = names
        .filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for (process, of, _) in &all {
            if *of == parent && !found.contains(process) {
                parents.push(process.id);
                found.push(process.clone());
            }
        }
    }
    found
}

/// A process, its parent and its state.
fn read(id: u32) -> Option<(Process, u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let name = head.split_once('(')?.1.to_owned();
    let (state, parent, started) = (fields.first()?, fields.get(1)?.parse().ok()?, fields.get(19)?);
    Some((
        Process {
            id,
            started: (*started).to_owned(),
            name,
        },
        parent,
        (*state).to_owned(),
    ))
}
