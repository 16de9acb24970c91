//! The client for code that blocks: git's transport. Not to be made or used on a thread of the async runtime.

use std::io;
use std::io::Read;

use reqwest::blocking::Body;
use reqwest::blocking::RequestBuilder;
use reqwest::blocking::Response;
use reqwest::redirect::Policy;

use crate::http::client::builder;
use crate::http::error::HttpError;
use crate::http::redact::redact;
use crate::http::settings::Settings;

/// How many redirects are followed.
const REDIRECTS_MAX: usize = 8;

/// A client whose calls block. It follows redirects only within the same host, port and scheme.
#[derive(Debug, Clone)]
pub struct BlockingClient {
    inner: reqwest::blocking::Client,
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
        // A pack may take minutes to come; the server's silence is bounded by `builder`.
        let inner = builder
            .timeout(None)
            .redirect(same_host())
            .build()
            .map_err(|error| HttpError::Settings(error.to_string()))?;
        Ok(Self { inner })
    }

    /// `GET url`; a status that is no success is an error.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, HttpError> {
        finish(self.inner.get(url), url, headers)
    }

    /// `POST url` with a body (`Vec<u8>`, or `Body::new(reader)` for a stream); a status that is no success is an error.
    pub fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Result<Answer, HttpError> {
        finish(self.inner.post(url).body(body), url, headers)
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
