//! Where a job may connect to: decided from addresses, names and ports alone.

pub mod allow_list;
pub mod choice;
pub mod names;

mod addresses;

use core::fmt;
use core::net::IpAddr;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::policy::addresses::never_dialled;
use crate::model::policy::addresses::not_public;
use crate::model::policy::allow_list::AllowList;
use crate::model::policy::names::METADATA_NAMES;
use crate::model::policy::names::PRIVATE_SUFFIXES;
use crate::model::policy::names::ends_in_a_number;
use crate::model::policy::names::is_below;
use crate::model::policy::names::plain_suffix;

/// Ports that a job may dial when the operator says nothing: ssh, http, https, git.
pub const DEFAULT_PORTS: [u16; 4] = [22, 80, 443, 9418];

/// The network policy of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkPolicy {
    /// Nothing but the job's own loopback.
    None,
    /// Every public address; never what is the machine's or its network's own.
    Public(PublicPolicy),
    /// What a list names and nothing else.
    Listed(ListedPolicy),
    /// The machine's own network. No connection passes the worker, so nothing is asked here: who asks is refused.
    Host,
}

/// What may be reached where a list says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPolicy {
    /// What is listed.
    pub list: AllowList,
    /// Who wrote the list.
    pub origin: ListOrigin,
    /// What the operator says beyond it: the ports of entries that have none, and denied suffixes.
    pub operator: PublicPolicy,
}

/// Where a list comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListOrigin {
    /// `--network allow:LIST`.
    Allowed,
    /// `--offline`: the operator's mirrors and trusted hosts.
    Offline,
}

/// What the public policy knows beyond its fixed rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicPolicy {
    /// Hosts that the operator named (mirror table): dialled wherever they resolve to, loopback and metadata excepted.
    pub trusted_hosts: Vec<String>,
    /// Literal addresses that the operator named: dialled whatever they are.
    pub trusted_addresses: Vec<IpAddr>,
    /// Ports that a job may dial.
    pub ports: Vec<u16>,
    /// Domains that the operator denies, with everything below them: `corp.example`. A trusted host is stronger.
    pub denied_suffixes: Vec<String>,
}

impl Default for PublicPolicy {
    fn default() -> Self {
        Self {
            trusted_hosts: Vec::new(),
            trusted_addresses: Vec::new(),
            ports: DEFAULT_PORTS.to_vec(),
            denied_suffixes: Vec::new(),
        }
    }
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Why {
    /// The step has no network.
    #[error("this step has no network")]
    NoNetwork,
    /// The policy is a list, and this is not in it.
    #[error("the list of `--network allow:…` does not have it")]
    NotListed,
    /// The build is offline, and this is no host of the operator's.
    #[error("the build is offline, and it is neither a mirror nor a trusted host of packhorse.toml")]
    Offline,
    /// The port is not in the list.
    #[error("the port is not one of those that the policy allows")]
    Port,
    /// The text is not a host name.
    #[error("it is not a host name")]
    NotAName,
    /// The name is one of a cloud's metadata service.
    #[error("it is a name of the cloud's metadata service")]
    MetadataName,
    /// The operator denied the domain.
    #[error("the operator denies its domain")]
    DeniedName,
    /// Behind a proxy: the name has one label or a private suffix.
    #[error("it is a name of the local network, and the upstream proxy would resolve it")]
    LocalName,
    /// Behind a proxy: a literal address.
    #[error("it is a literal address, which is not asked of the upstream proxy")]
    LiteralBehindProxy,
    /// 127.0.0.0/8, `::1`, and the unspecified addresses, which mean the same.
    #[error("it is a loopback address")]
    Loopback,
    /// The kernel routes the address to this machine.
    #[error("it is an address of this machine")]
    OwnAddress,
    /// An address of a cloud's metadata service.
    #[error("it is an address of the cloud's metadata service")]
    Metadata,
    /// RFC 1918 or RFC 4193 (ULA), or the older site-local form.
    #[error("it is a private address")]
    Private,
    /// 100.64.0.0/10, the provider's side of a carrier's NAT.
    #[error("it is an address of the provider's own network")]
    Shared,
    /// 169.254.0.0/16 or `fe80::/10`.
    #[error("it is a link-local address")]
    LinkLocal,
    /// 0.0.0.0/8, 192.0.0.0/24, 240.0.0.0/4 and broadcast.
    #[error("it is a reserved address")]
    Reserved,
    /// 224.0.0.0/4 or `ff00::/8`.
    #[error("it is a multicast address")]
    Multicast,
    /// An IPv6 address that carries an IPv4 address: mapped, compatible, translated, NAT64, 6to4 or Teredo.
    #[error("it is an IPv6 address that carries an IPv4 address")]
    Embedded,
}

impl Failure for Why {
    fn facts(&self) -> Facts {
        Facts::user("network_refused")
    }
}

impl NetworkPolicy {
    /// Whether an address that nobody trusted may be dialled. `own_addresses` are those that the kernel routes as
    /// local to this machine.
    pub fn check_address(&self, address: IpAddr, own_addresses: &[IpAddr]) -> Result<(), Why> {
        let policy = match self.rules()? {
            Rules::Public(policy) => policy,
            Rules::Listed(policy) => return policy.check_literal(address),
        };
        if policy.trusted_addresses.contains(&address) {
            return Ok(());
        }
        never_dialled(address)?;
        if own_addresses.contains(&address) {
            return Err(Why::OwnAddress);
        }
        not_public(address)
    }

