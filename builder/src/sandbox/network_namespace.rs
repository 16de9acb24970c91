//! The job's network without a device: loopback, routes that make every address local, listeners for the worker.

use std::fs;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use crate::sandbox::linux;
use crate::sandbox::spec::NAME_SERVER;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;

const BACKLOG: i32 = 1024;
const LOOPBACK_INDEX: u32 = 1;

/// Brings the loopback up.
pub(crate) fn start_loopback() -> Result<(), StepError> {
    // Family, padding, type, index, flags, changed flags.
    let mut message = vec![0_u8; 4];
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(libc::IFF_UP.to_ne_bytes());
    message.extend(libc::IFF_UP.to_ne_bytes());
    request(libc::RTM_NEWLINK, 0, &message).step(|| "bring the job's loopback up".to_owned())
}

/// Lets the job's user listen below port 1024, as images expect that run without root. While `/proc/sys` is writable.
pub(crate) fn allow_low_ports() {
    // Where it fails such a server says so itself.
    drop(fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"));
}

/// What makes every address local, and what takes the connections.
#[derive(Debug)]
pub(crate) struct WayOut {
    /// The name server's socket, then the listeners.
    pub(crate) sockets: Vec<OwnedFd>,
    /// What is missing.
    pub(crate) notes: Vec<String>,
}

/// Makes every address local and listens on the ports.
pub(crate) fn listen(ports: &[u16]) -> Result<WayOut, StepError> {
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    request(libc::RTM_NEWROUTE, create, &everything_is_local(libc::AF_INET))
        .step(|| "route IPv4 to us".to_owned())?;
    let version_6 = request(libc::RTM_NEWROUTE, create, &everything_is_local(libc::AF_INET6));
    let mut sockets = vec![bind_udp().step(|| format!("answer names at {NAME_SERVER}"))?];
    let mut notes = Vec::new();
    for port in ports {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port));
        sockets.push(bind_tcp(address).step(|| format!("listen at {address} in the job"))?);
    }
    let listened_6 = version_6.and_then(|()| {
        ports
            .iter()
            .map(|port| bind_tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port))))
            .collect()
    });
    // Without it nobody learns of ports that the policy does not have: nothing else is missing then.
    sockets.extend(watch_attempts().ok());
    match listened_6 {
        Ok(more) => sockets.extend::<Vec<OwnedFd>>(more),
        Err(error) => notes.push(format!(
            "connections to IPv6 addresses are refused inside: {error}"
        )),
    }
    Ok(WayOut { sockets, notes })
}

/// A socket that begins to connect. To wait for the end of it is for whoever gets the socket: a server whose queue is
/// full lets one wait for minutes.
pub(crate) fn begin_to_connect(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let socket = tcp_socket(address, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn tcp_socket(address: SocketAddr, flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

fn bind_tcp(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let socket = tcp_socket(address, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A raw socket that gets a copy of every SYN, and of nothing else.
fn watch_attempts() -> std::io::Result<OwnedFd> {
    const SYN_AND_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    const FLAGS_OFFSET: u32 = 13;
    /// As much of the packet as is looked at.
    const BYTES: u32 = 64;
    let instruction = |code: u32, k: u32, if_true: u8, if_false: u8| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: if_true,
        jf: if_false,
        k,
    };
    // The packet begins with its IPv4 header, whose length goes into X.
    let filter = [
        instruction(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, FLAGS_OFFSET, 0, 0),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, SYN_AND_ACK, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, SYN, 0, 1),
        instruction(libc::BPF_RET | libc::BPF_K, BYTES, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(rustix::net::ipproto::TCP);
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::RAW, flags, protocol)?;
    linux::attach_filter(socket.as_fd(), &filter)?;
    Ok(socket)
}

fn bind_udp() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((NAME_SERVER, 53)))?;
    Ok(socket)
}

/// `local 0.0.0.0/0 dev lo`, or the same for `::/0`.
fn everything_is_local(family: i32) -> Vec<u8> {
    const RTA_OIF: u16 = 4;
    let family = u8::try_from(family).unwrap_or_default();
    // Family, lengths of destination and source, tos, table, protocol, scope, type, flags.
    let scope = libc::RT_SCOPE_HOST;
    let mut message = vec![
        family,
        0,
        0,
        0,
        libc::RT_TABLE_LOCAL,
        libc::RTPROT_BOOT,
        scope,
        libc::RTN_LOCAL,
        0,
        0,
        0,
        0,
    ];
    message.extend(8_u16.to_ne_bytes());
    message.extend(RTA_OIF.to_ne_bytes());
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message
}

/// One request to the kernel's routing, and its answer.
fn request(kind: u16, flags: i32, body: &[u8]) -> rustix::io::Result<()> {
    const HEADER_BYTES: usize = 16;
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let flags = u16::try_from(flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK).map_err(|_| Errno::INVAL)?;
    let length = u32::try_from(HEADER_BYTES + body.len()).map_err(|_| Errno::INVAL)?;
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and port: one request, one answer.
    message.extend([0; 8]);
    message.extend(body);
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
    let ((answer, _), _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty())?;
    // Header, then the error number, negative or 0.
    let number = answer
        .get(HEADER_BYTES..HEADER_BYTES + 4)
        .and_then(|bytes| bytes.try_into().ok());
    match number.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(number) => Err(Errno::from_raw_os_error(-number)),
        None => Err(Errno::PROTO),
    }
}
