//! Writing: a check before any work, blobs, and the manifest last.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use reqwest::Body;
use reqwest::Method;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::CONTENT_LENGTH;
use reqwest::header::CONTENT_TYPE;
use sha2::Digest as _;
use sha2::Sha256;
use tokio_util::bytes::Bytes;
use tokio_util::io::ReaderStream;

use crate::events::Cancel;
use crate::events::Events;
use crate::events::Moving;
use crate::events::Unit;
use crate::model::descriptor::Descriptor;
use crate::model::digest::Digest;
use crate::model::reference::ImageReference;
use crate::registry::auth::Scopes;
use crate::registry::auth::push_scope;
use crate::registry::client::Registry;
use crate::registry::client::Tries;
use crate::registry::error::Action;
use crate::registry::error::RegistryError;
use crate::registry::error::refusal;
use crate::registry::mount::Opened;
use crate::registry::pull::stated_digest;
use crate::registry::pull::until_cancelled;

/// How often an upload is begun.
const UPLOAD_TRIES: u32 = 4;
/// The wait before the second try; each later one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Bytes that are read from a file at once.
const PIECE_BYTES: usize = 256 << 10;
/// How often an upload's progress is told.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Present,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// Where the bytes of a blob come from.
#[derive(Debug, Clone, Copy)]
enum From<'a> {
    File(&'a Path),
    Registry(&'a ImageReference),
}

impl From<'_> {
    /// The failure when the bytes have another digest than the blob's.
    fn mismatch(self, blob: &Descriptor, found: Digest) -> RegistryError {
        match self {
            Self::File(path) => RegistryError::Broken {
                path: path.to_owned(),
                found,
            },
            Self::Registry(source) => RegistryError::DigestMismatch {
                what: format!("{}@{}", source.name(), blob.digest),
                expected: blob.digest,
                found,
            },
        }
    }
}

impl Registry {
    /// Checks that the repository may be written to, by opening an upload and taking it back.
    pub async fn check_push(&self, reference: &ImageReference) -> Result<(), RegistryError> {
        let Opened::Upload(url) = self.open_upload(reference, None).await? else {
            return Ok(());
        };
        let scopes = Scopes::from([push_scope(reference.repository())]);
        let delete = || self.http.request(Method::DELETE, url.as_str());
        // Not every registry can take an upload back; all forget it in time.
        let _best_effort = self.send_to(reference, &scopes, &url, Tries::One, delete).await;
        Ok(())
    }

