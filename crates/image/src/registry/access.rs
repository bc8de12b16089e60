//! How this machine and this user reach registries.

use std::sync::Arc;

use super::client::{Client, Connect};
use super::http::Http;
use super::retry::Retry;
use super::{RegistryDestination, RegistrySource};
#[cfg(feature = "signatures")]
use crate::config::lookaside::Lookaside;
use crate::config::{AuthFiles, CertDirs, Credentials, Endpoint, Registries};
use crate::{Error, Reference, Result};

/// Configuration for all that speaks to registries.
#[derive(Clone, Debug)]
pub struct Access {
    registries: Arc<Registries>,
    auth: AuthFiles,
    credentials: Option<Credentials>,
    anonymous: bool,
    tls_verify: Option<bool>,
    retry: Retry,
    http: Arc<Http>,
    #[cfg(feature = "signatures")]
    lookaside: Arc<Lookaside>,
}

impl Access {
    /// The machine's and the user's configuration.
    ///
    /// # Errors
    /// A configuration file that is not what it should be.
    pub fn system() -> Result<Self> {
        let registries = Registries::system()?;
        Ok(Self::new(
            registries,
            AuthFiles::system(),
            CertDirs::system(),
        ))
    }

    /// A given configuration.
    #[must_use]
    pub fn new(registries: Registries, auth: AuthFiles, certs: CertDirs) -> Self {
        Self {
            registries: Arc::new(registries),
            auth,
            credentials: None,
            anonymous: false,
            tls_verify: None,
            retry: Retry::default(),
            http: Arc::new(Http::new(certs)),
            #[cfg(feature = "signatures")]
            lookaside: Arc::default(),
        }
    }

    /// With these places for simple-signing signatures.
    #[cfg(feature = "signatures")]
    #[must_use]
    pub fn with_lookaside(mut self, lookaside: Lookaside) -> Self {
        self.lookaside = Arc::new(lookaside);
        self
    }

    #[cfg(feature = "signatures")]
    pub(super) fn lookaside(&self) -> &Lookaside {
        &self.lookaside
    }

    /// With these credentials instead of those in files; `None`: with none at all.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Option<Credentials>) -> Self {
        self.anonymous = credentials.is_none();
        self.credentials = credentials;
        self
    }

    /// With this file of credentials.
    #[must_use]
    pub fn with_auth_files(mut self, auth: AuthFiles) -> Self {
        self.auth = auth;
        self
    }

    /// With these certificates.
    #[must_use]
    pub fn with_certs(mut self, certs: CertDirs) -> Self {
        self.http = Arc::new(Http::new(certs));
        self
    }

    /// Whether TLS is demanded and certificates are checked, whatever `registries.conf` says.
    #[must_use]
    pub const fn with_tls_verify(mut self, verify: bool) -> Self {
        self.tls_verify = Some(verify);
        self
    }

    /// How often requests are repeated.
    #[must_use]
    pub const fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The registries' configuration.
    #[must_use]
    pub fn registries(&self) -> &Registries {
        &self.registries
    }

    /// The files of credentials.
    #[must_use]
    pub const fn auth(&self) -> &AuthFiles {
        &self.auth
    }

    /// An image to read; mirrors are tried in their order.
    ///
    /// # Errors
    /// The registry is blocked or misconfigured. It is not yet spoken to.
    pub fn source(&self, reference: &Reference) -> Result<RegistrySource> {
        let endpoints = self.registries.endpoints(reference)?;
        Ok(RegistrySource::new(
            self.clone(),
            reference.clone(),
            endpoints,
        ))
    }

    /// An image to write; mirrors are not written to.
    ///
    /// # Errors
    /// The registry is blocked or was not reached.
    pub fn destination(&self, reference: &Reference) -> Result<RegistryDestination> {
        let client = self.client(reference)?;
        Ok(RegistryDestination::new(client, reference.clone()))
    }

    /// A client of the registry itself, not of a mirror.
    pub(super) fn client(&self, reference: &Reference) -> Result<Client> {
        let endpoints = self.registries.endpoints(reference)?;
        let own = endpoints.iter().rfind(|e| !e.mirror);
        let own = own.ok_or_else(|| Error::Missing {
            what: reference.to_string(),
            why: "registries.conf has only mirrors for it".to_owned(),
        })?;
        self.connect(own)
    }

    pub(super) const fn http(&self) -> &Arc<Http> {
        &self.http
    }

    pub(super) fn connect(&self, endpoint: &Endpoint) -> Result<Client> {
        let credentials = match &self.credentials {
            // Given credentials are for the registry that was named, not for its mirrors.
            Some(given) if !endpoint.mirror => Some(given.clone()),
            None if self.anonymous => None,
            _ => self.auth.find(&endpoint.reference)?,
        };
        let how = Connect {
            http: Arc::clone(&self.http),
            insecure: self.tls_verify.map_or(endpoint.insecure, |verify| !verify),
            credentials,
            retry: self.retry,
        };
        Client::connect(endpoint.reference.clone(), how)
    }

    /// Asks a registry whether it knows the one who has these credentials.
    ///
    /// # Errors
    /// It was not reached or it does not.
    pub fn check_login(&self, host: &str) -> Result<()> {
        let reference = Reference::parse(&format!("{host}/hull-login"))?;
        self.client(&reference)?.check_login()
    }
}
