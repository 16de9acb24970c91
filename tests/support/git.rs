//! Git repositories in temporary folders, and `git http-backend` behind a small server on loopback.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

use tempfile::TempDir;

/// Runs git in `directory` and gives its output, without the last line break.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    git_with_input(directory, arguments, b"")
}

/// Runs git with `input`.
pub(crate) fn git_with_input(directory: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .args([
            "-c",
            "protocol.file.allow=always",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_AUTHOR_EMAIL", "a@example"),
            ("GIT_AUTHOR_DATE", "1700000000 +0000"),
        ])
        .envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@example")])
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A repository with a work tree, in a temporary folder of its own.
pub(crate) struct Work {
    pub(crate) folder: TempDir,
}

impl Work {
    /// An empty repository.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "-q", "app"]);
        Self { folder }
    }

    /// The work tree.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    /// Writes a file and commits everything; gives the commit.
    pub(crate) fn commit(&self, file: &str, content: &str) -> String {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.commit_all()
    }

    /// Commits everything; gives the commit.
    pub(crate) fn commit_all(&self) -> String {
        git(&self.path(), &["add", "-A"]);
        git(&self.path(), &["commit", "-q", "--allow-empty", "-m", "change"]);
        git(&self.path(), &["rev-parse", "HEAD"])
    }
}

/// `git http-backend` on loopback; serves the repositories below a folder.
pub(crate) struct GitServer {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    root: PathBuf,
    /// `Authorization` that every request must carry.
    authorization: Option<String>,
    requests: Mutex<Vec<String>>,
    sent_bytes: Mutex<usize>,
}

impl GitServer {
    /// Serves `root`; with `account` (`user:password`) only to who shows it.
    pub(crate) fn start(root: &Path, account: Option<&str>) -> Self {
        use base64::Engine as _;
        let authorization = account.map(|account| {
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(account)
            )
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            root: root.to_owned(),
            authorization,
            ..State::default()
        });
        let shared = Arc::clone(&state);
        // Ends with the process: it holds nothing but its port.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || answer(stream, &state));
            }
        });
        Self { port, state }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests since the last call, and the bytes of their answers.
    pub(crate) fn take_requests(&self) -> (Vec<String>, usize) {
        let requests = std::mem::take(&mut *self.state.requests.lock().unwrap());
        (
            requests,
            std::mem::take(&mut *self.state.sent_bytes.lock().unwrap()),
        )
    }
}

/// A connection that breaks is the client's to report.
fn answer(stream: TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    let (mut length, mut authorization, mut media_type) = (0, String::new(), String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => value.trim().clone_into(&mut authorization),
            "content-type" => value.trim().clone_into(&mut media_type),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = request.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    state.requests.lock().unwrap().push(format!("{method} {target}"));
    let is_allowed = state
        .authorization
        .as_ref()
        .is_none_or(|wanted| *wanted == authorization);
    let response = if let Some(place) = target.strip_prefix("/redirect/") {
        format!("HTTP/1.1 302 Found\r\nLocation: /{place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .into_bytes()
    } else if is_allowed {
        backend(state, &method, &target, &media_type, &body)
    } else {
        let challenge =
            "WWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        format!("HTTP/1.1 401 Unauthorized\r\n{challenge}").into_bytes()
    };
    *state.sent_bytes.lock().unwrap() += response.len();
    let mut stream = stream;
    stream.write_all(&response).ok()
}

fn backend(state: &State, method: &str, target: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut child = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", &state.root)
        .envs([
            ("GIT_HTTP_EXPORT_ALL", "1"),
            ("REQUEST_METHOD", method),
            ("PATH_INFO", path),
            ("QUERY_STRING", query),
        ])
        .envs([("CONTENT_TYPE", media_type), ("REMOTE_ADDR", "127.0.0.1")])
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let body = body.to_vec();
    let writer = thread::spawn(move || input.write_all(&body));
    let output = child.wait_with_output().unwrap().stdout;
    // The backend may answer before it has read everything.
    let _written = writer.join().unwrap();
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let content = output.get(end + 4..).unwrap_or_default();
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK")
        .to_owned();
    let mut response = format!("HTTP/1.1 {status}\r\n");
    for line in head
        .lines()
        .filter(|line| !line.starts_with("Status:") && !line.is_empty())
    {
        response.push_str(line);
        response.push_str("\r\n");
    }
    let length = content.len();
    for line in [
        format!(
            "Content-Length: {length}
"
        )
        .as_str(),
        "Connection: close

",
    ] {
        response.push_str(line);
    }
    [response.as_bytes(), content].concat()
}
