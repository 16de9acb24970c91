//! Git's smart HTTP over our client: `GET info/refs`, `POST git-upload-pack` (gitprotocol-http(5)).

use std::io;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use git2::transport::Service;
use git2::transport::SmartSubtransport;
use git2::transport::SmartSubtransportStream;

use crate::git::credential;
use crate::git::credential::Credential;
use crate::git::error::GitError;
use crate::git::transport::Connection;
use crate::http::blocking::Answer;
use crate::http::blocking::BlockingClient;
use crate::http::error::HttpError;
use crate::model::named_by::NamedBy;

/// Forges look at the beginning of it to tell git from browsers.
const USER_AGENT: &str = concat!("git/2.0 (packhorse ", env!("CARGO_PKG_VERSION"), ")");
/// Bytes of a list of refs that are read.
const ADVERTISEMENT_BYTES_MAX: u64 = 128 << 20;
/// How often a waiting read looks whether the build was cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of one piece that goes from the network's thread to libgit2.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that may wait for libgit2.
const PIECES_WAITING_MAX: usize = 16;

/// The transport of one connection.
pub(super) struct SmartHttp {
    connection: Arc<Connection>,
    /// The repository's URL; another than asked for once the server redirected.
    base: Arc<Mutex<String>>,
}

impl SmartHttp {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        let base = Arc::new(Mutex::new(connection.location.request_url()));
        Self { connection, base }
    }
}

impl SmartSubtransport for SmartHttp {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let kind = match service {
            Service::UploadPackLs => Kind::Advertisement,
            Service::UploadPack => Kind::Pack,
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(git2::Error::from_str("packhorse does not push"));
            }
        };
        let (connection, base) = (Arc::clone(&self.connection), Arc::clone(&self.base));
        Ok(Box::new(Exchange::new(connection, base, kind)))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The list of refs.
    Advertisement,
    /// Objects.
    Pack,
}

/// One request and its answer. libgit2 writes all of the request before it reads.
pub(super) struct Exchange {
    connection: Arc<Connection>,
    base: Arc<Mutex<String>>,
    kind: Kind,
    request: Vec<u8>,
    answer: Option<Receiver<Piece>>,
    rest: Vec<u8>,
}

/// What the network's thread sends: the beginning of an answer, then its body; the body's end is the channel's.
enum Piece {
    Head { url: String, media_type: String },
    Body(Vec<u8>),
    Failed(HttpError),
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answer = None;
        self.request.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Exchange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let kept = |connection: &Connection, error| io::Error::other(connection.fail(error));
        if self.answer.is_none() {
            let answer = self.ask().map_err(|error| kept(&self.connection, error))?;
            self.answer = Some(answer);
        }
        if self.rest.is_empty()
            && let Some(answer) = &self.answer
        {
            match self.next(answer).map_err(|error| kept(&self.connection, error))? {
                Some(Piece::Body(bytes)) => self.rest = bytes,
                Some(Piece::Head { .. } | Piece::Failed(_)) | None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(count)
    }
}

impl Exchange {
    pub(super) fn new(connection: Arc<Connection>, base: Arc<Mutex<String>>, kind: Kind) -> Self {
        Self {
            connection,
            base,
            kind,
            request: Vec::new(),
            answer: None,
            rest: Vec::new(),
        }
    }

    /// Sends the request, with the credentials that the server asks for.
    fn ask(&mut self) -> Result<Receiver<Piece>, GitError> {
        let request = std::mem::take(&mut self.request);
        let known = lock(&self.connection.credential).clone();
        let refused = match self.attempt(request.clone(), known.as_ref()) {
            Err(error @ GitError::CredentialsNeeded { .. }) => error,
            other => return other,
        };
        if self.connection.named_by == NamedBy::Source {
            return Err(refused);
        }
        let (settings, location) = (&self.connection.settings, &self.connection.location);
        let cancel = &self.connection.cancel;
        let is_new = |found: &Credential| Some(found) != known.as_ref();
        let helpers = credential::fill(settings, location, cancel).filter(is_new);
        let is_helpers = helpers.is_some();
        // After the helpers, which may know the password of a user that is none of the forges' tokens.
        let Some(found) = helpers.or_else(|| Credential::token(location).filter(is_new)) else {
            return Err(with_what_was_tried(refused, known.is_some()));
        };
        match self.attempt(request, Some(&found)) {
            Err(error @ GitError::CredentialsNeeded { .. }) => {
                if is_helpers {
                    credential::reject(settings, location, &found, cancel);
                }
                Err(with_what_was_tried(error, true))
            }
            Err(error) => Err(error),
            Ok(answer) => {
                if is_helpers {
                    credential::approve(settings, location, &found, cancel);
                }
                *lock(&self.connection.credential) = Some(found);
                Ok(answer)
            }
        }
    }

    fn attempt(
        &self,
        request: Vec<u8>,
        credential: Option<&Credential>,
    ) -> Result<Receiver<Piece>, GitError> {
        let client = self
            .connection
            .client
            .clone()
            .ok_or_else(|| self.unreachable("no HTTP client was made for it"))?;
        let (url, kind) = (self.request_url(), self.kind);
        let authorization = credential.map(Credential::header);
        let (sender, answer) = sync_channel(PIECES_WAITING_MAX);
        thread::spawn(move || converse(&client, &url, kind, request, authorization.as_deref(), &sender));
        match self.next(&answer)? {
            Some(Piece::Head { url, media_type }) => self.accept(&url, &media_type)?,
            _ => return Err(self.unreachable("its answer has no beginning")),
        }
        Ok(answer)
    }

