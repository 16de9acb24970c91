//! Reading: manifests and blobs, every byte verified.

use std::path::Path;
use std::path::PathBuf;

use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use reqwest::header::CONTENT_LENGTH;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use sha2::Digest as _;
use sha2::Sha256;
use tokio::io::AsyncWriteExt as _;

use crate::events::Cancel;
use crate::events::Events;
use crate::events::Moving;
use crate::events::Unit;
use crate::http::error::HttpError;
use crate::http::redact::redact;
use crate::model::descriptor::DOCKER_LIST;
use crate::model::descriptor::DOCKER_MANIFEST;
use crate::model::descriptor::Descriptor;
use crate::model::descriptor::INDEX;
use crate::model::descriptor::MANIFEST;
use crate::model::digest::Digest;
use crate::model::reference::ImageReference;
use crate::registry::auth::Scopes;
use crate::registry::auth::pull_scope;
use crate::registry::client::CANCEL_INTERVAL;
use crate::registry::client::Registry;
use crate::registry::error::Action;
use crate::registry::error::RegistryError;
use crate::registry::error::bounded;
use crate::registry::error::refusal;

/// The longest manifest that is read; registries take no longer ones (OCI distribution spec, pushing manifests).
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// How often a blob is asked for.
const BLOB_TRIES: u32 = 4;

/// A manifest or index, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes, which have the descriptor's digest.
    pub bytes: Vec<u8>,
}

/// What an image is for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `v8`, `v7`; none: any.
    #[serde(default)]
    pub variant: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Child>,
}

#[derive(Deserialize)]
struct Child {
    digest: Digest,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: Option<String>,
}

impl Registry {
    /// What the reference points to, by one HEAD; none if there is nothing.
    pub async fn head(&self, reference: &ImageReference) -> Result<Option<Descriptor>, RegistryError> {
        let response = self.ask_for_manifest(reference, Method::HEAD).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !response.status().is_success() {
            return Err(refusal(response, Action::Pull, &reference.name(), &reference.to_string()).await);
        }
        let digest = stated_digest(&response)?.or(reference.digest());
        let size = header(&response, CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok());
        match (digest, size, header(&response, CONTENT_TYPE.as_str())) {
            (Some(digest), Some(size), Some(media_type)) => Ok(Some(Descriptor {
                media_type,
                digest,
                size,
            })),
            // Some registries say less to HEAD than to GET.
            _ => self
                .manifest(reference)
                .await
                .map(|manifest| Some(manifest.descriptor)),
        }
    }

