//! File calls from the worker's side: a process of the job's user opens, the worker reads what it was handed.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;

use crate::sandbox::job::Entry;
use crate::sandbox::job::EntryKind;
use crate::sandbox::job::JobError;
use crate::sandbox::message::Answer;
use crate::sandbox::message::FileRequest;
use crate::sandbox::native::NativeJob;
use crate::sandbox::socket;

pub(crate) fn read_file(
    job: &NativeJob,
    path: &Path,
    size_bytes_max: u64,
) -> Result<Option<Vec<u8>>, JobError> {
    let failed = |why: String| file_error("read", path, why);
    let Some(file) = open(job, "read", path, FileRequest::Open { path: path.into() })? else {
        return Ok(None);
    };
    let mut contents = Vec::new();
    let read = File::from(file)
        .take(size_bytes_max.saturating_add(1))
        .read_to_end(&mut contents);
    read.map_err(|error| failed(error.to_string()))?;
    if contents.len() as u64 > size_bytes_max {
        return Err(failed(format!("it is longer than {size_bytes_max} bytes")));
    }
    Ok(Some(contents))
}

pub(crate) fn list(job: &NativeJob, path: &Path, entries_max: usize) -> Result<Vec<Entry>, JobError> {
    let failed = |why: String| file_error("list", path, why);
    let Some(folder) = open(
        job,
        "list",
        path,
        FileRequest::OpenDirectory { path: path.into() },
    )?
    else {
        return Ok(Vec::new());
    };
    let entries = read_entries(&folder, entries_max).map_err(|error| failed(error.to_string()))?;
    let mut entries = entries.ok_or_else(|| failed(format!("it has more than {entries_max} entries")))?;
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

pub(crate) fn write_file(job: &NativeJob, path: &Path, contents: &[u8], mode: u32) -> Result<(), JobError> {
    let memory =
        socket::memory_file(contents).map_err(|error| file_error("write", path, error.to_string()))?;
    let request = FileRequest::Write {
        path: path.into(),
        mode,
    };
    let answer = job
        .ask_file(&during("write", path), request, &[memory.as_fd()])?
        .0;
    expect_done("write", path, answer)
}

/// A call without contents and without a result. Nothing there is no error for a removal, and for nothing else.
pub(crate) fn change(
    job: &NativeJob,
    action: &'static str,
    path: &Path,
    request: FileRequest,
) -> Result<(), JobError> {
    let is_removal = matches!(request, FileRequest::Remove { .. });
    match job.ask_file(&during(action, path), request, &[])?.0 {
        Answer::Missing if is_removal => Ok(()),
        answer => expect_done(action, path, answer),
    }
}

pub(crate) fn open_directory(job: &NativeJob, path: &Path) -> Result<OwnedFd, JobError> {
    let opened = open(
        job,
        "open",
        path,
        FileRequest::OpenDirectory { path: path.into() },
    )?;
    opened.ok_or_else(|| file_error("open", path, "there is no such folder".to_owned()))
}

fn open(
    job: &NativeJob,
    action: &'static str,
    path: &Path,
    request: FileRequest,
) -> Result<Option<OwnedFd>, JobError> {
    match job.ask_file(&during(action, path), request, &[])? {
        (Answer::Done, Some(descriptor)) => Ok(Some(descriptor)),
        (Answer::Missing, _) => Ok(None),
        (answer, _) => expect_done(action, path, answer).map(|()| None),
    }
}

fn read_entries(folder: &OwnedFd, entries_max: usize) -> io::Result<Option<Vec<Entry>>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name: OsString = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        if name == "." || name == ".." {
            continue;
        }
        if entries.len() == entries_max {
            return Ok(None);
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(folder, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        entries.push(Entry {
            name,
            kind: kind_of(kind),
        });
    }
    Ok(Some(entries))
}

fn kind_of(kind: FileType) -> EntryKind {
    match kind {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}

fn expect_done(action: &'static str, path: &Path, answer: Answer) -> Result<(), JobError> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Missing => Err(file_error(
            action,
            path,
            "there is no such file or folder".to_owned(),
        )),
        Answer::Failed { why } => Err(file_error(action, path, why)),
        other => Err(file_error(action, path, format!("an odd answer: {other:?}"))),
    }
}

fn file_error(action: &'static str, path: &Path, why: String) -> JobError {
    JobError::File {
        action,
        path: path.display().to_string(),
        why,
    }
}

fn during(action: &str, path: &Path) -> String {
    format!("{action} {}", path.display())
}