    /// Whether an address may be dialled to which `name` resolved. A trusted or listed host may be anywhere but on this
    /// machine's loopback or at a metadata service.
    pub fn check_named_address(
        &self,
        name: &str,
        address: IpAddr,
        own_addresses: &[IpAddr],
    ) -> Result<(), Why> {
        match self.rules()? {
            Rules::Public(policy) if policy.trusts(name) && !policy.trusted_addresses.contains(&address) => {
                never_dialled(address)
            }
            Rules::Public(_) => self.check_address(address, own_addresses),
            Rules::Listed(policy) if policy.list.has_address(address) => Ok(()),
            Rules::Listed(_) => never_dialled(address),
        }
    }

    /// Whether a port of a host may be dialled; the name is a normal one ([`names::normal_name`]).
    pub fn check_port_of_name(&self, name: &str, port: u16) -> Result<(), Why> {
        match self.rules()? {
            Rules::Public(policy) => policy.check_port(port),
            Rules::Listed(policy) => {
                let ports = policy.list.ports_of_name(name, &policy.operator.ports);
                policy.check_port(&ports, port)
            }
        }
    }

    /// Whether a port of a literal address may be dialled.
    pub fn check_port_of_address(&self, address: IpAddr, port: u16) -> Result<(), Why> {
        match self.rules()? {
            Rules::Public(policy) => policy.check_port(port),
            Rules::Listed(policy) => {
                let ports = policy.list.ports_of_address(address, &policy.operator.ports);
                policy.check_port(&ports, port)
            }
        }
    }

    /// Whether a name may be looked up; what it resolves to is checked as well. The name is a normal one
    /// ([`names::normal_name`]).
    pub fn check_name(&self, name: &str) -> Result<(), Why> {
        let rules = self.rules()?;
        if METADATA_NAMES.iter().any(|metadata| is_below(name, metadata)) {
            return Err(Why::MetadataName);
        }
        let operator = match rules {
            Rules::Public(policy) => policy,
            Rules::Listed(policy) if policy.list.has_name(name) => &policy.operator,
            Rules::Listed(policy) => return Err(policy.unlisted()),
        };
        if !operator.trusts(name) && operator.denies(name) {
            return Err(Why::DeniedName);
        }
        Ok(())
    }

