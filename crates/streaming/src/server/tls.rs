//! Certificates of the server, read again when asked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, version};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::error::Error;

/// Where the certificates are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate and those above it, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// If given, clients must have a certificate by one of these.
    pub client_ca: Option<PathBuf>,
    /// TLS 1.3 only; else 1.2 too.
    pub only_1_3: bool,
}

/// Certificates that can be exchanged while the server runs.
#[derive(Debug, Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what it should be.
    pub fn load(files: TlsFiles) -> Result<Self, Error> {
        let config = read(&files)?;
        Ok(Tls {
            files: Arc::new(files),
            config: Arc::new(Mutex::new(config)),
        })
    }

    /// Reads the files again; what was there stays in use if that fails.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn reload(&self) -> Result<(), Error> {
        let config = read(&self.files)?;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(super) async fn accept(&self, socket: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(socket).await
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, Error> {
    let versions: &[&SupportedProtocolVersion] = match files.only_1_3 {
        true => &[&version::TLS13],
        false => &[&version::TLS13, &version::TLS12],
    };
    let wrong = |e: &dyn std::fmt::Display| Error::Tls(e.to_string());
    let builder = ServerConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(versions)
        .map_err(|e| wrong(&e))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(crate::tls::roots(path)?);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, crate::tls::provider())
                    .build()
                    .map_err(|e| wrong(&e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key) = crate::tls::identity(&files.certificate, &files.key)?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| Error::Tls(format!("{}: {e}", files.certificate.display())))?;
    // The upgrade is HTTP/1.1's.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
