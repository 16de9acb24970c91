//! Asks a server on loopback over HTTP.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The body of `http://127.0.0.1:PORT` + `path`; asked again until somebody answers.
pub(crate) fn ask(port: u16, path: &str) -> String {
    let start = Instant::now();
    loop {
        if let Some(answer) = try_to_ask(port, path) {
            return answer;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "nobody answers on port {port}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

fn try_to_ask(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.contains(" 200 "), "{answer}");
    Some(body.to_owned())
}
