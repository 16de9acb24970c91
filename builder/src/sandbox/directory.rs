//! The directory of one job, its lock, and the janitor that removes what a crash has left.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher as _;
use std::hash::Hasher as _;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::oci::removal;
use crate::sandbox::cgroup;
use crate::sandbox::chroot::leftovers;
use crate::sandbox::chroot::leftovers::Mark;
use crate::sandbox::error::SandboxError;

/// Holds creation and the janitor apart: a directory is never seen without its lock taken.
const JANITOR_LOCK: &str = ".lock";
const JOB_LOCK: &str = "lock";
const CGROUPS: &str = "cgroups";
const MARK: &str = "mark";
/// Where the locks of id ranges are.
pub(crate) const RANGES: &str = ".ranges";

/// `<data>/jobs/<id>/`, mode 0700, removed with all that is in it when this is dropped: not before the job's monitor is
/// gone. The lock is free once both are.
#[derive(Debug)]
pub struct JobDirectory {
    path: PathBuf,
    lock: OwnedFd,
}

impl JobDirectory {
    /// Makes the directory of a new job. `name` is one path component of letters, digits, `-`, `_` and `.`, not
    /// beginning with a dot. The id is the name, the process's number, and chance: processes of two containers may have
    /// the same number, and share a data directory or the cgroups that are named by the id.
    pub fn create(jobs_directory: &Path, name: &str) -> Result<Self, SandboxError> {
        if !is_id(name) {
            return Err(SandboxError::Spec(format!("`{name}` is no name of a job")));
        }
        let failed = |action| {
            move |source: io::Error| SandboxError::Directory {
                action,
                path: jobs_directory.to_owned(),
                source,
            }
        };
        make_private(jobs_directory).map_err(failed("make"))?;
        let janitor = lock(&jobs_directory.join(JANITOR_LOCK), FlockOperation::LockExclusive)
            .map_err(failed("lock"))?;
        let path = make_new(jobs_directory, name).map_err(failed("make"))?;
        let held =
            lock(&path.join(JOB_LOCK), FlockOperation::NonBlockingLockExclusive).map_err(failed("lock"))?;
        drop(janitor);
        Ok(Self { path, lock: held })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of the job.
    pub fn id(&self) -> &str {
        self.path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
    }

    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    pub(crate) fn ranges(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).join(RANGES)
    }
}

impl Drop for JobDirectory {
    fn drop(&mut self) {
        // What cannot be removed is left for the janitor.
        drop(remove_directory(&self.path));
    }
}

/// What a janitor did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// Ids of jobs that were dead and are removed.
    pub removed: Vec<String>,
    /// What could not be removed: id and why.
    pub failed: Vec<(String, String)>,
}

/// Removes the directory and the cgroups of every job whose lock is free. To be called at start.
pub fn janitor(jobs_directory: &Path) -> Result<Cleaned, SandboxError> {
    let failed = |source| SandboxError::Directory {
        action: "clean",
        path: jobs_directory.to_owned(),
        source,
    };
    make_private(jobs_directory).map_err(failed)?;
    let _janitor = lock(&jobs_directory.join(JANITOR_LOCK), FlockOperation::LockExclusive).map_err(failed)?;
    let mut cleaned = Cleaned::default();
    for entry in fs::read_dir(jobs_directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(id) = entry
            .file_name()
            .to_str()
            .filter(|id| is_id(id))
            .map(str::to_owned)
        else {
            continue;
        };
        // A link is no job, wherever it leads.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let lock = lock(
            &entry.path().join(JOB_LOCK),
            FlockOperation::NonBlockingLockExclusive,
        );
        let removed = match &lock {
            Ok(_) => remove_directory(&entry.path()),
            Err(error) => match error.raw_os_error() {
                // It lives.
                Some(libc::EWOULDBLOCK) => continue,
                // A link or a folder is nobody's lock.
                Some(libc::ELOOP | libc::EISDIR) => remove_directory(&entry.path()),
                _ => Err(io::Error::new(error.kind(), error.to_string())),
            },
        };
        match removed {
            Ok(()) => cleaned.removed.push(id),
            Err(source) => cleaned.failed.push((id, source.to_string())),
        }
    }
    Ok(cleaned)
}

