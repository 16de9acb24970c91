//! Which addresses are the machine's or its network's own, and which carry credentials: rules on numbers alone.

use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

use crate::model::policy::Why;

/// What even a trusted host may not resolve to.
pub(super) fn never_dialled(address: IpAddr) -> Result<(), Why> {
    let carried = match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(address) => {
            if address.is_loopback() || address.is_unspecified() {
                return Err(Why::Loopback);
            }
            if is_metadata_v6(address) {
                return Err(Why::Metadata);
            }
            embedded_v4(address)
        }
    };
    match carried {
        Some(v4) if v4.is_loopback() || v4.is_unspecified() => Err(Why::Loopback),
        Some(v4) if is_metadata_v4(v4) => Err(Why::Metadata),
        _ => Ok(()),
    }
}

/// The fixed rules for an address that nobody trusted.
pub(super) fn not_public(address: IpAddr) -> Result<(), Why> {
    match address {
        IpAddr::V4(address) => not_public_v4(address),
        IpAddr::V6(address) => not_public_v6(address),
    }
}

fn not_public_v4(address: Ipv4Addr) -> Result<(), Why> {
    match address.octets() {
        [127, ..] => Err(Why::Loopback),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Err(Why::Private),
        [100, 64..=127, ..] => Err(Why::Shared),
        [169, 254, ..] => Err(Why::LinkLocal),
        [224..=239, ..] => Err(Why::Multicast),
        [0 | 240..=255, ..] | [192, 0, 0, _] => Err(Why::Reserved),
        _ => Ok(()),
    }
}

fn not_public_v6(address: Ipv6Addr) -> Result<(), Why> {
    if embedded_v4(address).is_some() {
        return Err(Why::Embedded);
    }
    match address.segments()[0] {
        0xfc00..=0xfdff | 0xfec0..=0xfeff => Err(Why::Private),
        0xfe80..=0xfebf => Err(Why::LinkLocal),
        0xff00..=0xffff => Err(Why::Multicast),
        _ => Ok(()),
    }
}

/// The IPv4 address inside an IPv6 address of one of the transition forms; of the Teredo form the client's. Below
/// `64:ff9b:1::/48` networks choose a prefix length; the last 32 bits are read, as at /96.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |bits: [u16; 2]| {
        let [a, b] = bits[0].to_be_bytes();
        let [c, d] = bits[1].to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // mapped and compatible (RFC 4291), translated (RFC 2765), NAT64's well-known prefix (RFC 6052) and its local
        // one (RFC 8215), 6to4 (RFC 3056)
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x0064, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(last([high, low])),
        // Teredo (RFC 4380): the client's address is written with its bits turned over
        [0x2001, 0, .., high, low] => Some(last([!high, !low])),
        _ => None,
    }
}

/// Where clouds answer with the machine's credentials: the link-local addresses of most, and those that lie elsewhere.
fn is_metadata_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        // Alibaba; Oracle's older; Azure's host
        [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => true,
        _ => address.is_link_local(),
    }
}

/// `fd00:ec2::…` (EC2's metadata, time and EKS credentials) and GCE's.
fn is_metadata_v6(address: Ipv6Addr) -> bool {
    matches!(
        address.segments(),
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, _] | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254]
    )
}
