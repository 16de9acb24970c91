//! The worker's endpoint for git inside a job: passes on the smart protocol of the one remote, and nothing else.
//!
//! What the job says is three fixed first lines and a length. Address, TLS, redirects, credentials and ssh stay here.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::git::error::GitError;
use crate::git::isolation::Endpoint;
use crate::git::plain_http::FETCH;
use crate::git::plain_http::LIST;
use crate::git::plain_http::STREAM;
use crate::git::smart_http::Exchange;
use crate::git::smart_http::Kind;
use crate::git::ssh::Session;
use crate::git::transport::Connection;
use crate::model::source::location::Scheme;

/// Requests of one job: a negotiation takes some, and a second try after a server refused a commit.
const REQUESTS_MAX: usize = 512;
/// Bytes of one request: what is wanted and what is there, 50 bytes each.
const REQUEST_BYTES_MAX: u64 = 64 << 20;
/// Lines of a request's head, and bytes of each.
const HEAD_LINES_MAX: usize = 16;
const LINE_BYTES_MAX: u64 = 256;
/// How long a job may take to send a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of one piece.
const PIECE_BYTES: usize = 64 << 10;
/// Beside two fetches a job gets lists of refs.
const LISTS_BYTES_MAX: u64 = 256 << 20;

/// The endpoint of one job.
pub(super) struct Relay {
    pub(super) connection: Arc<Connection>,
    /// The repository's URL, of which redirects may make another.
    base: Arc<Mutex<String>>,
    requests: AtomicUsize,
    /// Bytes that the job has got.
    bytes: AtomicU64,
}

/// What a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The list of refs.
    List,
    /// Objects; so many bytes say which.
    Fetch(u64),
    /// A stream.
    Stream,
}

impl Relay {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        let base = Arc::new(Mutex::new(connection.location.request_url()));
        Self {
            connection,
            base,
            requests: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    fn answer(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        let mut reader = BufReader::new(stream);
        let asked = read_head(&mut reader)?;
        let is_ssh = self.connection.location.scheme() == Scheme::Ssh;
        let is_one_too_many = self.requests.fetch_add(1, Ordering::Relaxed) >= REQUESTS_MAX;
        match asked {
            Some(Asked::List) if !is_ssh && !is_one_too_many => {
                self.exchange(Kind::Advertisement, &[], stream)
            }
            Some(Asked::Fetch(length)) if !is_ssh && !is_one_too_many => {
                let mut request = Vec::new();
                reader.take(length).read_to_end(&mut request)?;
                if request.len() as u64 != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.exchange(Kind::Pack, &request, stream)
            }
            Some(Asked::Stream) if is_ssh && !is_one_too_many => self.stream(reader),
            _ => refuse(stream, "400 Bad Request"),
        }
    }

    fn exchange(&self, kind: Kind, request: &[u8], mut stream: &TcpStream) -> io::Result<()> {
        let mut exchange = Exchange::new(Arc::clone(&self.connection), Arc::clone(&self.base), kind);
        exchange.write_all(request)?;
        let mut piece = vec![0; PIECE_BYTES];
        // Only what it means that there is an answer goes in, none of the remote's own words about it.
        let Ok(mut count) = exchange.read(&mut piece) else {
            return refuse(stream, "502 Bad Gateway");
        };
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        while count > 0 {
            self.count(count)?;
            stream.write_all(&piece[..count])?;
            count = exchange.read(&mut piece)?;
        }
        Ok(())
    }

    /// One stream through the user's ssh.
    fn stream(&self, mut reader: BufReader<&TcpStream>) -> io::Result<()> {
        let mut stream = *reader.get_ref();
        let mut session = match Session::start(&self.connection) {
            Ok(session) => session,
            Err(error) => {
                self.connection.fail(error);
                return refuse(stream, "502 Bad Gateway");
            }
        };
        stream.set_read_timeout(None)?;
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: git-upload-pack\r\n\r\n",
        )?;
        let input = session.take_input();
        thread::scope(|scope| {
            scope.spawn(move || {
                if let Some(input) = input {
                    // Either end may go first; the other thread says what that means.
                    let _gone = pass_on(&mut reader, input);
                }
            });
            let mut piece = vec![0; PIECE_BYTES];
            let copied = loop {
                match session.read(&mut piece) {
                    Ok(0) => break Ok(()),
                    Ok(count) => {
                        if let Err(error) = self.count(count).and_then(|()| stream.write_all(&piece[..count]))
                        {
                            break Err(error);
                        }
                    }
                    Err(error) => break Err(error),
                }
            };
            // The thread above waits for the job, which may wait for us.
            let _gone = stream.shutdown(Shutdown::Both);
            copied
        })
    }

