//! An image in a registry, to read.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use ureq::http::Method;

use super::access::Access;
use super::client::{Call, Client, Needs};
use super::download::Download;
use super::http::{Payload, Request};
use super::url::Url;
use crate::config::Endpoint;
use crate::document::{Descriptor, MAX_MANIFEST, media_type};
use crate::transport::{RawManifest, Source};
use crate::{Digest, Error, Reference, Result};

/// What manifests may be.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, \
application/vnd.docker.distribution.manifest.v2+json";

/// Reads an image from a registry or its mirrors.
#[derive(Debug)]
pub struct RegistrySource {
    access: Access,
    reference: Reference,
    places: Vec<Place>,
}

/// A mirror or the registry, spoken to when it is its turn.
#[derive(Debug)]
struct Place {
    endpoint: Endpoint,
    client: Mutex<Option<Arc<Client>>>,
}

impl Place {
    fn client(&self, access: &Access) -> Result<Arc<Client>> {
        // Held while connecting: layers that begin at once share one contact.
        let mut slot = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*slot {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(access.connect(&self.endpoint)?);
        *slot = Some(Arc::clone(&client));
        Ok(client)
    }
}

impl RegistrySource {
    pub(super) fn new(access: Access, reference: Reference, endpoints: Vec<Endpoint>) -> Self {
        let place = |endpoint| Place {
            endpoint,
            client: Mutex::default(),
        };
        Self {
            access,
            reference,
            places: endpoints.into_iter().map(place).collect(),
        }
    }

    /// Tries each place; a mirror's failure matters only if all fail.
    fn try_each<T>(&self, attempt: impl Fn(&Arc<Client>) -> Result<T>) -> Result<T> {
        let mut failed: Vec<String> = Vec::new();
        for place in &self.places {
            let result = place.client(&self.access).and_then(|c| attempt(&c));
            match result {
                Ok(value) => return Ok(value),
                Err(e) if place.endpoint.mirror => failed.push(e.to_string()),
                Err(e) if failed.is_empty() => return Err(e),
                Err(e) => {
                    return Err(Error::Connection {
                        what: format!("docker://{}", self.reference),
                        why: format!("{e}; and before: {}", failed.join("; ")),
                    });
                }
            }
        }
        Err(Error::Missing {
            what: format!("docker://{}", self.reference),
            why: failed.join("; "),
        })
    }

    /// A layer that the registry may not have: from where its maker has put it.
    fn foreign(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let insecure = self
            .places
            .iter()
            .any(|p| p.endpoint.insecure && !p.endpoint.mirror);
        let mut last = Error::Missing {
            what: format!("foreign layer {}", blob.digest),
            why: "neither in the registry nor at a URL of its descriptor".to_owned(),
        };
        for text in &blob.urls {
            let Some(url) = Url::parse(text).filter(|u| u.tls || insecure) else {
                continue;
            };
            let what = format!("GET {url}");
            // Without credentials: the URL is the image author's word (CVE-2020-15157).
            let sent = self.access.http().send(Request {
                method: Method::GET,
                url,
                headers: Vec::new(),
                authorization: None,
                payload: Payload::Empty,
                insecure: false,
            });
            match sent.and_then(|r| super::client::expect(r, &what, &[200])) {
                Ok(response) => return Ok(response.into_reader()),
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

impl Source for RegistrySource {
    fn place(&self) -> String {
        format!("docker://{}", self.reference)
    }

    fn manifest(&self, by: Option<&Digest>) -> Result<RawManifest> {
        let expected = by.or_else(|| self.reference.digest());
        let selector = expected.map_or_else(|| self.reference.selector(), Digest::to_string);
        self.try_each(|client| manifest(client, &selector, expected))
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let result = self.try_each(|client| {
            let download = Download::begin(Arc::clone(client), blob)?;
            Ok(Box::new(download) as Box<dyn Read + Send>)
        });
        match result {
            Err(e) if is_foreign(blob) && e.is_missing() => self.foreign(blob),
            other => other,
        }
    }

    fn referrers(&self, to: &Digest) -> Result<Vec<Descriptor>> {
        self.try_each(|client| super::tags::referrers(client, to))
    }

    #[cfg(feature = "signatures")]
    fn signatures(&self, of: &Digest) -> Result<Vec<Vec<u8>>> {
        super::lookaside::signatures(&self.access, &self.reference, of)
    }

    fn sibling(&self, tag: &str) -> Result<Option<RawManifest>> {
        match self.try_each(|client| manifest(client, tag, None)) {
            Err(e) if e.is_missing() => Ok(None),
            other => other.map(Some),
        }
    }

    fn repository(&self) -> Option<&Reference> {
        Some(&self.reference)
    }
}

/// Whether a layer may be elsewhere.
fn is_foreign(blob: &Descriptor) -> bool {
    let kind = blob.media_type.as_str();
    !blob.urls.is_empty()
        && (kind.starts_with(media_type::OCI_LAYER_FOREIGN)
            || kind == media_type::DOCKER_LAYER_FOREIGN)
}

/// Reads the manifest with the tag or digest `selector`.
pub(super) fn manifest(
    client: &Client,
    selector: &str,
    expected: Option<&Digest>,
) -> Result<RawManifest> {
    let target = client.path(&format!("manifests/{selector}"));
    let call = Call::new(Method::GET, target, Needs::Pull).header("accept", ACCEPT);
    let response = client.call(&call, &[200])?;
    let what = format!("GET {}", response.url);
    let declared = response.header("content-type").unwrap_or("").to_owned();
    let promised = response
        .header("docker-content-digest")
        .map(str::parse::<Digest>);
    let bytes = response
        .bytes(MAX_MANIFEST)
        .map_err(|source| Error::Io { what, source })?;
    match expected {
        Some(digest) => RawManifest::checked(bytes, declared, digest),
        None => match promised {
            // What came is not what the registry says it sent.
            Some(promised) => RawManifest::checked(bytes, declared, &promised?),
            None => Ok(RawManifest::new(bytes, declared)),
        },
    }
}
