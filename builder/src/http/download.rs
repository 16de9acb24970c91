//! Downloads: streamed to a temporary name, verified, renamed.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use reqwest::Response;
use sha2::Digest as _;
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

use crate::events::Cancel;
use crate::events::Events;
use crate::events::Moving;
use crate::events::Unit;
use crate::http::client::Client;
use crate::http::client::expect_success;
use crate::http::error::HttpError;
use crate::http::mirror::Location;
use crate::http::redact::redact;
use crate::http::retry::Tries;
use crate::model::digest::Digest;

/// How often a waiting download looks whether the build was cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);
/// Pieces of a body (16 KiB or so each) that may wait for the disk.
const PIECES_WAITING_MAX: usize = 64;

/// What to fetch and what it must be.
#[derive(Debug, Clone)]
pub struct Download {
    /// The URL; the mirror table applies.
    pub url: String,
    /// What the bytes must hash to.
    pub digest: Option<Digest>,
    /// How many bytes it must be.
    pub size: Option<u64>,
    /// How many bytes are taken at most.
    pub size_bytes_max: u64,
    /// What it is called in progress reports.
    pub what: String,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downloaded {
    /// The digest of the bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
}

/// Fetches `wanted` into `destination`, which appears only whole and verified.
pub async fn download(
    client: &Client,
    wanted: &Download,
    destination: &Path,
    watcher: &dyn Events,
    cancel: &Cancel,
) -> Result<Downloaded, HttpError> {
    let mut tries = Tries::default();
    loop {
        cancel.check()?;
        let partial = Partial::beside(destination);
        let attempt = attempt(client, wanted, &partial, watcher);
        match until_cancelled(cancel, attempt).await {
            Ok(downloaded) => {
                partial.keep_as(destination)?;
                return Ok(downloaded);
            }
            // A body that broke off says nothing of the server: `send` has made its own tries already.
            Err(Failed::Body(error)) if error.is_worth_a_retry() => {
                let Some(wait) = tries.next_wait(None) else {
                    return Err(error);
                };
                let pause = async {
                    tokio::time::sleep(wait).await;
                    Ok(())
                };
                until_cancelled(cancel, pause).await.map_err(HttpError::from)?;
            }
            Err(failed) => return Err(failed.into()),
        }
    }
}

/// Whether it is the body that failed, so that asking again for it may help.
enum Failed {
    Body(HttpError),
    Other(HttpError),
}

impl From<HttpError> for Failed {
    fn from(error: HttpError) -> Self {
        Self::Other(error)
    }
}

impl From<Failed> for HttpError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Body(error) | Failed::Other(error) => error,
        }
    }
}

async fn until_cancelled<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            () = tokio::time::sleep(CANCEL_INTERVAL) => cancel.check().map_err(HttpError::from)?,
        }
    }
}

async fn attempt(
    client: &Client,
    wanted: &Download,
    partial: &Partial,
    watcher: &dyn Events,
) -> Result<Downloaded, Failed> {
    let (pieces, received) = mpsc::channel(PIECES_WAITING_MAX);
    let unwritable = |source| HttpError::File {
        what: "write",
        path: partial.path.clone(),
        source,
    };
    // Made here, so that a download that is dropped leaves no writer behind that makes it later.
    let file = File::options()
        .write(true)
        .create_new(true)
        .open(&partial.path)
        .map_err(unwritable)?;
    // Hashing and writing are no work for the runtime's own threads.
    let writer = tokio::task::spawn_blocking(move || write_pieces(received, file));
    let fed = match client.mirrored(&wanted.url) {
        Location::Url(url) => feed_from_url(client, &url, wanted, &pieces, watcher).await,
        Location::File(file) => feed_from_file(&file, wanted, &pieces).await.map_err(Failed::from),
    };
    drop(pieces);
    let written = writer.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    // The writer's own failure (a full disk) ends the feeding, so it is told first.
    let downloaded = written.map_err(unwritable)?;
    fed?;
    verify(wanted, downloaded)?;
    Ok(downloaded)
}

async fn feed_from_url(
    client: &Client,
    url: &str,
    wanted: &Download,
    pieces: &mpsc::Sender<Bytes>,
    watcher: &dyn Events,
) -> Result<(), Failed> {
    let mut response: Response = expect_success(client.send(|| client.request(Method::GET, url)).await?)?;
    let total = response.content_length();
    let size_bytes_max = size_bytes_max(wanted);
    let too_large = || HttpError::TooLarge {
        url: redact(url),
        size_bytes_max,
    };
    if total.is_some_and(|total| total > size_bytes_max) {
        return Err(too_large().into());
    }
    let mut moving = Moving::new(watcher, &wanted.what, total.or(wanted.size), Unit::Bytes);
    let mut done = 0;
    let broken = |error: reqwest::Error| Failed::Body(HttpError::from_reqwest(url, &error));
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        done += piece.len() as u64;
        if done > size_bytes_max {
            return Err(too_large().into());
        }
        if pieces.send(piece).await.is_err() {
            return Ok(());
        }
        moving.tell(done);
    }
    moving.end(done);
    Ok(())
}

