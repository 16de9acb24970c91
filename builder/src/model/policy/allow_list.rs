//! What `--network allow:LIST` names: hosts, domains and addresses, each with a port or with those of the policy.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;
use std::collections::BTreeSet;

use crate::model::policy::names::ends_in_a_number;
use crate::model::policy::names::is_below;
use crate::model::policy::names::normal_name;

/// Entries of one list.
const ENTRIES_MAX: usize = 256;

/// A list of what may be reached; in one order, whatever order it was written in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(BTreeSet<Entry>);

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Whom it allows.
    pub whom: Whom,
    /// On which port; none: on those of the policy.
    pub port: Option<u16>,
}

/// Whom an entry allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// One host by its normal name.
    Name(String),
    /// Every host below a domain, not the domain itself.
    Below(String),
    /// A literal address, whatever it is; and a host that resolves to it.
    Address(IpAddr),
}

/// A text that is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowListError {
    /// Nothing is listed.
    #[error("it lists nothing; `none` is the policy without a network")]
    Empty,
    /// Two commas with nothing between them.
    #[error("there is nothing between two of its commas")]
    EmptyEntry,
    /// More than are looked through for each connection.
    #[error("it has more than {ENTRIES_MAX} entries")]
    TooMany,
    /// What follows the colon is no port.
    #[error("`{0}` has no port from 1 to 65535 behind its colon")]
    Port(String),
    /// A URL.
    #[error("`{0}` is a URL or a path; write NAME[:PORT]")]
    Url(String),
    /// `10.0.0.0/8`.
    #[error("`{0}` is a network; list single addresses, or the names of hosts")]
    Network(String),
    /// `*`.
    #[error("`{0}` is every host; `public` is the policy for that")]
    Everything(String),
    /// Neither a name nor an address.
    #[error("`{0}` is no host name, `*.DOMAIN`, IPv4 address or `[IPv6 address]`")]
    NotAHost(String),
}

impl AllowList {
    /// A list of these entries.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// The entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Whether the worker itself may ask a host of a URL: `name`, an address, or an address in brackets. An entry without
    /// a port allows every one. `localhost` is listed where a loopback address is.
    pub fn has_host(&self, host: &str, port: u16) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let name = normal_name(bare);
        let is_host = |whom: &Whom| match (whom, address) {
            (Whom::Address(listed), Some(address)) => *listed == address,
            (Whom::Address(listed), None) => listed.is_loopback() && name.as_deref() == Some("localhost"),
            (_, Some(_)) => false,
            (whom, None) => name
                .as_deref()
                .is_some_and(|name| name != "localhost" && whom.is_name(name)),
        };
        let entries = self.0.iter();
        entries
            .filter(|entry| entry.port.is_none_or(|listed| listed == port))
            .any(|entry| is_host(&entry.whom))
    }

    /// Whether a name is listed, on whatever port.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|entry| entry.whom.is_name(name))
    }

    /// Whether a literal address is listed, on whatever port.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.0
            .iter()
            .any(|entry| entry.whom == Whom::Address(address.to_canonical()))
    }

    /// The ports of a name; none: it is not listed.
    pub(super) fn ports_of_name(&self, name: &str, of_policy: &[u16]) -> Vec<u16> {
        ports(self.0.iter().filter(|entry| entry.whom.is_name(name)), of_policy)
    }

    /// The ports of a literal address; none: it is not listed.
    pub(super) fn ports_of_address(&self, address: IpAddr, of_policy: &[u16]) -> Vec<u16> {
        let whom = Whom::Address(address.to_canonical());
        ports(self.0.iter().filter(|entry| entry.whom == whom), of_policy)
    }

    /// The ports of every entry.
    pub(super) fn ports(&self, of_policy: &[u16]) -> Vec<u16> {
        ports(self.0.iter(), of_policy)
    }
}

fn ports<'a>(entries: impl Iterator<Item = &'a Entry>, of_policy: &[u16]) -> Vec<u16> {
    let mut all = BTreeSet::new();
    for entry in entries {
        match entry.port {
            Some(port) => drop(all.insert(port)),
            None => all.extend(of_policy),
        }
    }
    all.into_iter().collect()
}

impl Whom {
    fn is_name(&self, name: &str) -> bool {
        match self {
            Self::Name(listed) => listed == name,
            Self::Below(domain) => name != domain && is_below(name, domain),
            Self::Address(_) => false,
        }
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, entry) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(formatter, "{comma}{entry}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.whom {
            Whom::Name(name) => formatter.write_str(name)?,
            Whom::Below(domain) => write!(formatter, "*.{domain}")?,
            Whom::Address(IpAddr::V4(address)) => address.fmt(formatter)?,
            Whom::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]")?,
        }
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

impl FromStr for AllowList {
    type Err = AllowListError;

