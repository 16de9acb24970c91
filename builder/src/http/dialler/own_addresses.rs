//! Which addresses the kernel routes to this machine itself: it is asked address by address (`RTM_GETROUTE`), so that
//! routes to whole local networks and policy routing count as they would at the dial. See rtnetlink(7).

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

const NLMSG_ERROR: u16 = 2;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
const RTA_DST: u16 = 1;
/// Types of routes that end at this machine or at all machines of a link.
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_ANYCAST: u8 = 4;

/// `nlmsghdr` and `rtmsg`, in bytes.
const HEADER_SIZE: usize = 16;
const ROUTE_SIZE: usize = 12;
/// Where `rtm_type` stands in an answer.
const ROUTE_TYPE_AT: usize = HEADER_SIZE + 7;

/// Those of `addresses` that are this machine's own.
pub(super) fn among(addresses: &[IpAddr]) -> io::Result<Vec<IpAddr>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut own = Vec::new();
    for address in addresses {
        if is_own(&socket, *address)? {
            own.push(*address);
        }
    }
    Ok(own)
}

fn is_own(socket: &OwnedFd, address: IpAddr) -> io::Result<bool> {
    rustix::net::send(socket, &question(address), SendFlags::empty())?;
    let mut answer = [0_u8; 4096];
    // The kernel answers before `send` returns, so there is nothing to wait for.
    let (length, _) = rustix::net::recv(socket, &mut answer, RecvFlags::DONTWAIT)?;
    let answer = &answer[..length.min(answer.len())];
    let odd = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel's answer about a route is cut short",
        )
    };
    let kind = answer.get(4..6).ok_or_else(odd)?;
    match u16::from_ne_bytes([kind[0], kind[1]]) {
        RTM_NEWROUTE => {
            let route_type = *answer.get(ROUTE_TYPE_AT).ok_or_else(odd)?;
            Ok(matches!(route_type, RTN_LOCAL | RTN_BROADCAST | RTN_ANYCAST))
        }
        // No route there: a dial fails by itself.
        NLMSG_ERROR => Ok(false),
        _ => Err(odd()),
    }
}

fn question(address: IpAddr) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (AddressFamily::INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AddressFamily::INET6, address.octets().to_vec()),
    };
    // 4 or 16 octets and AF_INET or AF_INET6: all fit.
    let length_of = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
    let attribute = length_of(4 + octets.len());
    let total = u32::from(attribute) + u32::from(length_of(HEADER_SIZE + ROUTE_SIZE));
    let mut message = Vec::with_capacity(64);
    message.extend(total.to_ne_bytes());
    message.extend(RTM_GETROUTE.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.push(u8::try_from(family.as_raw()).unwrap_or(0));
    message.push(u8::try_from(octets.len() * 8).unwrap_or(0));
    message.extend([0; ROUTE_SIZE - 2]);
    message.extend(attribute.to_ne_bytes());
    message.extend(RTA_DST.to_ne_bytes());
    message.extend(octets);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_its_own_addresses() {
        let addresses: Vec<IpAddr> = ["127.0.0.1", "127.9.9.9", "192.0.2.77", "2001:db8::77"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        assert_eq!(among(&addresses).unwrap(), addresses[..2]);
    }

    #[test]
    fn an_address_of_an_interface_is_this_machine_s() {
        // A connected UDP socket sends nothing; its own end is the address of the interface that would be used.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("127.0.0.1:9").unwrap();
        let own = socket.local_addr().unwrap().ip();
        assert_eq!(among(&[own]).unwrap(), [own]);
    }
}
