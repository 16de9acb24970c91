//! A job in a namespace with IPv6: its names, its literal addresses, and names over TCP.

use std::net::IpAddr;
use std::net::Ipv4Addr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::model::policy::ListOrigin;
use crate::model::policy::ListedPolicy;
use crate::model::policy::NetworkPolicy;
use crate::model::policy::PublicPolicy;
use crate::model::policy::Why;
use crate::network::refusals::Reason;
use crate::network::tests::Job;
use crate::network::tests::echo;
use crate::network::tests::exchange;
use crate::network::tests::is_reset;
use crate::network::tests::server;
use crate::network::tests::trusting_loopback;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn a_host_is_reached_by_its_ipv6_address_though_it_has_none_outside() {
    let port = server(echo);
    let job = Job::of_both(&[port], trusting_loopback(&[port]));
    let (code, addresses) = job
        .inside
        .ask(Ipv4Addr::LOCALHOST, "server.example", RecordType::AAAA);
    assert_eq!(code, ResponseCode::NoError);
    let [address @ IpAddr::V6(_)] = addresses[..] else {
        panic!("{addresses:?}");
    };
    exchange(&mut job.inside.connect(address, port), "hello");
    assert_eq!(job.gateway.refusals(), []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn literal_ipv6_addresses_are_held_by_the_policy() {
    for (wanted, why) in [
        ("::1", Why::Loopback),
        ("fd00::1", Why::Private),
        ("fd00:ec2::254", Why::Metadata),
        ("::ffff:0:127.0.0.1", Why::Loopback),
        ("64:ff9b::a00:1", Why::Embedded),
        ("2002:a00:1::", Why::Embedded),
    ] {
        let job = Job::of_both(&[443], NetworkPolicy::Public(PublicPolicy::default()));
        assert!(
            is_reset(&mut job.inside.connect(wanted.parse().unwrap(), 443)),
            "{wanted}"
        );
        let refusal = job.refusal();
        assert_eq!(refusal.why, Reason::Policy(why), "{wanted}");
        assert_eq!(refusal.address, Some(wanted.parse().unwrap()));
    }
    let listed = NetworkPolicy::Listed(ListedPolicy {
        list: "[2001:db8::7]:443".parse().unwrap(),
        origin: ListOrigin::Allowed,
        operator: PublicPolicy::default(),
    });
    let job = Job::of_both(&[443], listed);
    assert!(is_reset(
        &mut job.inside.connect("2001:db8::8".parse().unwrap(), 443)
    ));
    assert_eq!(job.refusal().why, Reason::Policy(Why::NotListed));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn names_are_answered_over_tcp_too() {
    let job = Job::public(&[53]);
    for (name, code, answers) in [
        ("server.example.", ResponseCode::NoError, 1),
        ("missing.example.", ResponseCode::NXDomain, 0),
        ("metadata.google.internal.", ResponseCode::NXDomain, 0),
    ] {
        let answer = job.inside.ask_over_tcp(name, RecordType::A);
        assert_eq!(
            (answer.metadata.response_code, answer.answers.len()),
            (code, answers),
            "{name}"
        );
    }
}