/// Writes down the cgroups of a job before they are made, so that the janitor finds them.
pub(crate) fn record_cgroups(job_directory: &Path, cgroups: &[PathBuf]) -> io::Result<()> {
    let mut file = fs::File::create(job_directory.join(CGROUPS))?;
    for cgroup in cgroups {
        writeln!(file, "{}", cgroup.display())?;
    }
    Ok(())
}

/// Writes down how the processes of a job without a process namespace are known, before there are any.
pub(crate) fn record_mark(job_directory: &Path, mark: Mark) -> io::Result<()> {
    fs::write(job_directory.join(MARK), format!("{} {}", mark.user, mark.group))
}

fn recorded_mark(job_directory: &Path) -> Option<Mark> {
    let text = fs::read_to_string(job_directory.join(MARK)).ok()?;
    let (user, group) = text.split_once(' ')?;
    Some(Mark {
        user: user.parse().ok()?,
        group: group.parse().ok()?,
    })
}

fn remove_directory(directory: &Path) -> io::Result<()> {
    if let Some(mark) = recorded_mark(directory) {
        leftovers::end_abandoned(mark);
    }
    let id = directory
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let own_name = format!("packhorse-{id}");
    for line in fs::read_to_string(directory.join(CGROUPS))
        .unwrap_or_default()
        .lines()
    {
        let path = Path::new(line);
        if path.starts_with("/sys/fs/cgroup") && path.file_name() == Some(own_name.as_ref()) {
            cgroup::remove_dying(path)?;
        }
    }
    removal::remove(directory)
}

