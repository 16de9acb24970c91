//! Which processes of a job there are and what they use, read from the machine's `/proc` (proc(5)), for the message about a
//! limit. Not: anything that the job could be told.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::sandbox::command_line;

/// How many are named.
const NAMED: usize = 5;
/// Processes that are looked at; a job that has more is told by these.
const PROCESSES_MAX: usize = 20_000;
/// How long looking may take, while the job goes on.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of one file of a process that are read.
const FILE_BYTES_MAX: u64 = 4096;
/// The clock in which the kernel counts processor time for programs, `USER_HZ`: the same on every architecture that
/// packhorse runs on.
const TICKS_PER_SECOND: u64 = 100;

/// One process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number inside the job.
    number: u32,
    /// The name of its program, at most 15 bytes.
    name: String,
    /// Its arguments.
    arguments: Vec<String>,
    /// Resident memory.
    memory_bytes: u64,
    /// Processor time until now.
    ticks: u64,
    /// Its threads.
    pub(crate) threads: u64,
}

/// The processes below `init`, which itself is none of the job's. `parent` is init's: numbers are given anew when a process
/// is gone, and what is not a child of whom it should be is another one.
pub(crate) fn below(init: u32, parent: u32) -> Vec<Process> {
    let until = Instant::now() + LOOK_TIMEOUT;
    let mut found = Vec::new();
    let mut waiting = vec![(init, parent)];
    while let Some((process, parent)) = waiting.pop() {
        if found.len() >= PROCESSES_MAX || Instant::now() > until {
            break;
        }
        // Held open, so that every file read below it is of the same process.
        let Ok(folder) = fs::File::open(format!("/proc/{process}")) else {
            continue;
        };
        let place = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let status = text(&place.join("status"));
        if number_of(&status, "PPid:") != Some(u64::from(parent)) {
            continue;
        }
        waiting.extend(children(&place).into_iter().map(|child| (child, process)));
        if process != init {
            found.push(parse(
                &status,
                &text(&place.join("stat")),
                &text(&place.join("cmdline")),
            ));
        }
    }
    found
}

/// Those with the most memory, a line each. One that is ending has none any more.
pub(crate) fn by_memory(processes: &[Process]) -> Vec<String> {
    let living: Vec<Process> = processes
        .iter()
        .filter(|process| process.memory_bytes > 0)
        .cloned()
        .collect();
    named(&living, |process| process.memory_bytes, mebibytes)
}

/// The memory of all, where shared pages count for each.
pub(crate) fn memory_of(processes: &[Process]) -> u64 {
    processes.iter().map(|process| process.memory_bytes).sum()
}

/// Those with the most processor time.
pub(crate) fn by_time(processes: &[Process]) -> Vec<String> {
    named(processes, |process| process.ticks, seconds)
}

/// The names of which there are the most.
pub(crate) fn by_name(processes: &[Process]) -> Vec<String> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for process in processes {
        *counts.entry(&process.name).or_default() += process.threads.max(1);
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let line = |(name, count): &(&str, u64)| format!("{count}  {name}");
    counts.iter().take(NAMED).map(line).collect()
}

fn named(
    processes: &[Process],
    amount: impl Fn(&Process) -> u64,
    words: impl Fn(u64) -> String,
) -> Vec<String> {
    let mut sorted: Vec<&Process> = processes.iter().collect();
    sorted.sort_by_key(|process| (std::cmp::Reverse(amount(process)), process.number));
    let line = |process: &&Process| {
        let Process { name, number, .. } = process;
        let command = command_line::shown(&process.arguments);
        let gap = if command.is_empty() { "" } else { ": " };
        format!(
            "{}  {name} (process {number}){gap}{command}",
            words(amount(process))
        )
    };
    sorted.iter().take(NAMED).map(line).collect()
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes / (1 << 20) * 10 + bytes % (1 << 20) * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn seconds(ticks: u64) -> String {
    let tenths = ticks * 10 / TICKS_PER_SECOND;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

fn parse(status: &str, stat: &str, command_line: &str) -> Process {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let inside = field("NSpid:").and_then(|numbers| numbers.split_whitespace().next_back()?.parse().ok());
    // The name before them is in parentheses and may have any character in it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |position: usize| -> u64 {
        let field = after_name.split_whitespace().nth(position);
        field.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    Process {
        number: inside.unwrap_or(0),
        name: command_line::plain(field("Name:").unwrap_or_default().trim()),
        arguments: command_line
            .trim_end_matches('\0')
            .split('\0')
            .map(command_line::plain)
            .collect(),
        memory_bytes: number_of(status, "VmRSS:").unwrap_or(0) * 1024,
        // In user and in kernel mode: fields 14 and 15, of which the first two stand before.
        ticks: ticks(11) + ticks(12),
        threads: number_of(status, "Threads:").unwrap_or(1),
    }
}

fn number_of(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The children of all threads of a process.
fn children(place: &Path) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(place.join("task")) else {
        return Vec::new();
    };
    let of_thread =
        |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let texts: Vec<String> = threads.flatten().map(of_thread).collect();
    texts
        .iter()
        .flat_map(|text| text.split_whitespace())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The beginning of a file; empty when the process is gone.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    drop(read);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(number: u32, name: &str, memory_bytes: u64, ticks: u64) -> Process {
        Process {
            number,
            name: name.to_owned(),
            arguments: vec![name.to_owned()],
            memory_bytes,
            ticks,
            threads: 1,
        }
    }

    #[test]
    fn a_process_is_read_from_three_files() {
        let status = "Name:\tcc1 plus\nPPid:\t4\nNSpid:\t4711\t12\nVmRSS:\t    2048 kB\nThreads:\t3\n";
        let stat = "4711 (cc1 ) plus) R 4 1 1 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 3 0 1 1 1";
        let found = parse(status, stat, "cc1plus\0-O2\0");
        assert_eq!((found.number, found.name.as_str()), (12, "cc1 plus"));
        assert_eq!(
            (found.memory_bytes, found.ticks, found.threads),
            (2 << 20, 300, 3)
        );
        assert_eq!(found.arguments, ["cc1plus", "-O2"]);
    }

    #[test]
    fn the_five_that_use_the_most_are_named() {
        let mut processes: Vec<Process> = (1..=9)
            .map(|number| process(number, "sh", u64::from(number) << 20, 0))
            .collect();
        processes.push(process(10, "node", 5 << 20, 1234));
        let lines = by_memory(&processes);
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], "9.0 MiB  sh (process 9): sh");
        assert_eq!(by_time(&processes)[0], "12.3 s  node (process 10): node");
        assert_eq!(by_name(&processes), ["9  sh", "1  node"]);
    }

    #[test]
    fn only_what_is_below_is_found() {
        let own = std::process::id();
        // Of another parent, it is another process.
        assert_eq!(below(own, 1_000_000_000), []);
    }
}