    /// Whether a name may be asked of an upstream proxy, which resolves it by itself.
    pub fn check_name_for_proxy(&self, name: &str) -> Result<(), Why> {
        self.check_name(name)?;
        if ends_in_a_number(name) {
            return Err(Why::LiteralBehindProxy);
        }
        let is_trusted = match self.rules()? {
            Rules::Public(policy) => policy.trusts(name),
            Rules::Listed(_) => true,
        };
        let is_local = !name.contains('.') || PRIVATE_SUFFIXES.iter().any(|suffix| is_below(name, suffix));
        if is_local && !is_trusted {
            return Err(Why::LocalName);
        }
        Ok(())
    }

    /// Whether a literal address may be asked of an upstream proxy: only one that somebody named.
    pub fn check_address_for_proxy(&self, address: IpAddr) -> Result<(), Why> {
        match self.rules()? {
            Rules::Public(policy) if policy.trusted_addresses.contains(&address) => Ok(()),
            Rules::Public(_) => Err(Why::LiteralBehindProxy),
            Rules::Listed(policy) => policy.check_literal(address),
        }
    }

    /// Every port that may be dialled of some host: the job needs a listener for each.
    pub fn ports(&self) -> Vec<u16> {
        match self {
            Self::None | Self::Host => Vec::new(),
            Self::Public(policy) => policy.ports.clone(),
            Self::Listed(policy) => policy.list.ports(&policy.operator.ports),
        }
    }

    /// What of the policy is input to a build, in one form for one meaning; none for the default. Where the operator's
    /// mirrors and trusted hosts are is none.
    pub fn key_text(&self) -> Option<String> {
        let operator = match self {
            Self::None | Self::Host => return Some(self.to_string()),
            Self::Public(policy) => policy,
            Self::Listed(policy) => &policy.operator,
        };
        let sorted = |list: Vec<String>| {
            let set: std::collections::BTreeSet<String> = list.into_iter().collect();
            set.into_iter().collect::<Vec<_>>().join(",")
        };
        let ports = |ports: &[u16]| sorted(ports.iter().map(|port| format!("{port:05}")).collect());
        let denied = sorted(
            operator
                .denied_suffixes
                .iter()
                .map(|suffix| plain_suffix(suffix))
                .collect(),
        );
        let mut text = self.to_string();
        if ports(&operator.ports) != ports(&DEFAULT_PORTS) {
            text = format!("{text} ports {}", ports(&operator.ports));
        }
        if !denied.is_empty() {
            text = format!("{text} denied {denied}");
        }
        (text != "public").then_some(text)
    }

    /// Whether nothing but the operator's own hosts is reached.
    pub fn is_offline(&self) -> bool {
        matches!(self, Self::Listed(policy) if policy.origin == ListOrigin::Offline)
    }

    fn rules(&self) -> Result<Rules<'_>, Why> {
        match self {
            Self::None | Self::Host => Err(Why::NoNetwork),
            Self::Public(policy) => Ok(Rules::Public(policy)),
            Self::Listed(policy) => Ok(Rules::Listed(policy)),
        }
    }
}

/// The policy's name in log, report and build key.
impl fmt::Display for NetworkPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Public(_) => formatter.write_str("public"),
            Self::Host => formatter.write_str("host"),
            Self::Listed(policy) => match policy.origin {
                ListOrigin::Allowed => write!(formatter, "allow:{}", policy.list),
                ListOrigin::Offline => formatter.write_str("offline"),
            },
        }
    }
}

