//! Nothing of the job is held when the gateway is gone.

use crate::network::tests::Job;
use crate::network::tests::LOCALHOST;
use crate::network::tests::echo;
use crate::network::tests::exchange;
use crate::network::tests::is_reset;
use crate::network::tests::namespace::Inside;
use crate::network::tests::server;

/// Sockets of this process that live in the namespace of `inside`, as `/proc/self/fd` shows them.
fn sockets_of(inside: &Inside) -> Vec<String> {
    let listed = inside.run(|| {
        let read = |kind| std::fs::read_to_string(format!("/proc/thread-self/net/{kind}")).unwrap();
        ["tcp", "udp"].map(read).concat()
    });
    let inodes = listed.lines().filter_map(|line| line.split_whitespace().nth(9));
    let links: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    still_open(&links)
}

/// Those of `links` of which this process has a descriptor.
fn still_open(links: &[String]) -> Vec<String> {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    open.filter_map(|link| link.to_str().map(str::to_owned))
        .filter(|link| links.contains(link))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn nothing_of_the_job_is_held_after_the_stop() {
    let port = server(echo);
    let job = Job::public(&[port, 443]);
    let address = job.inside.address_of("server.example");
    let mut streams: Vec<_> = (0..20).map(|_| job.inside.connect(address, port)).collect();
    for stream in &mut streams {
        exchange(stream, "hello");
    }
    // Two listeners, the name server, and two ends of each connection.
    let sockets = sockets_of(&job.inside);
    assert_eq!(sockets.len(), 3 + 2 * streams.len());
    job.gateway.stop().await;
    assert_eq!(still_open(&sockets).len(), streams.len());
    assert!(is_reset(&mut streams[0]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn dropping_the_gateway_closes_it_too() {
    let port = server(echo);
    let Job { inside, gateway } = Job::public(&[port]);
    let mut stream = inside.connect(LOCALHOST, port);
    exchange(&mut stream, "hello");
    drop(gateway);
    assert!(is_reset(&mut stream));
}
