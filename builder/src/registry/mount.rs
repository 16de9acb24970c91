//! Opening an upload: the registry takes the blob from another of its repositories, or names a place to send it to.

use reqwest::Method;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::CONTENT_LENGTH;
use reqwest::header::LOCATION;

use crate::http::redact::redact;
use crate::model::digest::Digest;
use crate::model::reference::ImageReference;
use crate::registry::auth::Scopes;
use crate::registry::auth::pull_scope;
use crate::registry::auth::push_scope;
use crate::registry::client::Registry;
use crate::registry::error::Action;
use crate::registry::error::RegistryError;
use crate::registry::error::refusal;

/// What came of opening an upload.
pub(super) enum Opened {
    /// The blob is there: mounted.
    Mounted,
    /// Send it here.
    Upload(Url),
}

impl Registry {
    /// Opens an upload into the reference's repository, first trying to mount `digest` from the repository `from`.
    pub(super) async fn open_upload(
        &self,
        reference: &ImageReference,
        mount: Option<(Digest, &str)>,
    ) -> Result<Opened, RegistryError> {
        let mut scopes = Scopes::from([push_scope(reference.repository())]);
        let path = match mount {
            Some((digest, from)) => {
                // Without the right to read there, the registry could not mount from it.
                scopes.insert(pull_scope(from));
                format!("blobs/uploads/?mount={digest}&from={from}")
            }
            None => "blobs/uploads/".to_owned(),
        };
        let finish = |request: reqwest::RequestBuilder| request.header(CONTENT_LENGTH, "0");
        let response = self.send(reference, &scopes, Method::POST, &path, finish).await?;
        match response.status() {
            StatusCode::CREATED if mount.is_some() => Ok(Opened::Mounted),
            StatusCode::ACCEPTED => location(&response).map(Opened::Upload),
            _ => Err(refusal(response, Action::Push, &reference.name(), &reference.name()).await),
        }
    }
}

/// Where the registry wants the next request of an upload; often relative.
fn location(response: &Response) -> Result<Url, RegistryError> {
    let wrong = |why: &str| RegistryError::Protocol {
        url: redact(response.url().as_str()),
        why: why.to_owned(),
    };
    let text = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let text = text.ok_or_else(|| wrong("it opens an upload without saying where"))?;
    let url = response
        .url()
        .join(text)
        .map_err(|_| wrong("its upload's location is no URL"))?;
    if response.url().scheme() == "https" && url.scheme() != "https" {
        return Err(wrong("its upload's location leaves TLS"));
    }
    Ok(url)
}