    fn from_str(text: &str) -> Result<Self, AllowListError> {
        if text.trim().is_empty() {
            return Err(AllowListError::Empty);
        }
        if text.split(',').count() > ENTRIES_MAX {
            return Err(AllowListError::TooMany);
        }
        text.split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromStr for Entry {
    type Err = AllowListError;

    fn from_str(text: &str) -> Result<Self, AllowListError> {
        let text = text.trim();
        let wrong = |error: fn(String) -> AllowListError| error(text.to_owned());
        if text.is_empty() {
            return Err(AllowListError::EmptyEntry);
        }
        // An IPv6 address has colons of its own.
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::of_address(address, None));
        }
        if let Some((host, bits)) = text.split_once('/') {
            let is_network = host.parse::<IpAddr>().is_ok() && bits.parse::<u8>().is_ok();
            return Err(wrong(if is_network {
                AllowListError::Network
            } else {
                AllowListError::Url
            }));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let number = port.parse().ok().filter(|number| *number > 0);
                (host, Some(number.ok_or_else(|| wrong(AllowListError::Port))?))
            }
            _ => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Some(bare) = bare {
            let address: core::net::Ipv6Addr = bare.parse().map_err(|_| wrong(AllowListError::NotAHost))?;
            return Ok(Self::of_address(address.into(), port));
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Self::of_address(address, port));
        }
        if host == "*" || host == "*." {
            return Err(wrong(AllowListError::Everything));
        }
        let (is_domain, name) = match host.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, host),
        };
        // `127.1` and `0x7f.1` are addresses to many programs.
        let name = normal_name(name).filter(|name| !ends_in_a_number(name));
        let name = name.ok_or_else(|| wrong(AllowListError::NotAHost))?;
        let whom = if is_domain {
            Whom::Below(name)
        } else {
            Whom::Name(name)
        };
        Ok(Self { whom, port })
    }
}

impl Entry {
    fn of_address(address: IpAddr, port: Option<u16>) -> Self {
        Self {
            whom: Whom::Address(address.to_canonical()),
            port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_form() {
        for (written, form) in [
            ("b.example, A.Example.", "a.example,b.example"),
            ("a.example:443,a.example:80", "a.example:80,a.example:443"),
            ("*.Corp.Example:5432", "*.corp.example:5432"),
            ("2001:db8::1,10.0.0.1:22", "10.0.0.1:22,[2001:db8::1]"),
            ("[2001:DB8::1]:443,[::1]", "[::1],[2001:db8::1]:443"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("db,db", "db"),
        ] {
            let list: AllowList = written.parse().unwrap();
            assert_eq!(list.to_string(), form, "{written}");
            assert_eq!(form.parse::<AllowList>().unwrap(), list, "{written}");
        }
    }

    #[test]
    fn a_loopback_is_reached_by_the_worker_where_its_address_is_listed() {
        let list: AllowList = "npm.lan,mirror.lan:8081,10.0.0.7,localhost".parse().unwrap();
        for (host, port, has) in [
            ("npm.lan", 443, true),
            ("NPM.lan.", 5000, true),
            ("mirror.lan", 8081, true),
            ("mirror.lan", 443, false),
            ("10.0.0.7", 443, true),
            ("[::ffff:10.0.0.7]", 443, true),
            ("10.0.0.8", 443, false),
            ("localhost", 443, false),
            ("127.0.0.1", 443, false),
        ] {
            assert_eq!(list.has_host(host, port), has, "{host}:{port}");
        }
        let list: AllowList = "127.0.0.1".parse().unwrap();
        assert!(list.has_host("localhost", 5000) && list.has_host("127.0.0.1", 5000));
        assert!(!list.has_host("[::1]", 5000));
    }

    #[test]
    fn what_is_wrong_with_a_list_is_said() {
        let many = vec!["a"; 257].join(",");
        for (written, message) in [
            ("", "it lists nothing; `none` is the policy without a network"),
            (" ", "it lists nothing; `none` is the policy without a network"),
            ("a,,b", "there is nothing between two of its commas"),
            (many.as_str(), "it has more than 256 entries"),
            ("a:0", "`a:0` has no port from 1 to 65535 behind its colon"),
            (
                "a:65536",
                "`a:65536` has no port from 1 to 65535 behind its colon",
            ),
            ("a:", "`a:` has no port from 1 to 65535 behind its colon"),
            (
                "[::1]:x",
                "`[::1]:x` has no port from 1 to 65535 behind its colon",
            ),
            (
                "https://a.example/",
                "`https://a.example/` is a URL or a path; write NAME[:PORT]",
            ),
            (
                "10.0.0.0/8",
                "`10.0.0.0/8` is a network; list single addresses, or the names of hosts",
            ),
            ("*", "`*` is every host; `public` is the policy for that"),
            ("*:443", "`*:443` is every host; `public` is the policy for that"),
        ] {
            assert_eq!(
                written.parse::<AllowList>().unwrap_err().to_string(),
                message,
                "{written}"
            );
        }
        for written in [
            "a.*.example",
            "*a.example",
            "127.1",
            "0x7f.1:80",
            "[10.0.0.1]",
            "a b",
            "-o",
            "münchen",
        ] {
            assert!(
                matches!(written.parse::<AllowList>(), Err(AllowListError::NotAHost(_))),
                "{written}"
            );
        }
    }
}
