//! Which address of 198.18.0.0/15 stands for which name in a job: the same for as long as the job lives.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::sync::Mutex;
use std::sync::PoisonError;

/// The benchmark range of RFC 2544: no public host has an address in it.
const FIRST: u32 = Ipv4Addr::new(198, 18, 0, 1).to_bits();
/// Of the unique local addresses (RFC 4193); it means nothing outside a job, and no C library prefers it to IPv4.
const PREFIX_6: Ipv6Addr = Ipv6Addr::new(0xfd70, 0x6163, 0x6b68, 0, 0, 0, 0, 0);
const RANGE_MASK: u32 = 0xfffe_0000;

/// Names and the addresses that stand for them.
#[derive(Debug)]
pub(super) struct Names {
    names_max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    places: HashMap<String, u32>,
    names: Vec<String>,
}

/// The table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Names {
    /// An empty table for `names_max` names (at most as many as the range has addresses).
    pub(super) fn new(names_max: usize) -> Self {
        Self {
            names_max: names_max.min(100_000),
            table: Mutex::default(),
        }
    }

    /// The address that stands for a normal name.
    pub(super) fn address_for(&self, name: &str) -> Result<Ipv4Addr, Full> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = table.places.get(name) {
            return Ok(Ipv4Addr::from_bits(FIRST + place));
        }
        if table.names.len() >= self.names_max {
            return Err(Full);
        }
        let place = u32::try_from(table.names.len()).map_err(|_| Full)?;
        table.names.push(name.to_owned());
        table.places.insert(name.to_owned(), place);
        Ok(Ipv4Addr::from_bits(FIRST + place))
    }

    /// The name that an address stands for.
    pub(super) fn name_of(&self, address: Ipv4Addr) -> Option<String> {
        let place = usize::try_from(address.to_bits().checked_sub(FIRST)?).ok()?;
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.names.get(place).cloned()
    }
}

/// The IPv4 address that can only stand for a name, if this is one, or the IPv6 form of one.
pub(super) fn that_stands_for_a_name(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => (address.to_bits() & RANGE_MASK == FIRST & RANGE_MASK).then_some(address),
        IpAddr::V6(address) => {
            let below = address.to_bits() ^ PREFIX_6.to_bits();
            u32::try_from(below).ok().map(Ipv4Addr::from_bits)
        }
    }
}

/// The IPv6 form of an address that stands for a name.
pub(super) fn version_6(address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(PREFIX_6.to_bits() | u128::from(address.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address() {
        let names = Names::new(3);
        let first = names.address_for("a.example").unwrap();
        let second = names.address_for("b.example").unwrap();
        assert_eq!(first, Ipv4Addr::new(198, 18, 0, 1));
        assert_ne!(first, second);
        assert_eq!(names.address_for("a.example"), Ok(first));
        assert_eq!(names.name_of(second).as_deref(), Some("b.example"));
        assert_eq!(names.name_of(Ipv4Addr::new(198, 18, 0, 3)), None);
        assert_eq!(names.name_of(Ipv4Addr::new(198, 18, 0, 0)), None);
        assert_eq!(names.name_of(Ipv4Addr::new(1, 1, 1, 1)), None);
    }

    #[test]
    fn a_full_table_takes_no_new_name() {
        let names = Names::new(1);
        let first = names.address_for("a.example").unwrap();
        assert_eq!(names.address_for("b.example"), Err(Full));
        assert_eq!(names.address_for("a.example"), Ok(first));
    }

    #[test]
    fn the_range_is_198_18_to_198_19() {
        for (address, inside) in [
            ("198.17.255.255", false),
            ("198.18.0.0", true),
            ("198.19.255.255", true),
            ("198.20.0.0", false),
        ] {
            assert_eq!(
                that_stands_for_a_name(address.parse().unwrap()).is_some(),
                inside,
                "{address}"
            );
        }
        let last = Ipv4Addr::from_bits(FIRST + 99_999);
        assert_eq!(that_stands_for_a_name(last.into()), Some(last));
        assert_eq!(that_stands_for_a_name(version_6(last).into()), Some(last));
        assert_eq!(
            version_6(Ipv4Addr::new(198, 18, 0, 7)).to_string(),
            "fd70:6163:6b68::c612:7"
        );
        assert_eq!(
            that_stands_for_a_name("fd70:6163:6b68:1::1".parse().unwrap()),
            None
        );
    }
}
