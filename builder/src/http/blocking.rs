//! The client for code that blocks: git's transport. Not to be made or used on a thread of the async runtime.

use std::io;
use std::io::Read;
use std::time::Duration;

use reqwest::blocking::Body;
use reqwest::blocking::RequestBuilder;
use reqwest::blocking::Response;
use reqwest::redirect::Policy;

use crate::http::client::builder;
use crate::http::error::HttpError;
use crate::http::redact::redact;
use crate::http::settings::Settings;

/// How long a server may be silent; some think for minutes before they send a pack.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(300);
/// How many redirects are followed.
const REDIRECTS_MAX: usize = 8;

/// A client whose calls block. It follows redirects only within the same host, port and scheme.
#[derive(Debug, Clone)]
pub struct BlockingClient {
    inner: reqwest::blocking::Client,
    settings: Settings,
}

/// An answer of success; reads as its body.
#[derive(Debug)]
pub struct Answer {
    response: Response,
}

impl BlockingClient {
    /// Makes a client (and a thread for it); connects nowhere.
    pub fn new(settings: &Settings) -> Result<Self, HttpError> {
        let builder = reqwest::blocking::ClientBuilder::from(builder(settings)?);
        // Not a bound on the whole: it holds for the answer's head and for each read of its body. (`read_timeout` is of
        // no use here: reqwest reads blocking bodies outside its runtime, where that one panics.)
        let inner = builder
            .timeout(SILENCE_TIMEOUT)
            .redirect(same_host())
            .build()
            .map_err(|error| HttpError::Settings(error.to_string()))?;
        Ok(Self {
            inner,
            settings: settings.clone(),
        })
    }

    /// `GET url`; a status that is no success is an error.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, HttpError> {
        self.finish(self.inner.get(url), url, headers)
    }

    /// `POST url` with a body (`Vec<u8>`, or `Body::new(reader)` for a stream); a status that is no success is an error.
    pub fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Result<Answer, HttpError> {
        self.finish(self.inner.post(url).body(body), url, headers)
    }

    fn finish(
        &self,
        request: RequestBuilder,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, HttpError> {
        self.settings.check_offline(url)?;
        finish(request, url, headers).map_err(|error| {
            let is_of_proxy = error.status() == Some(407);
            match self.settings.proxy.of(url) {
                Some(proxy) if is_of_proxy => HttpError::ProxyUnauthorized {
                    url: redact(url),
                    proxy,
                },
                _ => error.through(&self.settings.proxy),
            }
        })
    }
}

impl Answer {
    /// The URL that answered, after redirects.
    pub fn url(&self) -> &str {
        self.response.url().as_str()
    }

    /// A header's text, if there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.response.read(buffer)
    }
}

fn finish(mut request: RequestBuilder, url: &str, headers: &[(&str, &str)]) -> Result<Answer, HttpError> {
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request
        .send()
        .map_err(|error| HttpError::from_reqwest(url, &error))?;
    if !response.status().is_success() {
        return Err(HttpError::Status {
            url: redact(url),
            status: response.status().as_u16(),
        });
    }
    Ok(Answer { response })
}

fn same_host() -> Policy {
    Policy::custom(|attempt| {
        let origins: Vec<_> = attempt.previous().iter().map(reqwest::Url::origin).collect();
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error(format!("more than {REDIRECTS_MAX} redirects"))
        } else if origins.iter().any(|origin| *origin != attempt.url().origin()) {
            let host = attempt.url().host_str().unwrap_or_default().to_owned();
            attempt.error(format!("it leads to another host, {host}"))
        } else {
            attempt.follow()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    /// Answers one connection after another and gives back what was asked, without the headers but one.
    fn serve(answers: &'static [&'static str]) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut connection, _) = listener.accept().unwrap();
                let mut text = String::new();
                while !text.ends_with("\r\n\r\n") && !text.ends_with("body") {
                    let mut byte = [0];
                    connection.read_exact(&mut byte).unwrap();
                    text.push(char::from(byte[0]));
                    if text.starts_with("POST") && text.ends_with("\r\n\r\n") {
                        text.push(' ');
                    }
                }
                let authorization = text
                    .lines()
                    .find(|line| line.starts_with("authorization"))
                    .unwrap_or("none");
                asked.push(format!("{} {authorization}", text.lines().next().unwrap()));
                connection.write_all(answer.as_bytes()).unwrap();
                // Closing with the end of a body unread would reset the connection before the answer is read.
                connection.shutdown(std::net::Shutdown::Write).unwrap();
                let _gone = std::io::copy(&mut connection, &mut std::io::sink());
            }
            asked
        });
        (url, thread)
    }

    const MOVED: &str =
        "HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const AWAY: &str = "HTTP/1.1 302 Found\r\nlocation: http://other.example/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const HELLO: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/x\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    const DENIED: &str = "HTTP/1.1 401 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    #[test]
    fn redirects_are_followed_on_the_same_host_alone() {
        let client = BlockingClient::new(&Settings::default()).unwrap();
        let (url, server) = serve(&[MOVED, HELLO, AWAY]);
        let mut answer = client
            .get(&format!("{url}/here"), &[("authorization", "Basic x")])
            .unwrap();
        let mut body = String::new();
        answer.read_to_string(&mut body).unwrap();
        assert_eq!(
            (body.as_str(), answer.header("content-type")),
            ("hello", Some("text/x"))
        );
        assert_eq!(answer.url(), format!("{url}/there"));
        let error = client.get(&url, &[]).unwrap_err();
        assert!(
            error.to_string().contains("another host, other.example"),
            "{error}"
        );
        let asked = server.join().unwrap();
        assert_eq!(asked[1], "GET /there HTTP/1.1 authorization: Basic x");
    }

    #[test]
    fn a_body_is_posted_and_a_bad_status_is_an_error() {
        let client = BlockingClient::new(&Settings::default()).unwrap();
        let (url, server) = serve(&[HELLO, DENIED]);
        let mut body = String::new();
        client
            .post(&url, &[], b"body".to_vec())
            .unwrap()
            .read_to_string(&mut body)
            .unwrap();
        assert_eq!(body, "hello");
        let error = client.post(&url, &[], Body::new(&b"body"[..])).unwrap_err();
        assert_eq!(error.status(), Some(401));
        assert_eq!(server.join().unwrap(), ["POST / HTTP/1.1 none"; 2]);
    }
}
