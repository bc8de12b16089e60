//! What server and client share of TLS.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::Error;

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unreadable(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::Tls(format!("read {}: {e}", path.display()))
}

/// The certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let file = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(path, &e))?;
    let certificates: Result<Vec<_>, _> = file.collect();
    let certificates = certificates.map_err(|e| unreadable(path, &e))?;
    match certificates.is_empty() {
        true => Err(unreadable(path, &"no certificate in it")),
        false => Ok(certificates),
    }
}

pub fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| unreadable(path, &e))?;
    }
    Ok(roots)
}

pub fn identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
    Ok((chain, key))
}
