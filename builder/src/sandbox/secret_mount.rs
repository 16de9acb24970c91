//! A build's secrets inside the job: files on a mount of memory alone, there for one step.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Component;
use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::UnmountFlags;

use std::os::fd::AsFd as _;

use crate::sandbox::device::attach_new;
use crate::sandbox::job::JobError;
use crate::sandbox::message::Answer;
use crate::sandbox::message::Request;
use crate::sandbox::message::SecretFile;
use crate::sandbox::message::Start;
use crate::sandbox::mount;
use crate::sandbox::mount_point::Place;
use crate::sandbox::native::NativeJob;
use crate::sandbox::socket;
use crate::sandbox::step::Step as _;
use crate::sandbox::step::StepError;

/// Puts files below `folder` of the job. From the worker's side.
pub(crate) fn show(job: &NativeJob, folder: &Path, files: &[(&Path, &[u8])]) -> Result<(), JobError> {
    let failed = |why: String| JobError::Secrets { why };
    let all: Vec<u8> = files
        .iter()
        .flat_map(|(_, bytes)| bytes.iter().copied())
        .collect();
    let memory = socket::memory_file(&all).map_err(|error| failed(error.to_string()))?;
    let described = files.iter().map(|(path, bytes)| SecretFile {
        path: (*path).into(),
        bytes: bytes.len() as u64,
    });
    let request = Request::ShowSecrets {
        folder: folder.into(),
        files: described.collect(),
    };
    match job.ask("show the secrets", &request, &[memory.as_fd()])?.0 {
        Answer::Done => Ok(()),
        Answer::Failed { why } => Err(failed(why)),
        other => Err(failed(format!("an odd answer: {other:?}"))),
    }
}

/// Takes them away again. From the worker's side; whoever had them open must be gone.
pub(crate) fn hide(job: &NativeJob, folder: &Path) -> Result<(), JobError> {
    let request = Request::HideSecrets {
        folder: folder.into(),
    };
    match job.ask("hide the secrets", &request, &[])?.0 {
        Answer::Done => Ok(()),
        other => Err(JobError::Secrets {
            why: format!("they cannot be taken away: {other:?}"),
        }),
    }
}

/// Mounts a new file system of memory with the files in it. In init.
pub(crate) fn attach(
    start: &Start,
    folder: &Path,
    files: &[SecretFile],
    contents: Option<OwnedFd>,
) -> Answer {
    answer_of(
        contents
            .ok_or_else(|| io::Error::other("no contents came"))
            .step(|| "take the secrets".to_owned())
            .and_then(|contents| mount_files(start, folder, files, contents)),
    )
}

/// Unmounts it; what was in it is gone. In init.
pub(crate) fn detach(folder: &Path) -> Answer {
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    answer_of(rustix::mount::unmount(folder, flags).step(|| format!("unmount `{}`", folder.display())))
}

fn answer_of(done: Result<(), StepError>) -> Answer {
    match done {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed {
            why: error.to_string(),
        },
    }
}

fn mount_files(
    start: &Start,
    folder: &Path,
    files: &[SecretFile],
    contents: OwnedFd,
) -> Result<(), StepError> {
    // No tmpfs: its pages can be swapped out, these never are. Only what is written here is in it.
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let memory = mount::make("ramfs", &[("mode", "755")], attributes)
        .step(|| "mount a file system of memory for secrets".to_owned())?;
    let mut contents = File::from(contents);
    let mut offset = 0;
    for file in files {
        write(start, &memory, file, &mut contents, offset)
            .step(|| format!("write the secret `{}`", file.path.display()))?;
        offset += file.bytes;
    }
    mount::make_read_only(memory.as_fd()).step(|| "close the secrets to writing".to_owned())?;
    attach_new(&memory, folder, Place::Directory)
}

/// Writes one file with its folders; it is the job's user's, and nobody else can read it.
fn write(
    start: &Start,
    memory: &OwnedFd,
    file: &SecretFile,
    contents: &mut File,
    offset: u64,
) -> io::Result<()> {
    let path = Path::new(&file.path);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(io::Error::other("it is no relative path"));
    }
    let folders: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .filter(|folder| !folder.as_os_str().is_empty())
        .collect();
    for folder in folders.into_iter().rev() {
        match rustix::fs::mkdirat(memory, folder, Mode::from_raw_mode(0o755)) {
            Err(rustix::io::Errno::EXIST) => {}
            other => other?,
        }
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut written = File::from(rustix::fs::openat(memory, path, flags, Mode::RUSR)?);
    let mut bytes = vec![0; usize::try_from(file.bytes).map_err(io::Error::other)?];
    contents.read_exact_at(&mut bytes, offset)?;
    written.write_all(&bytes)?;
    let (uid, gid) = start.user_of_init();
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::fchown(&written, Some(uid), Some(gid))?)
}