    fn count(&self, count: usize) -> io::Result<()> {
        let limit = self.connection.settings.limits.fetch_bytes_max;
        let sent = self.bytes.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if sent <= limit.saturating_mul(2).saturating_add(LISTS_BYTES_MAX) {
            return Ok(());
        }
        Err(io::Error::other(self.connection.fail(GitError::TooLarge {
            url: self.connection.location.to_string(),
            limit,
            unit: "bytes to fetch".into(),
        })))
    }
}

impl Endpoint for Relay {
    fn serve(&self, connection: TcpStream) {
        // What went wrong at the remote is kept in the connection; what did at the job is seen at its end.
        let _answered = self.answer(&connection);
    }

    fn stop(&self) {
        self.connection.give_up();
    }
}

/// Not `io::copy`: what is there goes on at once.
fn pass_on(reader: &mut impl io::BufRead, mut input: impl Write) -> io::Result<()> {
    loop {
        let count = {
            let bytes = reader.fill_buf()?;
            input.write_all(bytes)?;
            bytes.len()
        };
        if count == 0 {
            return Ok(());
        }
        reader.consume(count);
    }
}

fn refuse(mut stream: &TcpStream, status: &str) -> io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").as_bytes())
}

fn read_head(reader: &mut impl io::BufRead) -> io::Result<Option<Asked>> {
    let mut lines = Vec::new();
    for _ in 0..HEAD_LINES_MAX {
        let mut line = String::new();
        reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some("") => return Ok(asked(&lines)),
            Some(line) => lines.push(line.to_owned()),
            None => break,
        }
    }
    Ok(None)
}

/// What a request asks for, if it is one of the three.
fn asked(lines: &[String]) -> Option<Asked> {
    match lines.first()?.as_str() {
        LIST => Some(Asked::List),
        STREAM => Some(Asked::Stream),
        FETCH => {
            let length = lines
                .iter()
                .find_map(|line| line.strip_prefix("Content-Length: "))?;
            let length = length
                .parse()
                .ok()
                .filter(|length| *length <= REQUEST_BYTES_MAX)?;
            Some(Asked::Fetch(length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Option<Asked> {
        read_head(&mut head.as_bytes()).unwrap()
    }

    #[test]
    fn three_requests_are_known_and_no_other() {
        let list = "GET /info/refs?service=git-upload-pack HTTP/1.1\r\nHost: remote\r\n\r\n";
        assert_eq!(read(list), Some(Asked::List));
        let fetch = "POST /git-upload-pack HTTP/1.1\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(read(fetch), Some(Asked::Fetch(7)));
        assert_eq!(read("GET /git-upload-pack HTTP/1.1\r\n\r\n"), Some(Asked::Stream));
        for other in [
            "GET /info/refs?service=git-receive-pack HTTP/1.1\r\n\r\n",
            "POST /git-receive-pack HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "GET http://169.254.169.254/latest HTTP/1.1\r\n\r\n",
            "GET /other/info/refs?service=git-upload-pack HTTP/1.1\r\n\r\n",
            "CONNECT forge.example:443 HTTP/1.1\r\n\r\n",
            "POST /git-upload-pack HTTP/1.1\r\n\r\n",
            "POST /git-upload-pack HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "POST /git-upload-pack HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
            "GET /git-upload-pack HTTP/1.1\r\n",
            "\r\n",
            "",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(10_000));
        assert_eq!(read(&long), None);
        let many = format!("{}{}\r\n", "GET / HTTP/1.1\r\n", "A: b\r\n".repeat(100));
        assert_eq!(read(&many), None);
    }
}