    /// The manifest or index that the reference points to.
    pub async fn manifest(&self, reference: &ImageReference) -> Result<Manifest, RegistryError> {
        let response = self.ask_for_manifest(reference, Method::GET).await?;
        if !response.status().is_success() {
            return Err(refusal(response, Action::Pull, &reference.name(), &reference.to_string()).await);
        }
        let what = reference.to_string();
        let expected = reference.digest().or(stated_digest(&response)?);
        let media_type = header(&response, CONTENT_TYPE.as_str());
        let limit = MANIFEST_BYTES_MAX as u64;
        let too_large = || RegistryError::TooLarge {
            what: what.clone(),
            limit,
        };
        let bytes = bounded(response, MANIFEST_BYTES_MAX)
            .await?
            .ok_or_else(too_large)?;
        let found = Digest::of(&bytes);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(RegistryError::DigestMismatch {
                what,
                expected,
                found,
            });
        }
        // The body's own word goes before the header's, which is not under the digest.
        let own = serde_json::from_slice::<Typed>(&bytes)
            .ok()
            .and_then(|typed| typed.media_type);
        let media_type = own.or(media_type).unwrap_or_else(|| MANIFEST.to_owned());
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        Ok(Manifest {
            descriptor: Descriptor {
                media_type,
                digest: found,
                size: bytes.len() as u64,
            },
            bytes,
        })
    }

    /// The manifest of the image for `platform`; one that stands alone is taken as it is.
    pub async fn image(
        &self,
        reference: &ImageReference,
        platform: &Platform,
    ) -> Result<Manifest, RegistryError> {
        let manifest = self.manifest(reference).await?;
        if ![INDEX, DOCKER_LIST].contains(&manifest.descriptor.media_type.as_str()) {
            return Ok(manifest);
        }
        let digest = pick(&manifest.bytes, platform, reference)?;
        self.manifest(&reference.with_digest(digest)).await
    }

    /// Brings a blob into the file `destination`, which appears only whole and verified.
    pub async fn blob(
        &self,
        reference: &ImageReference,
        blob: &Descriptor,
        destination: &Path,
        events: &dyn Events,
        cancel: &Cancel,
    ) -> Result<(), RegistryError> {
        let mut name = destination.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let partial = Partial(destination.with_file_name(name));
        let mut tries = 1;
        loop {
            match until_cancelled(cancel, self.blob_into(reference, blob, &partial.0, events)).await {
                Err(RegistryError::Unreachable(_)) if tries < BLOB_TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        tokio::fs::rename(&partial.0, destination)
            .await
            .map_err(|source| file_error("rename", &partial.0, source))
    }

    /// A small blob (an image's configuration), at most `limit` bytes.
    pub async fn blob_bytes(
        &self,
        reference: &ImageReference,
        blob: &Descriptor,
        limit: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        let what = format!("{}@{}", reference.name(), blob.digest);
        let too_large = || RegistryError::TooLarge {
            what: what.clone(),
            limit: limit as u64,
        };
        if blob.size > limit as u64 {
            return Err(too_large());
        }
        let response = self.open_blob(reference, blob).await?;
        let bytes = bounded(response, limit).await?.ok_or_else(too_large)?;
        let found = Digest::of(&bytes);
        if found == blob.digest {
            Ok(bytes)
        } else {
            Err(RegistryError::DigestMismatch {
                what,
                expected: blob.digest,
                found,
            })
        }
    }

    /// The beginning of a blob's body. Redirects to storage on other hosts carry no credentials.
    pub(super) async fn open_blob(
        &self,
        reference: &ImageReference,
        blob: &Descriptor,
    ) -> Result<Response, RegistryError> {
        let scopes = Scopes::from([pull_scope(reference.repository())]);
        let path = format!("blobs/{}", blob.digest);
        let response = self
            .send(reference, &scopes, Method::GET, &path, |request| request)
            .await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let what = format!("{}@{}", reference.name(), blob.digest);
        Err(refusal(response, Action::Pull, &reference.name(), &what).await)
    }

    async fn blob_into(
        &self,
        reference: &ImageReference,
        blob: &Descriptor,
        path: &Path,
        events: &dyn Events,
    ) -> Result<(), RegistryError> {
        let what = format!("{}@{}", reference.name(), blob.digest);
        let mut response = self.open_blob(reference, blob).await?;
        let url = response.url().as_str().to_owned();
        let mut file = tokio::fs::File::create(path)
            .await
            .map_err(|source| file_error("create", path, source))?;
        let moved = format!("pull {:.12} from {}", blob.digest.hex(), reference.name());
        let mut moving = Moving::new(events, &moved, Some(blob.size), Unit::Bytes);
        let (mut hasher, mut done) = (Sha256::new(), 0);
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| HttpError::from_reqwest(&url, &error))?
        {
            done += piece.len() as u64;
            if done > blob.size {
                return Err(RegistryError::TooLarge {
                    what,
                    limit: blob.size,
                });
            }
            hasher.update(&piece);
            file.write_all(&piece)
                .await
                .map_err(|source| file_error("write", path, source))?;
            moving.tell(done);
        }
        file.flush()
            .await
            .map_err(|source| file_error("write", path, source))?;
        let found = Digest::finish(hasher);
        if found == blob.digest {
            Ok(())
        } else {
            Err(RegistryError::DigestMismatch {
                what,
                expected: blob.digest,
                found,
            })
        }
    }

    async fn ask_for_manifest(
        &self,
        reference: &ImageReference,
        method: Method,
    ) -> Result<Response, RegistryError> {
        let scopes = Scopes::from([pull_scope(reference.repository())]);
        let path = format!("manifests/{}", reference.identifier());
        let accept = format!("{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}");
        let finish = |request: RequestBuilder| request.header(ACCEPT, &accept);
        self.send(reference, &scopes, method, &path, finish).await
    }
}