/// The two policies under which something can be reached.
enum Rules<'a> {
    Public(&'a PublicPolicy),
    Listed(&'a ListedPolicy),
}

impl ListedPolicy {
    fn unlisted(&self) -> Why {
        match self.origin {
            ListOrigin::Allowed => Why::NotListed,
            ListOrigin::Offline => Why::Offline,
        }
    }

    fn check_literal(&self, address: IpAddr) -> Result<(), Why> {
        if self.list.has_address(address) {
            Ok(())
        } else {
            Err(self.unlisted())
        }
    }

    /// Whether `port` is one of those that the list has for a host; none: it does not have the host.
    fn check_port(&self, ports: &[u16], port: u16) -> Result<(), Why> {
        match ports {
            [] => Err(self.unlisted()),
            _ if ports.contains(&port) => Ok(()),
            _ => Err(Why::Port),
        }
    }
}

impl PublicPolicy {
    /// Whether the operator named this host.
    fn trusts(&self, name: &str) -> bool {
        self.trusted_hosts
            .iter()
            .any(|host| host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(name))
    }

    /// Whether the operator denied this host's domain.
    fn denies(&self, name: &str) -> bool {
        self.denied_suffixes
            .iter()
            .any(|denied| is_below(name, &plain_suffix(denied)))
    }

    fn check_port(&self, port: u16) -> Result<(), Why> {
        if self.ports.contains(&port) {
            Ok(())
        } else {
            Err(Why::Port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::names::normal_name;

    fn public() -> NetworkPolicy {
        NetworkPolicy::Public(PublicPolicy::default())
    }

    fn check(address: &str) -> Result<(), Why> {
        public().check_address(address.parse().unwrap(), &[])
    }

    #[test]
    fn public_addresses_are_dialled() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "223.255.255.255",
            // documentation and benchmark ranges: some networks map registries there
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "198.18.0.1",
            "2001:db8::1",
            "2606:4700::1111",
            "2001:1::1",
            "2001:4860:4860::8888",
            "64:ff9b:2::1",
            "2003::1",
        ] {
            assert_eq!(check(address), Ok(()), "{address}");
        }
    }

    #[test]
    fn every_form_of_an_address_of_one_s_own_is_refused() {
        for (address, why) in [
            ("127.0.0.1", Why::Loopback),
            ("127.255.255.254", Why::Loopback),
            ("0.0.0.0", Why::Loopback),
            ("0.1.2.3", Why::Reserved),
            ("10.0.0.0", Why::Private),
            ("10.255.255.255", Why::Private),
            ("172.16.0.1", Why::Private),
            ("172.31.255.255", Why::Private),
            ("192.168.0.1", Why::Private),
            ("100.64.0.1", Why::Shared),
            ("100.127.255.255", Why::Shared),
            ("100.100.100.200", Why::Metadata),
            ("168.63.129.16", Why::Metadata),
            ("169.254.0.1", Why::Metadata),
            ("169.254.169.254", Why::Metadata),
            ("192.0.0.1", Why::Reserved),
            ("192.0.0.192", Why::Metadata),
            ("224.0.0.1", Why::Multicast),
            ("239.255.255.255", Why::Multicast),
            ("240.0.0.1", Why::Reserved),
            ("255.255.255.255", Why::Reserved),
            ("::", Why::Loopback),
            ("::1", Why::Loopback),
            ("::2", Why::Embedded),
            ("::127.0.0.1", Why::Loopback),
            ("::8.8.8.8", Why::Embedded),
            ("::ffff:127.0.0.1", Why::Loopback),
            ("::ffff:10.0.0.1", Why::Embedded),
            ("::ffff:8.8.8.8", Why::Embedded),
            ("::ffff:169.254.169.254", Why::Metadata),
            ("::ffff:0:8.8.8.8", Why::Embedded),
            ("64:ff9b::8.8.8.8", Why::Embedded),
            ("64:ff9b::169.254.169.254", Why::Metadata),
            ("64:ff9b:1::8.8.8.8", Why::Embedded),
            ("64:ff9b:1:ffff:ffff:ffff:808:808", Why::Embedded),
            ("2002:808:808::1", Why::Embedded),
            ("2002:7f00:1::1", Why::Loopback),
            ("2001::1", Why::Embedded),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Why::Embedded),
            ("2001:0:4136:e378:8000:63bf:80ff:fffe", Why::Loopback),
            ("fc00::1", Why::Private),
            ("fdff::1", Why::Private),
            ("fd00:ec2::254", Why::Metadata),
            ("fd20:ce::254", Why::Metadata),
            ("fe80::1", Why::LinkLocal),
            ("febf::1", Why::LinkLocal),
            ("fec0::1", Why::Private),
            ("ff02::1", Why::Multicast),
        ] {
            assert_eq!(check(address), Err(why), "{address}");
        }
    }

    #[test]
    fn own_addresses_are_refused_though_public() {
        let own: IpAddr = "203.0.113.9".parse().unwrap();
        assert_eq!(public().check_address(own, &[own]), Err(Why::OwnAddress));
        assert_eq!(
            public().check_address(own, &["203.0.113.10".parse().unwrap()]),
            Ok(())
        );
    }

    #[test]
    fn trust_reaches_private_addresses_but_never_loopback_or_metadata() {
        let policy = NetworkPolicy::Public(PublicPolicy {
            trusted_hosts: vec!["Mirror.Example.".to_owned()],
            trusted_addresses: vec!["127.0.0.1".parse().unwrap(), "10.9.9.9".parse().unwrap()],
            ..PublicPolicy::default()
        });
        for (name, address, expected) in [
            ("mirror.example", "10.0.0.1", Ok(())),
            ("mirror.example", "fd12::1", Ok(())),
            ("mirror.example", "127.0.0.2", Err(Why::Loopback)),
            ("mirror.example", "127.0.0.1", Ok(())),
            ("mirror.example", "::ffff:127.0.0.1", Err(Why::Loopback)),
            ("mirror.example", "::1", Err(Why::Loopback)),
            ("mirror.example", "169.254.169.254", Err(Why::Metadata)),
            ("mirror.example", "64:ff9b::a9fe:a9fe", Err(Why::Metadata)),
            ("sub.mirror.example", "10.0.0.1", Err(Why::Private)),
            ("other.example", "10.0.0.1", Err(Why::Private)),
            ("other.example", "10.9.9.9", Ok(())),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(
                policy.check_named_address(name, address, &[]),
                expected,
                "{name} {address}"
            );
        }
        let own = "10.0.0.1".parse().unwrap();
        assert_eq!(policy.check_named_address("mirror.example", own, &[own]), Ok(()));
    }

    #[test]
    fn no_network_refuses_everything() {
        let none = NetworkPolicy::None;
        assert_eq!(
            none.check_address("1.1.1.1".parse().unwrap(), &[]),
            Err(Why::NoNetwork)
        );
        assert_eq!(
            none.check_named_address("a.example", "1.1.1.1".parse().unwrap(), &[]),
            Err(Why::NoNetwork)
        );
        assert_eq!(none.check_name("a.example"), Err(Why::NoNetwork));
        assert_eq!(none.check_port_of_name("a.example", 443), Err(Why::NoNetwork));
        assert_eq!(none.check_name_for_proxy("a.example"), Err(Why::NoNetwork));
    }

    #[test]
    fn only_listed_ports_are_dialled() {
        for port in DEFAULT_PORTS {
            assert_eq!(public().check_port_of_name("a.example", port), Ok(()));
        }
        for port in [0, 25, 8080, 2375] {
            assert_eq!(public().check_port_of_name("a.example", port), Err(Why::Port));
        }
    }

    #[test]
    fn names_of_metadata_services_and_denied_domains_are_refused() {
        let policy = NetworkPolicy::Public(PublicPolicy {
            trusted_hosts: vec!["mirror.corp.example".to_owned(), "metadata".to_owned()],
            denied_suffixes: vec![
                "*.Corp.Example.".to_owned(),
                ".bad.example".to_owned(),
                String::new(),
            ],
            ..PublicPolicy::default()
        });
        for (name, expected) in [
            ("registry.npmjs.org", Ok(())),
            ("metadata", Err(Why::MetadataName)),
            ("metadata.google.internal", Err(Why::MetadataName)),
            ("x.metadata.google.internal", Err(Why::MetadataName)),
            ("instance-data", Err(Why::MetadataName)),
            ("metadata.example", Ok(())),
            ("corp.example", Err(Why::DeniedName)),
            ("a.b.corp.example", Err(Why::DeniedName)),
            ("notcorp.example", Ok(())),
            ("mirror.corp.example", Ok(())),
            ("bad.example", Err(Why::DeniedName)),
        ] {
            assert_eq!(policy.check_name(name), expected, "{name}");
        }
    }

    #[test]
    fn what_only_the_local_network_knows_is_not_asked_of_a_proxy() {
        let policy = NetworkPolicy::Public(PublicPolicy {
            trusted_hosts: vec!["mirror".to_owned(), "mirror.internal".to_owned()],
            trusted_addresses: vec!["10.0.0.1".parse().unwrap()],
            ..PublicPolicy::default()
        });
        for (name, expected) in [
            ("registry.npmjs.org", Ok(())),
            ("mirror", Ok(())),
            ("mirror.internal", Ok(())),
            ("intranet", Err(Why::LocalName)),
            ("db.internal", Err(Why::LocalName)),
            ("printer.local", Err(Why::LocalName)),
            ("kubernetes.default.svc", Err(Why::LocalName)),
            ("localhost", Err(Why::LocalName)),
            ("127.1", Err(Why::LiteralBehindProxy)),
            ("10.0.0.1", Err(Why::LiteralBehindProxy)),
            ("2130706433", Err(Why::LiteralBehindProxy)),
            ("0x7f.0x1", Err(Why::LiteralBehindProxy)),
            ("a.0x", Err(Why::LiteralBehindProxy)),
            ("metadata.google.internal", Err(Why::MetadataName)),
        ] {
            assert_eq!(policy.check_name_for_proxy(name), expected, "{name}");
        }
        assert_eq!(
            policy.check_address_for_proxy("10.0.0.1".parse().unwrap()),
            Ok(())
        );
        assert_eq!(
            policy.check_address_for_proxy("1.1.1.1".parse().unwrap()),
            Err(Why::LiteralBehindProxy)
        );
    }

    #[test]
    fn names_have_one_form() {
        for (written, normal) in [
            ("Registry.NPMJS.org.", Some("registry.npmjs.org")),
            ("_http._tcp.deb.example", Some("_http._tcp.deb.example")),
            ("localhost", Some("localhost")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-oProxyCommand.example", None),
            ("a b.example", None),
            ("a\r\nHost: b", None),
            ("a:443", None),
            ("münchen.example", None),
        ] {
            assert_eq!(normal_name(written).as_deref(), normal, "{written}");
        }
        assert_eq!(normal_name(&"a".repeat(64)), None);
        assert_eq!(normal_name(&["abcdefg"; 32].join(".")), None);
    }

    fn listed(list: &str, operator: PublicPolicy) -> NetworkPolicy {
        NetworkPolicy::Listed(ListedPolicy {
            list: list.parse().unwrap(),
            origin: ListOrigin::Allowed,
            operator,
        })
    }

    #[test]
    fn what_is_not_listed_is_refused_on_every_way() {
        let policy = listed(
            "a.example,db.corp:5432,*.deb.example:80,10.0.0.7:22",
            PublicPolicy::default(),
        );
        for (name, port, expected) in [
            ("a.example", 443, Ok(())),
            ("a.example", 5432, Err(Why::Port)),
            ("db.corp", 5432, Ok(())),
            ("db.corp", 443, Err(Why::Port)),
            ("x.deb.example", 80, Ok(())),
            ("deb.example", 80, Err(Why::NotListed)),
            ("xdeb.example", 80, Err(Why::NotListed)),
            ("b.example", 443, Err(Why::NotListed)),
        ] {
            assert_eq!(policy.check_port_of_name(name, port), expected, "{name}:{port}");
            let of_name = expected.err().filter(|why| *why != Why::Port).map_or(Ok(()), Err);
            assert_eq!(policy.check_name(name), of_name, "{name}");
            assert_eq!(policy.check_name_for_proxy(name), of_name, "{name}");
        }
        for (address, port, expected) in [
            ("10.0.0.7", 22, Ok(())),
            ("10.0.0.7", 80, Err(Why::Port)),
            ("10.0.0.8", 22, Err(Why::NotListed)),
            ("1.1.1.1", 443, Err(Why::NotListed)),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(
                policy.check_port_of_address(address, port),
                expected,
                "{address}:{port}"
            );
            let of_address = expected.err().filter(|why| *why != Why::Port).map_or(Ok(()), Err);
            assert_eq!(policy.check_address(address, &[]), of_address, "{address}");
            assert_eq!(policy.check_address_for_proxy(address), of_address, "{address}");
        }
        assert_eq!(policy.ports(), [22, 80, 443, 5432, 9418]);
    }

    #[test]
    fn a_listed_host_is_held_as_a_trusted_one() {
        let policy = listed("a.example,::1", PublicPolicy::default());
        for (address, expected) in [
            ("10.0.0.1", Ok(())),
            ("192.0.2.1", Ok(())),
            ("127.0.0.1", Err(Why::Loopback)),
            ("::ffff:127.0.0.1", Err(Why::Loopback)),
            ("169.254.169.254", Err(Why::Metadata)),
            // listed as an address
            ("::1", Ok(())),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(
                policy.check_named_address("a.example", address, &[]),
                expected,
                "{address}"
            );
        }
        let metadata = listed("metadata.google.internal", PublicPolicy::default());
        assert_eq!(
            metadata.check_name("metadata.google.internal"),
            Err(Why::MetadataName)
        );
    }

    #[test]
    fn what_the_operator_denies_no_list_allows() {
        let operator = PublicPolicy {
            denied_suffixes: vec!["*.corp.example".to_owned()],
            trusted_hosts: vec!["npm.corp.example".to_owned()],
            ..PublicPolicy::default()
        };
        let policy = listed("db.corp.example,npm.corp.example", operator);
        assert_eq!(policy.check_name("db.corp.example"), Err(Why::DeniedName));
        assert_eq!(policy.check_name("npm.corp.example"), Ok(()));
    }

    #[test]
    fn every_meaning_has_one_text_for_the_build_key() {
        let with = |ports: &[u16], denied: &[&str]| {
            NetworkPolicy::Public(PublicPolicy {
                ports: ports.to_vec(),
                denied_suffixes: denied.iter().map(|text| (*text).to_owned()).collect(),
                trusted_hosts: vec!["mirror.example".to_owned()],
                ..PublicPolicy::default()
            })
        };
        for (policy, text) in [
            (with(&[443, 22, 9418, 80], &[]), None),
            (
                with(&[8080, 80], &["b", "*.A"]),
                Some("public ports 00080,08080 denied a,b"),
            ),
            (NetworkPolicy::None, Some("none")),
            (NetworkPolicy::Host, Some("host")),
            (listed("b,a:1", PublicPolicy::default()), Some("allow:a:1,b")),
        ] {
            assert_eq!(policy.key_text().as_deref(), text);
        }
        let offline = NetworkPolicy::Listed(ListedPolicy {
            list: AllowList::default(),
            origin: ListOrigin::Offline,
            operator: PublicPolicy::default(),
        });
        assert_eq!(offline.key_text().as_deref(), Some("offline"));
        assert_eq!(offline.check_name("a.example"), Err(Why::Offline));
    }

    #[test]
    fn the_machine_s_own_network_is_not_asked_for_here() {
        assert_eq!(NetworkPolicy::Host.check_name("a.example"), Err(Why::NoNetwork));
        assert_eq!(
            NetworkPolicy::Host.check_address("1.1.1.1".parse().unwrap(), &[]),
            Err(Why::NoNetwork)
        );
    }
}