    /// The next piece; none at the end. Waits in short steps, so that a cancelled build ends soon.
    fn next(&self, answer: &Receiver<Piece>) -> Result<Option<Piece>, GitError> {
        let start = Instant::now();
        let silence = self.connection.settings.limits.silence;
        loop {
            if start.elapsed() > silence {
                return Err(self.unreachable(&format!("it was silent for {} seconds", silence.as_secs())));
            }
            self.connection.check()?;
            match answer.recv_timeout(CANCEL_INTERVAL) {
                Ok(Piece::Failed(error)) => {
                    return Err(GitError::from_http(&self.connection.location.to_string(), error));
                }
                Ok(piece) => return Ok(Some(piece)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn accept(&self, url: &str, media_type: &str) -> Result<(), GitError> {
        let wanted = match self.kind {
            Kind::Advertisement => "application/x-git-upload-pack-advertisement",
            Kind::Pack => "application/x-git-upload-pack-result",
        };
        if media_type.split(';').next().map(str::trim) != Some(wanted) {
            let why = "it does not answer as a git server (smart HTTP)".to_owned();
            return Err(GitError::NoRepository {
                url: self.connection.location.to_string(),
                why,
            });
        }
        if self.kind == Kind::Advertisement
            && let Some(base) = base_of(url)
        {
            *lock(&self.base) = base;
        }
        Ok(())
    }

    fn request_url(&self) -> String {
        let base = lock(&self.base).clone();
        let (path, query) = base
            .split_once('?')
            .map_or((base.as_str(), None), |(path, query)| (path, Some(query)));
        let path = path.trim_end_matches('/');
        match (self.kind, query) {
            (Kind::Advertisement, None) => format!("{path}/info/refs?service=git-upload-pack"),
            (Kind::Advertisement, Some(query)) => format!("{path}/info/refs?{query}&service=git-upload-pack"),
            (Kind::Pack, None) => format!("{path}/git-upload-pack"),
            (Kind::Pack, Some(query)) => format!("{path}/git-upload-pack?{query}"),
        }
    }

    fn unreachable(&self, why: &str) -> GitError {
        GitError::Unreachable {
            url: self.connection.location.to_string(),
            why: why.to_owned(),
        }
    }
}

/// One request, on a thread of its own. Ends when nobody listens any more.
fn converse(
    client: &BlockingClient,
    url: &str,
    kind: Kind,
    request: Vec<u8>,
    authorization: Option<&str>,
    sender: &SyncSender<Piece>,
) {
    let mut headers = vec![("User-Agent", USER_AGENT), ("Cache-Control", "no-cache")];
    headers.extend(authorization.map(|authorization| ("Authorization", authorization)));
    let answer = match kind {
        Kind::Advertisement => client.get(url, &headers),
        Kind::Pack => {
            headers.push(("Content-Type", "application/x-git-upload-pack-request"));
            headers.push(("Accept", "application/x-git-upload-pack-result"));
            client.post(url, &headers, request)
        }
    };
    let last = match answer {
        Err(error) => Some(Piece::Failed(error)),
        Ok(answer) => forward(answer, url, kind, sender).map(Piece::Failed),
    };
    if let Some(last) = last {
        // Whoever does not listen any more does not care.
        let _unheard = sender.send(last);
    }
}

fn forward(answer: Answer, url: &str, kind: Kind, sender: &SyncSender<Piece>) -> Option<HttpError> {
    let media_type = answer.header("content-type").unwrap_or_default().to_owned();
    sender
        .send(Piece::Head {
            url: answer.url().to_owned(),
            media_type,
        })
        .ok()?;
    let limit = if kind == Kind::Advertisement {
        ADVERTISEMENT_BYTES_MAX
    } else {
        u64::MAX
    };
    let url = crate::http::redact::redact(url);
    let mut body = answer.take(limit);
    loop {
        let mut bytes = vec![0; PIECE_BYTES];
        match body.read(&mut bytes) {
            Ok(0) if body.limit() == 0 => {
                return Some(HttpError::TooLarge {
                    url,
                    size_bytes_max: limit,
                });
            }
            Ok(0) => return None,
            Ok(count) => {
                bytes.truncate(count);
                sender.send(Piece::Body(bytes)).ok()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Some(HttpError::Unreachable {
                    url,
                    reason: format!("the answer broke off: {error}"),
                });
            }
        }
    }
}

/// The repository's URL in the URL that answered for its refs; same host, for the client follows no other redirect.
fn base_of(url: &str) -> Option<String> {
    let (path, query) = url.split_once('?')?;
    let base = path.strip_suffix("/info/refs")?;
    let query = query
        .strip_suffix("service=git-upload-pack")?
        .trim_end_matches('&');
    Some(if query.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{query}")
    })
}

fn with_what_was_tried(error: GitError, refused: bool) -> GitError {
    match error {
        GitError::CredentialsNeeded { url, .. } => {
            let why = if refused {
                "those that were given are refused"
            } else {
                "git's credential helpers have none for it"
            };
            GitError::CredentialsNeeded {
                url,
                why: why.to_owned(),
            }
        }
        other => other,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