/// A folder that was not there before.
fn make_new(jobs_directory: &Path, name: &str) -> io::Result<PathBuf> {
    loop {
        // The standard library's keys are of the system's random numbers.
        let chance = RandomState::new().build_hasher().finish();
        let path = jobs_directory.join(format!("{name}-{}-{chance:016x}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn lock(path: &Path, operation: FlockOperation) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation))?;
    Ok(file)
}

fn is_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !id.is_empty() && id.len() <= 100 && !id.starts_with('.') && id.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_janitor_takes_the_dead_and_leaves_the_living() {
        let data = tempfile::tempdir().unwrap();
        let jobs = data.path().join("jobs");
        let living = JobDirectory::create(&jobs, "living").unwrap();
        fs::create_dir_all(jobs.join("dead/work")).unwrap();
        assert_eq!(
            janitor(&jobs).unwrap(),
            Cleaned {
                removed: vec!["dead".to_owned()],
                failed: Vec::new()
            }
        );
        assert!(living.path().exists());
    }

    /// Cleans a folder in which `make` has made a job `broken` beside one that is only dead, which must go in any case.
    fn clean(make: impl FnOnce(&Path)) -> (Cleaned, tempfile::TempDir) {
        let jobs = tempfile::tempdir().unwrap();
        fs::create_dir(jobs.path().join("dead")).unwrap();
        make(&jobs.path().join("broken"));
        let mut cleaned = janitor(jobs.path()).unwrap();
        assert!(!jobs.path().join("dead").exists(), "{cleaned:?}");
        cleaned.removed.retain(|id| id != "dead");
        (cleaned, jobs)
    }

    fn removed() -> Cleaned {
        Cleaned {
            removed: vec!["broken".to_owned()],
            failed: Vec::new(),
        }
    }

    #[test]
    fn a_job_that_died_at_its_first_step_is_removed() {
        // Neither lock nor anything else yet.
        let (cleaned, jobs) = clean(|job| fs::create_dir(job).unwrap());
        assert_eq!(cleaned, removed());
        assert!(!jobs.path().join("broken").exists());
    }

    #[test]
    fn files_and_folders_that_nobody_may_read_are_removed() {
        let (cleaned, jobs) = clean(|job| {
            fs::create_dir_all(job.join("workspace/deep")).unwrap();
            for (file, text) in [
                (CGROUPS, "/sys/fs/cgroup/x\n"),
                (MARK, "12 34"),
                ("workspace/deep/file", "x"),
            ] {
                fs::write(job.join(file), text).unwrap();
                fs::set_permissions(job.join(file), fs::Permissions::from_mode(0o000)).unwrap();
            }
            fs::set_permissions(job.join("workspace/deep"), fs::Permissions::from_mode(0o000)).unwrap();
        });
        assert_eq!(cleaned, removed());
        assert!(!jobs.path().join("broken").exists());
    }

    #[test]
    fn a_link_in_place_of_a_directory_leads_the_janitor_nowhere() {
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("file"), "mine").unwrap();
        let (cleaned, jobs) = clean(|job| symlink(elsewhere.path(), job).unwrap());
        assert_eq!(cleaned, Cleaned::default());
        assert!(jobs.path().join("broken").is_symlink());
        // No lock was made there either.
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_place_of_a_lock_or_of_what_is_in_a_job_is_removed_alone() {
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("file"), "mine").unwrap();
        let (cleaned, jobs) = clean(|job| {
            fs::create_dir(job).unwrap();
            symlink(elsewhere.path().join("lock"), job.join(JOB_LOCK)).unwrap();
            symlink(elsewhere.path(), job.join("workspace")).unwrap();
        });
        assert_eq!(cleaned, removed());
        let (folder_for_lock, _jobs) = clean(|job| fs::create_dir_all(job.join(JOB_LOCK)).unwrap());
        assert_eq!(folder_for_lock, removed());
        assert!(!jobs.path().join("broken").exists());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_directory_is_nobodys_job() {
        let (cleaned, jobs) = clean(|job| fs::write(job, "a note").unwrap());
        assert_eq!(cleaned, Cleaned::default());
        assert_eq!(fs::read_to_string(jobs.path().join("broken")).unwrap(), "a note");
    }

    #[test]
    fn cgroups_that_are_gone_or_not_the_jobs_keep_nothing() {
        let (cleaned, jobs) = clean(|job| {
            fs::create_dir(job).unwrap();
            let lines = [
                "/sys/fs/cgroup/memory/packhorse-broken",
                "/sys/fs/cgroup/pids/no/such/packhorse-broken",
                "/sys/fs/cgroup/memory",
                "/packhorse-broken",
                "",
            ];
            fs::write(job.join(CGROUPS), lines.join("\n")).unwrap();
        });
        assert_eq!(cleaned, removed());
        assert!(!jobs.path().join("broken").exists());
        // Half a line, as of a disk that was full.
        let (cleaned, _jobs) = clean(|job| {
            fs::create_dir(job).unwrap();
            fs::write(job.join(CGROUPS), b"/sys/fs/cgroup/mem\xff\xfe").unwrap();
            fs::write(job.join(MARK), "").unwrap();
        });
        assert_eq!(cleaned, removed());
    }

    #[test]
    fn a_directory_that_no_job_took_is_removed_with_what_is_in_it() {
        let data = tempfile::tempdir().unwrap();
        let directory = JobDirectory::create(data.path(), "job").unwrap();
        let path = directory.path().to_owned();
        fs::create_dir(path.join("workspace")).unwrap();
        fs::write(path.join("workspace/half"), "x").unwrap();
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn no_other_job_of_the_machine_has_the_same_id() {
        let data = tempfile::tempdir().unwrap();
        let job = |place: &str| JobDirectory::create(&data.path().join(place), "run").unwrap();
        let jobs = ["here", "here", "there", "there"].map(job);
        let ids: std::collections::HashSet<_> = jobs.iter().map(JobDirectory::id).collect();
        assert_eq!(ids.len(), 4, "{ids:?}");
    }

    #[test]
    fn names_are_single_plain_names() {
        let data = tempfile::tempdir().unwrap();
        for id in ["", "..", "a/b", ".lock", "a b", "\u{e9}"] {
            assert!(JobDirectory::create(data.path(), id).is_err(), "{id}");
        }
    }
}
