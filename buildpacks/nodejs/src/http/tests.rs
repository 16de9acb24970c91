//! The client against a small server on loopback.

use super::*;
use crate::test_server::TestServer;

fn client() -> HttpClient {
    HttpClient::new(&Env::new()).unwrap()
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn bodies_arrive_whole_and_hashed() {
    let server = TestServer::start(vec![answer("200 OK", "abc"), answer("200 OK", "abc")]);
    assert_eq!(client().get(&server.url("/a"), "*/*", 3).unwrap(), b"abc");
    let mut file = tempfile::tempfile().unwrap();
    let integrity = client().download(&server.url("/a"), 3, &mut file).unwrap();
    assert_eq!(
        integrity.to_string(),
        "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw=="
    );
    assert_eq!(file.metadata().unwrap().len(), 3);
}

#[test]
fn a_busy_server_is_asked_again() {
    let server = TestServer::start(vec![
        answer("503 Busy", ""),
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort".to_vec(),
        answer("200 OK", "whole"),
    ]);
    let mut file = tempfile::tempfile().unwrap();
    client().download(&server.url("/a"), 9, &mut file).unwrap();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "whole", "nothing of the broken attempt is left");
    assert_eq!(server.requests(), 3);
}

#[test]
fn what_will_not_change_is_not_asked_again() {
    let server = TestServer::start(vec![answer("404 Not Found", ""), answer("200 OK", "abcd")]);
    let url = server.url("/a");
    let error = client().get(&url, "*/*", 3).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("GET {url}: the server answered with status 404")
    );
    let error = client().get(&url, "*/*", 3).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("GET {url}: the answer has more than 3 bytes")
    );
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let server = TestServer::start(vec![answer("403 Forbidden", "")]);
    let mut env = Env::new();
    env.insert("https_proxy", server.url(""));
    let client = HttpClient::new(&env).unwrap();
    let error = client.send("https://registry.invalid/npm", "*/*").unwrap_err();
    let told = error.to_string();
    assert!(
        told.starts_with("GET https://registry.invalid/npm through the proxy 127.0.0.1:"),
        "{told}"
    );
    assert!(told.contains("403"), "{told}");
    assert!(
        server.last_request().starts_with("CONNECT registry.invalid:443 "),
        "{}",
        server.last_request()
    );
}
