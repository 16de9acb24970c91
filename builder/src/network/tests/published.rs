//! Ports of a job that are published.

use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::sync::Arc;

use crate::network::publish;
use crate::network::tests::LOCALHOST;
use crate::network::tests::count;
use crate::network::tests::is_reset;
use crate::network::tests::namespace::Inside;
use crate::network::tests::server;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a network namespace"]
async fn a_port_inside_is_published_on_loopback() {
    let inside = Arc::new(Inside::new());
    let port = inside.run(|| server(count));
    let connect_inside = {
        let inside = Arc::clone(&inside);
        Arc::new(move || Ok(inside.connect(LOCALHOST, port).into()))
    };
    let published = publish::serve("127.0.0.1:0".parse().unwrap(), connect_inside)
        .await
        .unwrap();
    let mut stream = TcpStream::connect(published.address()).unwrap();
    stream.write_all(b"four").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "4 bytes");
    let mut unfinished = TcpStream::connect(published.address()).unwrap();
    published.stop().await;
    assert!(is_reset(&mut unfinished));
}

#[tokio::test]
async fn a_port_is_published_on_loopback_only_and_a_job_that_takes_none_gives_a_reset() {
    let refuse: publish::ConnectInside = Arc::new(|| Err(ErrorKind::ConnectionRefused.into()));
    let everywhere = publish::serve("0.0.0.0:0".parse().unwrap(), Arc::clone(&refuse)).await;
    assert!(matches!(
        everywhere,
        Err(publish::PublishError::NotLoopback { .. })
    ));
    let published = publish::serve("127.0.0.1:0".parse().unwrap(), refuse)
        .await
        .unwrap();
    let address = published.address();
    let reset = tokio::task::spawn_blocking(move || is_reset(&mut TcpStream::connect(address).unwrap()));
    assert!(reset.await.unwrap());
}