/// A file that goes when it was not renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // It is gone already when it was renamed.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Ends `work` soon after the build was cancelled.
pub(super) async fn until_cancelled<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    let cancelled = async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(CANCEL_INTERVAL).await;
        }
    };
    cancel.check()?;
    tokio::select! {
        outcome = work => outcome,
        () = cancelled => { cancel.check()?; Err(RegistryError::Cancelled(crate::events::Cancelled)) }
    }
}

/// The digest of the image for `platform` in an index.
fn pick(index: &[u8], platform: &Platform, reference: &ImageReference) -> Result<Digest, RegistryError> {
    let index: Index = serde_json::from_slice(index).map_err(|error| RegistryError::Protocol {
        url: reference.to_string(),
        why: format!("its index cannot be read: {error}"),
    })?;
    let fits = |child: &&Child| {
        child.platform.as_ref().is_some_and(|has| {
            let variant =
                platform.variant.is_none() || has.variant.is_none() || has.variant == platform.variant;
            has.os == platform.os && has.architecture == platform.architecture && variant
        })
    };
    index
        .manifests
        .iter()
        .find(fits)
        .map(|child| child.digest)
        .ok_or_else(|| {
            let has = index
                .manifests
                .iter()
                .filter_map(|child| child.platform.as_ref())
                .map(shown);
            RegistryError::NoPlatform {
                reference: reference.to_string(),
                platform: shown(platform),
                has: has.take(20).collect::<Vec<_>>().join(", "),
            }
        })
}

fn shown(platform: &Platform) -> String {
    let variant = platform
        .variant
        .as_deref()
        .map(|variant| format!("/{variant}"))
        .unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

/// The digest that the registry states in its answer, if it does.
pub(super) fn stated_digest(response: &Response) -> Result<Option<Digest>, RegistryError> {
    let Some(text) = header(response, "docker-content-digest") else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(
        |error: crate::model::digest::DigestError| RegistryError::Protocol {
            url: redact(response.url().as_str()),
            why: error.to_string(),
        },
    )
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

fn file_error(doing: &'static str, path: &Path, source: std::io::Error) -> RegistryError {
    RegistryError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_searched_by_platform() {
        let (amd, arm) = (Digest::of(b"amd"), Digest::of(b"arm"));
        let index = format!(
            r#"{{"manifests":[{{"digest":"{arm}","platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}},
                {{"digest":"{amd}","platform":{{"os":"linux","architecture":"amd64"}}}},{{"digest":"{amd}"}}]}}"#
        );
        let reference: ImageReference = "app".parse().unwrap();
        let platform = |architecture: &str, variant: Option<&str>| Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        };
        assert_eq!(
            pick(index.as_bytes(), &platform("amd64", None), &reference).unwrap(),
            amd
        );
        assert_eq!(
            pick(index.as_bytes(), &platform("arm64", None), &reference).unwrap(),
            arm
        );
        assert_eq!(
            pick(index.as_bytes(), &platform("arm64", Some("v8")), &reference).unwrap(),
            arm
        );
        let error = pick(index.as_bytes(), &platform("arm64", Some("v7")), &reference)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("linux/arm64/v7; it has linux/arm64/v8, linux/amd64"),
            "{error}"
        );
    }
}
