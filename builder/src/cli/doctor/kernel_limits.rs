//! Limits of the kernel that builds run into: open files, and what watches files.

use std::fs;

use rustix::process::Resource;

use crate::cli::doctor::cure;
use crate::cli::doctor::row::Row;
use crate::cli::doctor::row::State;

/// Sixteen layers, four uploads and a job's connections need more than a hundred at once.
const OPEN_FILES_FAIL: u64 = 256;
const OPEN_FILES_WARN: u64 = 1024;
/// What a build tool with a watcher takes for a middling app.
const WATCHES_WARN: u64 = 65_536;
const INSTANCES_WARN: u64 = 128;

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Open files of this process; none: without limit.
    open_files: Option<u64>,
    /// Inotify watches and instances of one user; none: not told here.
    watches: Option<u64>,
    instances: Option<u64>,
}

impl Limits {
    /// Asks the kernel.
    pub(super) fn read() -> Self {
        let number = |name: &str| {
            let text = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
            text.trim().parse().ok()
        };
        Self {
            open_files: rustix::process::getrlimit(Resource::Nofile).current,
            watches: number("max_user_watches"),
            instances: number("max_user_instances"),
        }
    }

    /// The rows.
    pub(super) fn rows(self) -> Vec<Row> {
        vec![self.files(), self.inotify()]
    }

    fn files(self) -> Row {
        let name = "open files";
        let Some(limit) = self.open_files else {
            return Row::new(name, State::Ok, "without limit");
        };
        let state = match limit {
            ..OPEN_FILES_FAIL => State::Fail,
            OPEN_FILES_FAIL..OPEN_FILES_WARN => State::Warn,
            _ => State::Ok,
        };
        let row = Row::new(name, state, format!("{limit} at once"));
        if state == State::Ok {
            row
        } else {
            row.cure(
                "more open files",
                "ulimit -n 4096                          # in this shell\n\
                 docker run --ulimit nofile=4096 IMAGE   # in a container\n\
                 LimitNOFILE=4096                        # in a unit of systemd",
            )
        }
    }

    fn inotify(self) -> Row {
        let name = "inotify";
        let (Some(watches), Some(instances)) = (self.watches, self.instances) else {
            return Row::new(name, State::Info, "its limits are not told here");
        };
        let found = format!("{watches} watches and {instances} instances a user");
        if watches >= WATCHES_WARN && instances >= INSTANCES_WARN {
            return Row::new(name, State::Ok, found);
        }
        let settings = [
            ("fs.inotify.max_user_watches=524288", watches < WATCHES_WARN),
            ("fs.inotify.max_user_instances=512", instances < INSTANCES_WARN),
        ];
        let cures = settings
            .into_iter()
            .filter(|(_, is_low)| *is_low)
            .map(|(setting, _)| cure::sysctl("builds that watch files", setting));
        Row::new(name, State::Warn, found).cures(cures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_row() {
        let states = |open_files, watches, instances| {
            let limits = Limits {
                open_files,
                watches,
                instances,
            };
            limits.rows().iter().map(|row| row.state).collect::<Vec<_>>()
        };
        assert_eq!(states(None, Some(524_288), Some(512)), [State::Ok, State::Ok]);
        assert_eq!(states(Some(1024), None, Some(1)), [State::Ok, State::Info]);
        assert_eq!(
            states(Some(512), Some(8192), Some(512)),
            [State::Warn, State::Warn]
        );
        assert_eq!(
            states(Some(64), Some(524_288), Some(8)),
            [State::Fail, State::Warn]
        );
    }
}
