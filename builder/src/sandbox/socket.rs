//! A packet socket between worker, monitor and init: JSON messages with descriptors; big ones travel in a memfd.

use std::fs::File;
use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::net::AddressFamily;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::ReturnFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::sockopt::Timeout;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a message that still travel in the packet itself.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of any message: environment and arguments of a command are the biggest.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// Descriptors of one packet; the kernel takes 253.
pub(crate) const DESCRIPTORS_MAX: usize = 200;

const INLINE: u8 = 0;
const IN_MEMFD: u8 = 1;

/// Kind, body and descriptors.
type Packet = (u8, Vec<u8>, Vec<OwnedFd>);

/// One end of a packet socket.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Two connected ends, closed on exec.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(other)))
    }

    /// Sends one message with descriptors.
    pub(crate) fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let body = serde_json::to_vec(message).map_err(io::Error::other)?;
        if body.len() <= INLINE_BYTES_MAX {
            return self.send_packet(INLINE, &body, descriptors);
        }
        let memory = memory_file(&body)?;
        let mut descriptors = descriptors.to_vec();
        descriptors.push(memory.as_fd());
        self.send_packet(IN_MEMFD, &[], &descriptors)
    }

    /// Receives one message; none when the other end is gone.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some((kind, mut body, mut descriptors)) = self.receive_packet()? else {
            return Ok(None);
        };
        if kind == IN_MEMFD {
            let memory = descriptors
                .pop()
                .ok_or_else(|| io::Error::other("a message without its memfd"))?;
            body = read_whole(memory)?;
        }
        let message = serde_json::from_slice(&body).map_err(io::Error::other)?;
        Ok(Some((message, descriptors)))
    }

    fn send_packet(&self, kind: u8, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX + 1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for one packet"));
        }
        let parts = [IoSlice::new(std::slice::from_ref(&kind)), IoSlice::new(body)];
        rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    fn receive_packet(&self) -> io::Result<Option<Packet>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX + 1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = vec![0_u8; INLINE_BYTES_MAX + 1];
        let received = rustix::io::retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => other?,
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(io::Error::other("a message was cut short"));
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        buffer.truncate(received.bytes);
        let kind = buffer.remove(0);
        Ok(Some((kind, buffer, descriptors)))
    }

    /// From now on receiving fails when nothing comes for so long; zero waits for ever.
    pub(crate) fn limit_wait(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        Ok(rustix::net::sockopt::set_socket_timeout(
            &self.0,
            Timeout::Recv,
            timeout,
        )?)
    }

    /// Ends the connection for both sides; the other end reads end of file.
    pub(crate) fn shut_down(&self) {
        // An error says that the other end is already gone.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Socket {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.0
    }
}

/// A file in memory that holds `contents`, at its start.
pub(crate) fn memory_file(contents: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("packhorse", MemfdFlags::CLOEXEC)?);
    file.write_all(contents)?;
    file.rewind()?;
    Ok(file.into())
}

fn read_whole(memory: OwnedFd) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    File::from(memory)
        .take(MESSAGE_BYTES_MAX + 1)
        .read_to_end(&mut body)?;
    if body.len() as u64 > MESSAGE_BYTES_MAX {
        return Err(io::Error::other("a message is too long"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_every_size_arrive_with_their_descriptors() {
        let (one, other) = Socket::pair().unwrap();
        for length in [0, 1, INLINE_BYTES_MAX - 2, INLINE_BYTES_MAX, 3 << 20] {
            let message = "x".repeat(length);
            let file = memory_file(b"inside").unwrap();
            one.send(&message, &[file.as_fd()]).unwrap();
            let (received, descriptors) = other.receive::<String>().unwrap().unwrap();
            assert_eq!(received, message);
            let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).unwrap();
            assert_eq!(read_whole(descriptor).unwrap(), b"inside");
        }
    }

    #[test]
    fn a_gone_end_is_the_end_of_messages() {
        let (one, other) = Socket::pair().unwrap();
        drop(one);
        assert!(other.receive::<String>().unwrap().is_none());
    }
}