    /// Whether the repository has the blob.
    pub async fn has_blob(
        &self,
        reference: &ImageReference,
        blob: &Descriptor,
    ) -> Result<bool, RegistryError> {
        if self.is_known_present(reference, blob.digest) {
            return Ok(true);
        }
        let scopes = Scopes::from([push_scope(reference.repository())]);
        let path = format!("blobs/{}", blob.digest);
        let response = self
            .send(reference, &scopes, Method::HEAD, &path, |request| request)
            .await?;
        match response.status() {
            status if status.is_success() => {
                self.remember_present(reference, blob.digest);
                Ok(true)
            }
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refusal(response, Action::Push, &reference.name(), &path).await),
        }
    }

    /// Brings the blob in the file `path` into the reference's repository; `mount_from` is a repository of the same
    /// registry that has it.
    pub async fn push_blob(
        &self,
        reference: &ImageReference,
        blob: &Descriptor,
        path: &Path,
        mount_from: Option<&str>,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<Pushed, RegistryError> {
        let push = self.push(reference, blob, From::File(path), mount_from, events);
        until_cancelled(cancel, push).await
    }

    /// Brings a blob of the image `from` into the reference's repository: mounted in the same registry, else streamed
    /// from one to the other without touching the disk.
    pub async fn copy_blob(
        &self,
        from: &ImageReference,
        reference: &ImageReference,
        blob: &Descriptor,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<Pushed, RegistryError> {
        let mount_from = Some(from.repository()).filter(|_| from.registry() == reference.registry());
        let push = self.push(reference, blob, From::Registry(from), mount_from, events);
        until_cancelled(cancel, push).await
    }

    /// Writes a manifest under the reference's tag or digest. Its blobs must be there.
    pub async fn push_manifest(
        &self,
        reference: &ImageReference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let scopes = Scopes::from([push_scope(reference.repository())]);
        let path = format!("manifests/{}", reference.identifier());
        let body = Bytes::copy_from_slice(bytes);
        let finish =
            |request: reqwest::RequestBuilder| request.header(CONTENT_TYPE, media_type).body(body.clone());
        let response = self.send(reference, &scopes, Method::PUT, &path, finish).await?;
        if !response.status().is_success() {
            return Err(refusal(response, Action::Push, &reference.name(), &reference.to_string()).await);
        }
        let expected = Digest::of(bytes);
        match stated_digest(&response)? {
            Some(found) if found != expected => Err(RegistryError::DigestMismatch {
                what: reference.to_string(),
                expected,
                found,
            }),
            _ => Ok(expected),
        }
    }

    async fn push(
        &self,
        reference: &ImageReference,
        blob: &Descriptor,
        from: From<'_>,
        mount_from: Option<&str>,
        events: &dyn Events,
    ) -> Result<Pushed, RegistryError> {
        if self.has_blob(reference, blob).await? {
            return Ok(Pushed::Present);
        }
        let mount_from = mount_from.filter(|repository| *repository != reference.repository());
        let mut mount = mount_from.map(|repository| (blob.digest, repository));
        let mut wait = FIRST_WAIT;
        for last in (0..UPLOAD_TRIES).map(|tried| tried + 1 == UPLOAD_TRIES) {
            let error = match self.push_once(reference, blob, from, mount.take(), events).await {
                Ok(pushed) => {
                    self.remember_present(reference, blob.digest);
                    return Ok(pushed);
                }
                Err(error) if !error.is_worth_a_retry() => return Err(error),
                Err(error) => error,
            };
            // Registries lose the answer to a commit that they made: the blob is there more often than not.
            if self.has_blob(reference, blob).await.unwrap_or(false) {
                return Ok(Pushed::Uploaded);
            }
            if last {
                return Err(error);
            }
            tracing::debug!(%error, wait_ms = wait.as_millis(), "upload is begun again");
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        // The loop has returned in its last turn.
        Ok(Pushed::Uploaded)
    }

    async fn push_once(
        &self,
        reference: &ImageReference,
        blob: &Descriptor,
        from: From<'_>,
        mount: Option<(Digest, &str)>,
        events: &dyn Events,
    ) -> Result<Pushed, RegistryError> {
        let url = match self.open_upload(reference, mount).await {
            Ok(Opened::Mounted) => return Ok(Pushed::Mounted),
            Ok(Opened::Upload(url)) => url,
            // The source of the mount may be closed to us, or gone; the target need not be.
            Err(
                RegistryError::Unauthorized { .. }
                | RegistryError::Denied { .. }
                | RegistryError::NotFound { .. },
            ) if mount.is_some() => match self.open_upload(reference, None).await? {
                Opened::Mounted => return Ok(Pushed::Mounted),
                Opened::Upload(url) => url,
            },
            Err(error) => return Err(error),
        };
        self.upload(reference, blob, from, url, events)
            .await
            .map(|()| Pushed::Uploaded)
    }

    /// One PUT of all bytes. The body is made for the try that is sent; a second one, after a refused token, gets its own.
    async fn upload(
        &self,
        reference: &ImageReference,
        blob: &Descriptor,
        from: From<'_>,
        mut url: Url,
        events: &dyn Events,
    ) -> Result<(), RegistryError> {
        url.query_pairs_mut()
            .append_pair("digest", &blob.digest.to_string());
        let scopes = Scopes::from([push_scope(reference.repository())]);
        let transfer = Arc::new(Transfer::default());
        let body = Mutex::new(Some(self.open(blob, from, &transfer).await?));
        let build = || {
            let body = body.lock().unwrap_or_else(PoisonError::into_inner).take();
            let request = self
                .http
                .request(Method::PUT, url.as_str())
                .header(CONTENT_LENGTH, blob.size);
            let request = request.header(CONTENT_TYPE, "application/octet-stream");
            match body {
                Some(body) => request.body(Body::wrap_stream(body)),
                // A second body cannot be streamed here: the whole push is tried again, with the new token.
                None => request.body(Body::wrap_stream(futures::stream::once(async {
                    Err::<Bytes, _>(io::Error::other("the upload must be begun again"))
                }))),
            }
        };
        let send = self.send_to(reference, &scopes, &url, Tries::One, build);
        let response = report(&transfer, blob, reference, events, send).await;
        if let Some(found) = transfer.mismatch() {
            return Err(from.mismatch(blob, found));
        }
        let response = response?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refusal(response, Action::Push, &reference.name(), "upload").await)
    }

    /// The bytes of a blob, hashed as they pass.
    async fn open(
        &self,
        blob: &Descriptor,
        from: From<'_>,
        transfer: &Arc<Transfer>,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, RegistryError> {
        let bytes: BoxStream<'static, io::Result<Bytes>> = match from {
            From::File(path) => {
                let failed = |source| RegistryError::File {
                    doing: "read",
                    path: path.to_owned(),
                    source,
                };
                let file = tokio::fs::File::open(path).await.map_err(failed)?;
                ReaderStream::with_capacity(file, PIECE_BYTES).boxed()
            }
            From::Registry(source) => {
                let response = self.open_blob(source, blob).await?;
                response
                    .bytes_stream()
                    .map(|piece| piece.map_err(io::Error::other))
                    .boxed()
            }
        };
        let (transfer, expected, size) = (Arc::clone(transfer), blob.digest, blob.size);
        let checked = bytes.map(move |piece| piece.and_then(|piece| transfer.pass(piece, expected, size)));
        Ok(checked.boxed())
    }
}

/// What has passed of one upload.
#[derive(Debug, Default)]
struct Transfer {
    done: AtomicU64,
    hasher: Mutex<Sha256>,
    mismatch: Mutex<Option<Digest>>,
}

impl Transfer {
    /// Counts and hashes a piece; the last one goes on only if all of them are the blob.
    fn pass(&self, piece: Bytes, expected: Digest, size: u64) -> io::Result<Bytes> {
        let mut hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        hasher.update(&piece);
        let done = self.done.fetch_add(piece.len() as u64, Ordering::Relaxed) + piece.len() as u64;
        if done < size {
            return Ok(piece);
        }
        let found = Digest::finish(hasher.clone());
        if found == expected {
            return Ok(piece);
        }
        *self.mismatch.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Err(io::Error::other("the bytes are not the blob"))
    }

    fn mismatch(&self) -> Option<Digest> {
        *self.mismatch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` and tells how far the upload is.
async fn report<T>(
    transfer: &Transfer,
    blob: &Descriptor,
    reference: &ImageReference,
    events: &dyn Events,
    work: impl Future<Output = T>,
) -> T {
    let what = format!("push {:.12} to {}", blob.digest.hex(), reference.name());
    let mut moving = Moving::new(events, &what, Some(blob.size), Unit::Bytes);
    let mut tell = || moving.tell(transfer.done.load(Ordering::Relaxed));
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => {
                tell();
                return outcome;
            }
            () = tokio::time::sleep(REPORT_INTERVAL) => tell(),
        }
    }
}
