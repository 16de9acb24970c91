//! A real job in a scratch root, its commands run by bubblewrap as user 1000; stops nobody who means harm.

use std::ffi::CString;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;

use crate::events::Cancel;
use crate::events::Stream;
use crate::model::limit_reached::Limit;
use crate::model::limit_reached::LimitReached;
use crate::sandbox::attachment::Attachment;
use crate::sandbox::command::Command;
use crate::sandbox::command::Exit;
use crate::sandbox::job::Entry;
use crate::sandbox::job::EntryKind;
use crate::sandbox::job::Job;
use crate::sandbox::job::JobError;
use crate::sandbox::job::Output;

/// A job in a scratch root.
pub(super) struct BwrapJob {
    root: tempfile::TempDir,
    timeout: Duration,
    pub(super) cancel: Cancel,
}

impl BwrapJob {
    /// A root with the host's programs, user `cnb`, and empty `/workspace`, `/layers`, `/platform`, `/cnb`.
    pub(super) fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("packhorse-job.")
            .tempdir()
            .unwrap();
        let job = Self {
            root,
            timeout: Duration::from_secs(60),
            cancel: Cancel::default(),
        };
        for folder in [
            "workspace",
            "layers",
            "platform/env",
            "cnb/buildpacks",
            "tmp",
            "home/cnb",
            "etc",
            "usr",
            "proc",
            "dev",
        ] {
            fs::create_dir_all(job.host(folder)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), job.host(name)).unwrap();
        }
        fs::write(job.host("etc/passwd"), "cnb:x:1000:1000::/home/cnb:/bin/sh\n").unwrap();
        fs::write(job.host("etc/group"), "cnb:x:1000:\n").unwrap();
        fs::write(job.host("etc/os-release"), "ID=debian\nVERSION_ID=\"13\"\n").unwrap();
        job
    }

    /// The same, but each command has only so long.
    pub(super) fn with_timeout(timeout: Duration) -> Self {
        Self {
            timeout,
            ..Self::new()
        }
    }

    /// Where a path of the job is on the host.
    pub(super) fn host(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    fn start(&self, command: &Command) -> std::io::Result<Child> {
        let mut bwrap = std::process::Command::new("bwrap");
        bwrap.args([
            "--unshare-user",
            "--uid",
            "1000",
            "--gid",
            "1000",
            "--unshare-pid",
            "--unshare-net",
        ]);
        bwrap.args(["--unshare-ipc", "--die-with-parent", "--clearenv"]);
        bwrap.arg("--bind").arg(self.root.path()).arg("/");
        bwrap.args(["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]);
        bwrap.arg("--chdir").arg(&command.working_directory);
        // bubblewrap itself sets PWD.
        bwrap.args(["--", "/usr/bin/env", "-i"]);
        for (name, value) in &command.environment {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            bwrap.arg(pair);
        }
        bwrap
            .args(&command.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let root = rustix::fs::open(self.root.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let inside = Path::new(".").join(path.strip_prefix("/").unwrap_or(path));
        let inside = CString::new(inside.as_os_str().as_bytes()).map_err(|_| rustix::io::Errno::INVAL)?;
        rustix::fs::openat2(
            root,
            &inside,
            flags | OFlags::CLOEXEC,
            mode,
            ResolveFlags::IN_ROOT,
        )
    }

    /// A path that names the last part of `path` in its folder, which is resolved in the root.
    fn place(&self, action: &'static str, path: &Path) -> Result<(OwnedFd, PathBuf), JobError> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(action, path, "it has no name"));
        };
        let folder = self
            .open(folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .map_err(|why| failed(action, path, why))?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok((folder, place))
    }
}

fn failed(action: &'static str, path: &Path, why: impl std::fmt::Display) -> JobError {
    JobError::File {
        action,
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

fn is_absent(error: rustix::io::Errno) -> bool {
    matches!(error, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)
}

impl Job for BwrapJob {
    fn show_secrets(&self, _folder: &Path, _files: &[(&Path, &[u8])]) -> Result<(), JobError> {
        Err(JobError::Secrets {
            why: "bubblewrap mounts nothing later".to_owned(),
        })
    }

    fn hide_secrets(&self, _folder: &Path) -> Result<(), JobError> {
        Ok(())
    }

    fn run_attached(
        &self,
        command: &Command,
        _attachment: &Attachment<'_>,
        _output: Output<'_>,
    ) -> Result<Exit, JobError> {
        Err(JobError::Ended {
            during: command.name.clone(),
            why: "nobody tries anything in these tests".to_owned(),
        })
    }

    fn run(&self, command: &Command, output: Output<'_>) -> Result<Exit, JobError> {
        let program = self.host(Path::new(&command.arguments[0]));
        let is_inside = !command.arguments[0].as_encoded_bytes().starts_with(b"/usr/")
            && command.arguments[0] != "/bin/sh";
        if is_inside {
            let not_started = |why: &str| Ok(Exit::NotStarted { why: why.to_owned() });
            match fs::metadata(&program) {
                Err(why) => return not_started(&why.to_string()),
                Ok(found) if found.permissions().mode() & 0o111 == 0 => {
                    return not_started("permission denied");
                }
                Ok(_) => {}
            }
        }
        let mut child = self
            .start(command)
            .expect("bubblewrap must be installed for these tests");
        let (sender, receiver) = mpsc::channel();
        let pipes: [(Stream, Box<dyn std::io::Read + Send>); 2] = [
            (Stream::Stdout, Box::new(child.stdout.take().unwrap())),
            (Stream::Stderr, Box::new(child.stderr.take().unwrap())),
        ];
        for (stream, mut pipe) in pipes {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(length) = pipe.read(&mut buffer) {
                    if length == 0 || sender.send((stream, buffer[..length].to_vec())).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let after = command.timeout.unwrap_or(self.timeout);
        let end = Instant::now() + after;
        loop {
            match receiver.recv_timeout(Duration::from_millis(20)) {
                Ok((stream, bytes)) => output(stream, &bytes),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            let ending = if self.cancel.is_cancelled() {
                Exit::Cancelled
            } else if Instant::now() > end {
                Exit::OverLimit(LimitReached::of(Limit::WallClock(after)))
            } else {
                continue;
            };
            child.kill().unwrap();
            child.wait().unwrap();
            return Ok(ending);
        }
        let status = child.wait().unwrap();
        Ok(match (status.code(), status.signal()) {
            // bubblewrap says so of a child that a signal ended.
            (Some(code), _) if code > 128 => Exit::Signal(code - 128),
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        })
    }

    fn sweep(&self) -> Result<(), JobError> {
        // Each command has a process namespace of its own, which ends with it.
        Ok(())
    }

    fn attach_layers(&self) -> Result<(), JobError> {
        Ok(())
    }

    fn read_file(&self, path: &Path, size_bytes_max: u64) -> Result<Option<Vec<u8>>, JobError> {
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
            Err(why) if is_absent(why) => return Ok(None),
            other => fs::File::from(other.map_err(|why| failed("read", path, why))?),
        };
        let metadata = file.metadata().map_err(|why| failed("read", path, why))?;
        if !metadata.is_file() {
            return Err(failed("read", path, "it is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(size_bytes_max + 1)
            .read_to_end(&mut bytes)
            .map_err(|why| failed("read", path, why))?;
        if bytes.len() as u64 > size_bytes_max {
            return Err(failed(
                "read",
                path,
                format!("it has more than {size_bytes_max} bytes"),
            ));
        }
        Ok(Some(bytes))
    }

    fn list(&self, path: &Path, entries_max: usize) -> Result<Vec<Entry>, JobError> {
        let folder = match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Err(why) if is_absent(why) => return Ok(Vec::new()),
            other => other.map_err(|why| failed("list", path, why))?,
        };
        let mut entries = Vec::new();
        for entry in fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd())).unwrap() {
            let entry = entry.unwrap();
            let kind = match entry.file_type().unwrap() {
                kind if kind.is_dir() => EntryKind::Directory,
                kind if kind.is_file() => EntryKind::File,
                kind if kind.is_symlink() => EntryKind::Symlink,
                _ => EntryKind::Other,
            };
            entries.push(Entry {
                name: entry.file_name(),
                kind,
            });
        }
        if entries.len() > entries_max {
            return Err(failed(
                "list",
                path,
                format!("it has more than {entries_max} names"),
            ));
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn write_file(&self, path: &Path, contents: &[u8], mode: u32) -> Result<(), JobError> {
        self.remove(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = self
            .open(path, flags, Mode::from_raw_mode(mode))
            .map_err(|why| failed("write", path, why))?;
        fs::File::from(file)
            .write_all(contents)
            .map_err(|why| failed("write", path, why))
    }

    fn make_directory(&self, path: &Path) -> Result<(), JobError> {
        let mut made = PathBuf::from("/");
        for part in path.components().skip(1) {
            made.push(part);
            let (_folder, place) = self.place("make", &made)?;
            match fs::create_dir(place) {
                Err(why) if why.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(failed("make", path, why));
                }
                _ => {}
            }
        }
        self.open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .map_err(|why| failed("make", path, why))?;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), JobError> {
        if from.parent() != to.parent() {
            return Err(failed("rename", from, "not within one folder"));
        }
        let (_from_folder, from_place) = self.place("rename", from)?;
        let (_to_folder, to_place) = self.place("rename", to)?;
        fs::rename(from_place, to_place).map_err(|why| failed("rename", from, why))
    }

    fn remove(&self, path: &Path) -> Result<(), JobError> {
        let Ok((_folder, place)) = self.place("remove", path) else {
            return Ok(());
        };
        let removed = match fs::symlink_metadata(&place) {
            Err(_) => return Ok(()),
            Ok(found) if found.is_dir() => fs::remove_dir_all(&place),
            Ok(_) => fs::remove_file(&place),
        };
        removed.map_err(|why| failed("remove", path, why))
    }

    fn open_directory(&self, path: &Path) -> Result<OwnedFd, JobError> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(|why| failed("open", path, why))
    }
}
