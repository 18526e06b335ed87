//! TLS for the listener: certificates from files, or from a certificate authority of this machine.

mod local;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use local::{LocalTls, local};
use parking_lot::RwLock;
use tokio_rustls::rustls::{
    self, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache},
    sign::CertifiedKey,
};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {what} from {path}: {reason}; it must be a PEM file")]
    Pem { what: &'static str, path: PathBuf, reason: String },
    #[error("no certificate in {0}; it must be a PEM file with the server's certificate first")]
    Empty(PathBuf),
    #[error("the certificate in {certificate} and the key in {key} do not fit: {source}")]
    Mismatch { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl From<TlsError> for soulbox_model::Error {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Write { .. } | TlsError::Issue(_) | TlsError::Tls(_) => {
                Self::internal("TLS", error)
            }
            TlsError::Pem { .. } | TlsError::Empty(_) | TlsError::Mismatch { .. } => {
                Self::Configuration { field: "tls".into(), message: error.to_string(), span: None }
            }
        }
    }
}

/// TLS with a certificate and key from PEM files.
#[derive(Debug)]
pub struct FileTls {
    pub config: Arc<ServerConfig>,
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
}

/// # Errors
/// Unreadable or unfitting files; see the texts of [`TlsError`].
pub fn files(certificate: &Path, key: &Path) -> Result<FileTls, TlsError> {
    let current = Arc::new(Current(RwLock::new(Arc::new(load(certificate, key)?))));
    Ok(FileTls {
        config: server_config(Arc::clone(&current) as Arc<dyn ResolvesServerCert>)?,
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        current,
    })
}

impl FileTls {
    /// Reads the files again; new connections use what they hold now.
    ///
    /// # Errors
    /// As [`files`]; what was in use stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        *self.current.0.write() = Arc::new(load(&self.certificate, &self.key)?);
        Ok(())
    }
}

/// The certificate in use.
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable("a certificate", certificate, &error))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(certificate.to_owned()));
    }
    let der = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| unreadable("a private key", key, &error))?;
    CertifiedKey::from_der(chain, der, &provider()).map_err(|source| TlsError::Mismatch {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    })
}

fn unreadable(what: &'static str, path: &Path, reason: &impl fmt::Display) -> TlsError {
    TlsError::Pem { what, path: path.to_owned(), reason: reason.to_string() }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// Offers HTTP/2 and HTTP/1.1 by ALPN.
fn server_config(certificates: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(4096);
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use soulbox_model::Error;

    use super::*;

    #[test]
    fn every_error_has_a_code() {
        let (certificate, key) = (PathBuf::from("a"), PathBuf::from("b"));
        let bad = || rustls::Error::General("x".into());
        for (error, code) in [
            (TlsError::Pem { what: "key", path: "a".into(), reason: "b".into() }, "SB-CONFIG"),
            (TlsError::Empty("a".into()), "SB-CONFIG"),
            (TlsError::Mismatch { certificate, key, source: bad() }, "SB-CONFIG"),
            (
                TlsError::Write { path: "a".into(), source: io::ErrorKind::StorageFull.into() },
                "SB-INTERNAL",
            ),
            (TlsError::Issue(rcgen::Error::CouldNotParseCertificate), "SB-INTERNAL"),
            (TlsError::Tls(bad()), "SB-INTERNAL"),
        ] {
            assert_eq!(Error::from(error).code(), code);
        }
    }
}
