//! Where a job may connect to: decided from addresses, names and ports alone.

use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// Ports that a job may dial when the operator says nothing: ssh, http, https, git.
pub const DEFAULT_PORTS: [u16; 4] = [22, 80, 443, 9418];

/// Names under which clouds answer with the machine's credentials. A name below one of these is refused as well.
const METADATA_NAMES: [&str; 7] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "instance-data",
    "instance-data.ec2.internal",
];

/// Suffixes that are never public (RFC 6761, 6762, 8375, ICANN's `internal`, Kubernetes): not asked of an upstream
/// proxy, which resolves by itself.
const PRIVATE_SUFFIXES: [&str; 8] = [
    "localhost",
    "local",
    "localdomain",
    "internal",
    "home.arpa",
    "intranet",
    "lan",
    "svc",
];

/// The network policy of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkPolicy {
    /// Nothing but the job's own loopback.
    None,
    /// Every public address; never what is the machine's or its network's own.
    Public(PublicPolicy),
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
        let policy = self.public()?;
        if policy.trusted_addresses.contains(&address) {
            return Ok(());
        }
        never_dialled(address)?;
        if own_addresses.contains(&address) {
            return Err(Why::OwnAddress);
        }
        not_public(address)
    }

    /// Whether an address may be dialled to which `name` resolved. A trusted host may be anywhere but on this
    /// machine's loopback or at a metadata service.
    pub fn check_named_address(
        &self,
        name: &str,
        address: IpAddr,
        own_addresses: &[IpAddr],
    ) -> Result<(), Why> {
        let policy = self.public()?;
        if policy.trusts(name) && !policy.trusted_addresses.contains(&address) {
            return never_dialled(address);
        }
        self.check_address(address, own_addresses)
    }

    /// Whether a port may be dialled.
    pub fn check_port(&self, port: u16) -> Result<(), Why> {
        if self.public()?.ports.contains(&port) {
            Ok(())
        } else {
            Err(Why::Port)
        }
    }

    /// Whether a name may be looked up; what it resolves to is checked as well. The name is a normal one
    /// ([`normal_name`]).
    pub fn check_name(&self, name: &str) -> Result<(), Why> {
        let policy = self.public()?;
        if METADATA_NAMES.iter().any(|metadata| is_below(name, metadata)) {
            return Err(Why::MetadataName);
        }
        if policy.trusts(name) {
            return Ok(());
        }
        if policy
            .denied_suffixes
            .iter()
            .any(|denied| is_below(name, &plain_suffix(denied)))
        {
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
        if self.public()?.trusts(name) {
            return Ok(());
        }
        if !name.contains('.') || PRIVATE_SUFFIXES.iter().any(|suffix| is_below(name, suffix)) {
            return Err(Why::LocalName);
        }
        Ok(())
    }

    /// Whether a literal address may be asked of an upstream proxy: only one that the operator named.
    pub fn check_address_for_proxy(&self, address: IpAddr) -> Result<(), Why> {
        if self.public()?.trusted_addresses.contains(&address) {
            Ok(())
        } else {
            Err(Why::LiteralBehindProxy)
        }
    }

    fn public(&self) -> Result<&PublicPolicy, Why> {
        match self {
            Self::None => Err(Why::NoNetwork),
            Self::Public(policy) => Ok(policy),
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
}

/// The one form in which a host name is compared, kept and sent on: lower case, without a final dot. None if it is not
/// a host name (letters, digits, `-` and `_` in labels of 1 to 63 bytes, 253 bytes in all).
pub fn normal_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_is_plain = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_plain = name.len() <= 253 && name.split('.').all(label_is_plain);
    is_plain.then(|| name.to_ascii_lowercase())
}

/// Whether `name` is `domain` or below it.
fn is_below(name: &str, domain: &str) -> bool {
    !domain.is_empty()
        && name
            .strip_suffix(domain)
            .is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// `*.Corp.Example.` and `.corp.example` mean `corp.example`.
fn plain_suffix(written: &str) -> String {
    written
        .trim_start_matches('*')
        .trim_matches('.')
        .to_ascii_lowercase()
}

/// `127.1`, `0x7f.1` and `2130706433` are addresses to many programs, though no address to Rust's parser.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_hexadecimal = last
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit())
}

/// What even a trusted host may not resolve to.
fn never_dialled(address: IpAddr) -> Result<(), Why> {
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
fn not_public(address: IpAddr) -> Result<(), Why> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(none.check_port(443), Err(Why::NoNetwork));
        assert_eq!(none.check_name_for_proxy("a.example"), Err(Why::NoNetwork));
    }

    #[test]
    fn only_listed_ports_are_dialled() {
        for port in DEFAULT_PORTS {
            assert_eq!(public().check_port(port), Ok(()));
        }
        for port in [0, 25, 8080, 2375] {
            assert_eq!(public().check_port(port), Err(Why::Port));
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
}
