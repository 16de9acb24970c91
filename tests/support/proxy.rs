//! A server in front of another: it notes each request, and may answer or hold it itself.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// What becomes of a request.
pub(crate) enum Act {
    /// The server behind answers it.
    Forward,
    /// This status line and body.
    Answer(&'static str, &'static str),
    /// Nothing, ever.
    Hold,
}

type Rule = Box<dyn Fn(&str, &str) -> Act + Send + Sync>;

/// A server in front of another.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

struct State {
    behind: String,
    rule: Rule,
    requests: Mutex<Vec<String>>,
}

impl Proxy {
    /// Notes what is asked of `behind` (`HOST:PORT`).
    pub(crate) fn recording(behind: &str) -> Self {
        Self::start(behind, |_, _| Act::Forward)
    }

    /// Decides for each request by its method and target.
    pub(crate) fn start(behind: &str, rule: impl Fn(&str, &str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            behind: behind.to_owned(),
            rule: Box::new(rule),
            requests: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        // Ends with the process: it holds nothing but its port.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || pass(&stream, &state));
            }
        });
        Self { port, state }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests since the last call, as `METHOD target`.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.requests.lock().unwrap())
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

/// One request a connection. One that breaks is the client's to report.
fn pass(client: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = String::new();
    reader.read_line(&mut head).ok()?;
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        if !line.to_ascii_lowercase().starts_with("connection:") {
            head.push_str(&line);
        }
    }
    head.push_str("Connection: close\r\n\r\n");
    let act = (state.rule)(&method, &target);
    state.requests.lock().unwrap().push(format!("{method} {target}"));
    match act {
        Act::Forward => forward(client, reader, &head, state),
        Act::Answer(status, body) => {
            let length = body.len();
            let kind = "Content-Type: application/json\r\nConnection: close\r\n";
            let mut client = client;
            write!(
                client,
                "HTTP/1.1 {status}\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
            )
            .ok()?;
            // What the client still sends is read, else it sees a reset in place of the answer.
            client.shutdown(Shutdown::Write).ok()?;
            client.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            std::io::copy(&mut reader, &mut std::io::sink()).ok().map(|_| ())
        }
        Act::Hold => {
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).ok().map(|_| ())
        }
    }
}

fn forward(
    client: &TcpStream,
    mut from_client: BufReader<TcpStream>,
    head: &str,
    state: &State,
) -> Option<()> {
    let behind = TcpStream::connect(&state.behind).ok()?;
    let mut to_behind = behind.try_clone().ok()?;
    to_behind.write_all(head.as_bytes()).ok()?;
    // Ends when the client or the server closes.
    thread::spawn(move || std::io::copy(&mut from_client, &mut to_behind));
    let mut to_client = client.try_clone().ok()?;
    let copied = std::io::copy(&mut (&behind), &mut to_client);
    let _closed = client.shutdown(Shutdown::Both);
    let _closed = behind.shutdown(Shutdown::Both);
    copied.ok().map(|_| ())
}
