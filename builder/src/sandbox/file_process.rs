//! One file call, done by a fork of init that became the job's user, inside the job's root.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

use crate::oci::removal;
use crate::sandbox::landlock_rules::restrict_writing;
use crate::sandbox::linux;
use crate::sandbox::message::Answer;
use crate::sandbox::message::FileRequest;
use crate::sandbox::message::Start;
use crate::sandbox::privilege::become_user_for_files;
use crate::sandbox::socket::Socket;

/// Does the call, answers, and ends.
pub(crate) fn main(start: &Start, request: &FileRequest, answer: &Socket, descriptors: Vec<OwnedFd>) -> ! {
    linux::reset_signals();
    let done = become_user_for_files(start)
        .and_then(|()| restrict_writing(start).map_err(|error| io::Error::other(error.to_string())))
        .and_then(|()| act(request, descriptors));
    // A worker that no longer waits for the answer has closed its end.
    drop(match done {
        Ok(Some(descriptor)) => answer.send(&Answer::Done, &[descriptor.as_fd()]),
        Ok(None) => answer.send(&Answer::Done, &[]),
        Err(error) if is_missing(&error) => answer.send(&Answer::Missing, &[]),
        Err(error) => answer.send(
            &Answer::Failed {
                why: error.to_string(),
            },
            &[],
        ),
    });
    linux::exit_now(0)
}

fn act(request: &FileRequest, descriptors: Vec<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match request {
        FileRequest::Open { path } => open_file(path).map(Some),
        FileRequest::OpenDirectory { path } => Ok(Some(open(path, OFlags::RDONLY | OFlags::DIRECTORY)?)),
        FileRequest::Write { path, mode } => {
            let contents = descriptors
                .into_iter()
                .next()
                .ok_or_else(|| io::Error::other("no contents came"))?;
            write(Path::new(path), contents, *mode).map(|()| None)
        }
        FileRequest::MakeDirectory { path } => fs::create_dir_all(path).map(|()| None),
        FileRequest::Rename { from, to } => fs::rename(from, to).map(|()| None),
        FileRequest::Remove { path } => removal::remove(Path::new(path)).map(|()| None),
    }
}

/// Opens a regular file; a FIFO or a device would block or do harm, so it is only looked at first.
fn open_file(path: &OsString) -> io::Result<OwnedFd> {
    let file = open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(io::Error::other("it is not a regular file")),
    }
}

fn open(path: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat2(
        CWD,
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    )
}

/// Writes beside the place and renames, so that a link there is replaced and not followed.
fn write(path: &Path, contents: OwnedFd, mode: u32) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("it has no file name"));
    };
    let folder = open(folder.as_os_str(), OFlags::PATH | OFlags::DIRECTORY)?;
    let temporary = format!(".packhorse-{}", rustix::process::getpid().as_raw_nonzero());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(&folder, temporary.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
    let written = copy(contents, file, mode)
        .and_then(|()| Ok(rustix::fs::renameat(&folder, temporary.as_str(), &folder, name)?));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&folder, temporary.as_str(), rustix::fs::AtFlags::empty());
    }
    written
}

fn copy(contents: OwnedFd, file: OwnedFd, mode: u32) -> io::Result<()> {
    let mut file = File::from(file);
    io::copy(&mut File::from(contents), &mut file)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
    Ok(())
}

fn is_missing(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(Errno::NOENT.raw_os_error()) || number == Some(Errno::NOTDIR.raw_os_error())
}
