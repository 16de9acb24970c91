//! Connections to ports that the policy does not have: nobody listens there, so that the job may, and the kernel refuses
//! them by itself. Here they are seen, and counted as refused.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::sleep;

use crate::model::policy::Why;
use crate::network::gateway::State;
use crate::network::names::that_stands_for_a_name;
use crate::network::refusals::Reason;
use crate::network::refusals::Refusal;

/// As much of a packet as is read.
const PACKET_BYTES_MAX: usize = 128;
/// After so many the watcher rests; what comes meanwhile beyond the kernel's buffer is not counted.
const BURST: u32 = 64;
const REST: Duration = Duration::from_millis(10);

/// Watches until it is dropped. `ports` have listeners, which see their connections themselves.
pub(super) async fn watch(state: Arc<State>, socket: UdpSocket, ports: Vec<u16>) {
    let mut packet = [0; PACKET_BYTES_MAX];
    let mut count = 0;
    loop {
        count += 1;
        if count % BURST == 0 {
            sleep(REST).await;
        }
        match socket.recv(&mut packet).await {
            Ok(length) => {
                let wanted = destination(&packet[..length]);
                if let Some((address, port)) = wanted.filter(|(_, port)| !ports.contains(port)) {
                    record(&state, address, port);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no packet of a job");
                sleep(REST).await;
            }
        }
    }
}

/// Where the first packet of a TCP connection goes (RFC 791, RFC 9293); none if it stays on the job's own loopback.
fn destination(packet: &[u8]) -> Option<(Ipv4Addr, u16)> {
    const TCP: u8 = 6;
    let first = *packet.first()?;
    let header_bytes = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || header_bytes < 20 || *packet.get(9)? != TCP {
        return None;
    }
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let port: [u8; 2] = packet.get(header_bytes + 2..header_bytes + 4)?.try_into().ok()?;
    let address = Ipv4Addr::from(address);
    (!address.is_loopback()).then(|| (address, u16::from_be_bytes(port)))
}

fn record(state: &State, address: Ipv4Addr, port: u16) {
    let in_force = state.in_force();
    let name = that_stands_for_a_name(address.into()).and_then(|place| state.names.name_of(place));
    let checked = match &name {
        Some(name) => in_force.policy.check_port_of_name(name, port),
        None => in_force.policy.check_port_of_address(address.into(), port),
    };
    state.refusals.record(Refusal {
        asker: in_force.asker.clone(),
        address: name.is_none().then_some(address.into()),
        name,
        port: Some(port),
        // A port that is allowed has a listener; the job's own server may have taken it from there.
        why: Reason::Policy(checked.err().unwrap_or(Why::Port)),
        count: 1,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_tells_where_it_goes() {
        let mut packet = [0; 40];
        packet[0] = 0x45;
        packet[9] = 6;
        packet[16..20].copy_from_slice(&[10, 0, 0, 7]);
        packet[22..24].copy_from_slice(&5432_u16.to_be_bytes());
        assert_eq!(destination(&packet), Some((Ipv4Addr::new(10, 0, 0, 7), 5432)));
        // four bytes of options
        let mut longer = [&packet[..20], &[0; 4], &packet[20..]].concat();
        longer[0] = 0x46;
        assert_eq!(destination(&longer), Some((Ipv4Addr::new(10, 0, 0, 7), 5432)));
        for (at, value) in [(0, 0x65), (0, 0x44), (9, 17), (16, 127)] {
            let mut other = packet;
            other[at] = value;
            assert_eq!(destination(&other), None, "{at}: {value}");
        }
        for length in 0..24 {
            assert_eq!(destination(&packet[..length]), None, "{length} bytes");
        }
    }
}
