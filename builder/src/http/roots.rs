//! Whom we trust: the machine's certificate authorities and the operator's, read at the first TLS handshake.
//!
//! Reading and parsing the roots takes 5 to 10 ms, which a build that needs no network must not pay.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;

use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;

/// The TLS configuration that trusts the machine's roots and those in `ca_files`.
///
/// `rustls-native-certs` reads `SSL_CERT_FILE` and `SSL_CERT_DIR` by itself, as OpenSSL does: the one place outside
/// `cli::config` where the environment counts.
pub(super) fn tls_config(ca_files: &[PathBuf]) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = LateRoots {
        provider: provider.clone(),
        ca_files: ca_files.to_vec(),
        inner: OnceLock::new(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// webpki's verifier, made when it is first asked.
struct LateRoots {
    provider: Arc<CryptoProvider>,
    ca_files: Vec<PathBuf>,
    inner: OnceLock<Result<Arc<WebPkiServerVerifier>, rustls::Error>>,
}

impl LateRoots {
    fn verifier(&self) -> Result<&WebPkiServerVerifier, rustls::Error> {
        let made = self.inner.get_or_init(|| {
            WebPkiServerVerifier::builder_with_provider(
                Arc::new(read_roots(&self.ca_files)?),
                self.provider.clone(),
            )
            .build()
            .map_err(|error| rustls::Error::General(format!("no certificate authority is known: {error}")))
        });
        made.as_ref().map(AsRef::as_ref).map_err(Clone::clone)
    }
}

/// The machine's roots, as many as can be read, and the operator's, of which each file must be good.
fn read_roots(ca_files: &[PathBuf]) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for path in ca_files {
        read_ca_file(&mut roots, path).map_err(rustls::Error::General)?;
    }
    Ok(roots)
}

fn read_ca_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let read = rustls_native_certs::load_certs_from_paths(Some(path), None);
    if let Some(error) = read.errors.first() {
        return Err(format!("cannot read the CA file {}: {error}", path.display()));
    }
    let (added, _ignored) = roots.add_parsable_certificates(read.certs);
    if added == 0 {
        return Err(format!("the CA file {} has no certificate in it", path.display()));
    }
    Ok(())
}

impl fmt::Debug for LateRoots {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LateRoots")
            .field("ca_files", &self.ca_files)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for LateRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier()?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.pem");
        std::fs::write(&path, "nothing\n").unwrap();
        let error = read_roots(std::slice::from_ref(&path)).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        let error = read_roots(&[folder.path().join("absent.pem")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("absent.pem"), "{error}");
    }
}
