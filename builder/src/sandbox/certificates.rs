//! The operator's CA bundle inside a job: bound over the image's own, never written into a layer.

use std::ffi::OsString;
use std::path::Path;

use crate::sandbox::message::StartBind;
use crate::sandbox::spec::Variables;

/// The path that the variables name; made if the image has no bundle.
const USUAL_PATH: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where other families of distributions have theirs.
const OTHER_PATHS: [&str; 6] = [
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];
const VARIABLES: [&str; 7] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];

/// The binds that put `bundle` over every bundle of the image.
pub(crate) fn binds(bundle: &Path) -> Vec<StartBind> {
    let bind = |target: &str, only_over_existing| StartBind {
        source: bundle.as_os_str().to_owned(),
        target: target.into(),
        read_only: true,
        only_over_existing,
    };
    let others = OTHER_PATHS.iter().map(|path| bind(path, true));
    std::iter::once(bind(USUAL_PATH, false)).chain(others).collect()
}

/// The variables that name the bundle; a command's own value goes before.
pub(crate) fn variables() -> Variables {
    VARIABLES
        .iter()
        .map(|name| (OsString::from(name), OsString::from(USUAL_PATH)))
        .collect()
}