async fn feed_from_file(
    file: &Path,
    wanted: &Download,
    pieces: &mpsc::Sender<Bytes>,
) -> Result<(), HttpError> {
    use tokio::io::AsyncReadExt as _;
    let unreadable = |source| HttpError::File {
        what: "read",
        path: file.to_owned(),
        source,
    };
    let size_bytes_max = size_bytes_max(wanted);
    let mut opened = tokio::fs::File::open(file)
        .await
        .map_err(unreadable)?
        .take(size_bytes_max + 1);
    let mut done = 0;
    loop {
        let mut piece = Vec::with_capacity(1 << 18);
        let length = opened.read_buf(&mut piece).await.map_err(unreadable)?;
        done += length as u64;
        if done > size_bytes_max {
            return Err(HttpError::TooLarge {
                url: redact(&wanted.url),
                size_bytes_max,
            });
        }
        if length == 0 || pieces.send(piece.into()).await.is_err() {
            return Ok(());
        }
    }
}

fn size_bytes_max(wanted: &Download) -> u64 {
    wanted
        .size
        .map_or(wanted.size_bytes_max, |size| size.min(wanted.size_bytes_max))
}

fn write_pieces(mut received: mpsc::Receiver<Bytes>, mut file: File) -> io::Result<Downloaded> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    while let Some(piece) = received.blocking_recv() {
        hasher.update(&piece);
        file.write_all(&piece)?;
        size += piece.len() as u64;
    }
    Ok(Downloaded {
        digest: Digest::finish(hasher),
        size,
    })
}

fn verify(wanted: &Download, found: Downloaded) -> Result<(), HttpError> {
    let url = || redact(&wanted.url);
    if let Some(expected) = wanted.size.filter(|size| *size != found.size) {
        return Err(HttpError::SizeMismatch {
            url: url(),
            expected,
            found: found.size,
        });
    }
    match wanted.digest {
        Some(expected) if expected != found.digest => Err(HttpError::DigestMismatch {
            url: url(),
            expected,
            found: found.digest,
        }),
        _ => Ok(()),
    }
}

/// A file that is not whole yet; removed when it is dropped.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn beside(destination: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = destination.file_name().unwrap_or_default().to_string_lossy();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = destination.with_file_name(format!(".{name}.{}-{count}.partial", std::process::id()));
        Self { path }
    }

    fn keep_as(&self, destination: &Path) -> Result<(), HttpError> {
        std::fs::rename(&self.path, destination).map_err(|source| HttpError::File {
            what: "rename",
            path: self.path.clone(),
            source,
        })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the rename there is nothing left under this name.
        let _absent = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Silence;
    use crate::http::settings::Settings;
    use crate::model::failure::Failure as _;
    use std::io::Read as _;
    use std::net::TcpListener;

    /// Answers one connection after another with the given bytes, and closes it.
    fn serve(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "http://user:secret@{}/file?token=secret",
            listener.local_addr().unwrap()
        );
        std::thread::spawn(move || {
            for answer in answers {
                let (mut connection, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    connection.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                connection.write_all(answer.as_bytes()).unwrap();
            }
        });
        url
    }

    async fn fetch(
        url: String,
        digest: Option<Digest>,
        size_bytes_max: u64,
    ) -> (Result<Downloaded, HttpError>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::new(&Settings::default()).unwrap();
        let wanted = Download {
            url,
            digest,
            size: None,
            size_bytes_max,
            what: "file".to_owned(),
        };
        let destination = folder.path().join("file");
        let outcome = download(&client, &wanted, &destination, &Silence, &Cancel::default()).await;
        let bytes = std::fs::read(&destination).unwrap_or_default();
        let left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), usize::from(outcome.is_ok()), "{left:?}");
        (outcome, bytes)
    }

    #[tokio::test]
    async fn a_busy_server_and_a_broken_body_are_asked_again() {
        let url = serve(&[
            "HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhe",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
        ]);
        let (outcome, bytes) = fetch(url, Some(Digest::of(b"hello")), 100).await;
        assert_eq!(
            outcome.unwrap(),
            Downloaded {
                digest: Digest::of(b"hello"),
                size: 5
            }
        );
        assert_eq!(bytes, b"hello");
    }

    #[tokio::test]
    async fn what_is_not_as_asked_is_refused_and_leaves_nothing() {
        const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
        let (other, _) = fetch(serve(&[HELLO]), Some(Digest::of(b"world")), 100).await;
        let (large, _) = fetch(serve(&[HELLO]), None, 4).await;
        let (absent, _) = fetch(serve(&["HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"]), None, 4).await;
        for (outcome, code) in [
            (other, "http_digest_mismatch"),
            (large, "http_too_large"),
            (absent, "http_status"),
        ] {
            let error = outcome.unwrap_err();
            assert_eq!(error.facts().code, code, "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_body_without_length_is_cut_at_the_limit() {
        let url = serve(&["HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n0123456789"]);
        let (outcome, _) = fetch(url, None, 4).await;
        assert_eq!(outcome.unwrap_err().facts().code, "http_too_large");
    }

    #[tokio::test]
    async fn a_refused_connection_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let (outcome, _) = fetch(url, None, 4).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.facts().code, "http_unreachable");
        assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_cancelled_download_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let client = Client::new(&Settings::default()).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let wanted = Download {
            url,
            digest: None,
            size: None,
            size_bytes_max: 1,
            what: String::new(),
        };
        let cancel = Cancel::default();
        let destination = folder.path().join("file");
        let (outcome, ()) = tokio::join!(
            download(&client, &wanted, &destination, &Silence, &cancel),
            async {
                tokio::task::yield_now().await;
                cancel.cancel();
            }
        );
        assert_eq!(outcome.unwrap_err().facts().code, "interrupted");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
