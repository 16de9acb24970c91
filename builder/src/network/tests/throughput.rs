//! How much one connection carries.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use crate::network::tests::Job;
use crate::network::tests::LOCALHOST;
use crate::network::tests::server;

/// Not a check but a measurement: `cargo test --release throughput -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement; needs root, for a network namespace"]
#[expect(clippy::print_stderr, reason = "the figure is what it is for")]
async fn throughput_of_one_connection() {
    const BYTES: u64 = 4 << 30;
    let port = server(|mut stream| {
        let block = vec![7; 1 << 20];
        for _ in 0..BYTES >> 20 {
            stream.write_all(&block).unwrap();
        }
    });
    let job = Job::public(&[port]);
    for (way, mut stream) in [
        ("direct", TcpStream::connect((LOCALHOST, port)).unwrap()),
        ("gateway", job.inside.connect(LOCALHOST, port)),
    ] {
        let began = Instant::now();
        let mut block = vec![0; 1 << 20];
        let mut received = 0;
        while let Ok(count @ 1..) = stream.read(&mut block) {
            received += count as u64;
        }
        assert_eq!(received, BYTES);
        let seconds = began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a figure for the eye")]
        let rate = received as f64 / seconds / 1e9;
        eprintln!("{way}: {rate:.2} GB/s");
    }
}
