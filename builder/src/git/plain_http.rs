//! The transport of git inside a job: plain HTTP to the worker's endpoint, which knows the remote and its credentials.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;

use git2::transport::Service;
use git2::transport::SmartSubtransport;
use git2::transport::SmartSubtransportStream;

use crate::git::error::GitError;
use crate::git::transport::Connection;
use crate::model::source::location::Scheme;

/// Asks for the list of refs.
pub(super) const LIST: &str = "GET /info/refs?service=git-upload-pack HTTP/1.1";
/// Asks for objects.
pub(super) const FETCH: &str = "POST /git-upload-pack HTTP/1.1";
/// Asks for one stream to and fro.
pub(super) const STREAM: &str = "GET /git-upload-pack HTTP/1.1";
/// Lines of the worker's answers before the body.
const HEAD_LINES_MAX: usize = 16;
/// Bytes of one of them.
const LINE_BYTES_MAX: u64 = 1024;

/// The transport of one connection.
pub(super) struct PlainHttp {
    connection: Arc<Connection>,
    endpoint: SocketAddr,
}

impl PlainHttp {
    pub(super) fn new(connection: Arc<Connection>, endpoint: SocketAddr) -> Self {
        Self { connection, endpoint }
    }
}

impl SmartSubtransport for PlainHttp {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let first = match (service, self.connection.location.scheme()) {
            (Service::UploadPackLs | Service::UploadPack, Scheme::Ssh) => STREAM,
            (Service::UploadPackLs, _) => LIST,
            (Service::UploadPack, _) => FETCH,
            (Service::ReceivePackLs | Service::ReceivePack, _) => {
                return Err(git2::Error::from_str("packhorse does not push"));
            }
        };
        Ok(Box::new(Exchange {
            connection: Arc::clone(&self.connection),
            endpoint: self.endpoint,
            first,
            request: Vec::new(),
            answer: None,
        }))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// One request and its answer, or one stream.
struct Exchange {
    connection: Arc<Connection>,
    endpoint: SocketAddr,
    /// The first line of the request.
    first: &'static str,
    request: Vec<u8>,
    answer: Option<BufReader<TcpStream>>,
}

impl Exchange {
    /// The answer's body; asked for if it was not.
    fn answer(&mut self) -> io::Result<&mut BufReader<TcpStream>> {
        if self.answer.is_none() {
            let asked = self.ask();
            // Kept, so that no failure of the way is taken for one of the remote's git.
            let answer = asked.map_err(|error| {
                let why = error.to_string();
                let url = self.connection.location.to_string();
                io::Error::other(self.connection.fail(GitError::Unreachable { url, why }))
            })?;
            self.answer = Some(answer);
        }
        self.answer
            .as_mut()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    fn ask(&mut self) -> io::Result<BufReader<TcpStream>> {
        let request = std::mem::take(&mut self.request);
        let mut stream = TcpStream::connect(self.endpoint)?;
        let more = match self.first {
            STREAM => "Connection: Upgrade\r\nUpgrade: git-upload-pack\r\n".to_owned(),
            FETCH => format!("Content-Length: {}\r\nConnection: close\r\n", request.len()),
            _ => "Connection: close\r\n".to_owned(),
        };
        stream.write_all(format!("{}\r\nHost: remote\r\n{more}\r\n", self.first).as_bytes())?;
        if self.first == FETCH {
            stream.write_all(&request)?;
        }
        let mut answer = BufReader::new(stream);
        read_head(&mut answer)?;
        if self.first == STREAM {
            answer.get_mut().write_all(&request)?;
        }
        Ok(answer)
    }
}

fn read_head(answer: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut status = None;
    for _ in 0..HEAD_LINES_MAX {
        let mut line = String::new();
        answer.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)?;
        let line = line.trim_end();
        match &status {
            Some(true) if line.is_empty() => return Ok(()),
            None | Some(false) if line.is_empty() => break,
            None => status = Some(matches!(line.split(' ').nth(1), Some("200" | "101"))),
            Some(_) => {}
        }
    }
    Err(io::Error::other("the worker passes nothing on"))
}

impl Read for Exchange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.answer()?.read(buffer)
    }
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.first == STREAM {
            return self.answer()?.get_mut().write(bytes);
        }
        self.answer = None;
        self.request.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
