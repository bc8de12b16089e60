//! An image in a registry, to write.

use std::io::{self, Read};

use ureq::http::Method;

use super::client::{Call, Client, Needs, Target};
use super::http::{Payload, Response};
use super::source::manifest;
use super::tags::fallback_tag;
use super::url::Url;
use crate::document::{Descriptor, Document, Index, media_type};
use crate::transport::{Destination, PutAs, RawManifest};
use crate::{Algorithm, Digest, Error, Hasher, Reference, Result};

/// Size of the parts of a blob whose size is not known before its end.
const CHUNK: usize = 8 << 20;

/// Writes an image into a registry.
#[derive(Debug)]
pub struct RegistryDestination {
    client: Client,
    reference: Reference,
}

impl RegistryDestination {
    pub(super) const fn new(client: Client, reference: Reference) -> Self {
        Self { client, reference }
    }

    /// Begins an upload; where to send it.
    fn begin(&self) -> Result<Url> {
        let target = self.client.path("blobs/uploads/");
        let response = self
            .client
            .call(&Call::new(Method::POST, target, Needs::Push), &[202])?;
        self.next(&response)
    }

    /// Where an upload goes on.
    fn next(&self, response: &Response) -> Result<Url> {
        let location = response.header("location").ok_or_else(|| Error::Document {
            what: "upload",
            why: format!("{}: the answer does not say where to go on", response.url),
        })?;
        self.client.follow(response, location)
    }

    /// One request for the whole blob.
    fn monolithic(&self, blob: &Descriptor, data: &mut dyn Read) -> Result<()> {
        let url = self.begin()?.with("digest", &blob.digest.to_string());
        let call = Call::new(Method::PUT, Target::Url(url), Needs::Push)
            .header("content-type", "application/octet-stream");
        // Reading and sending go hand in hand; what the source says is the better reason.
        let mut reader = Remembering {
            inner: data,
            failed: None,
        };
        let payload = Payload::Stream(&mut reader, blob.size);
        let result = self.client.call_stream(&call, payload, &[201, 204]);
        match (result, reader.failed) {
            (Err(_), Some(source)) => Err(Error::Io {
                what: format!("read blob {}", blob.digest),
                source,
            }),
            (result, _) => result.map(drop),
        }
    }

    /// A request for each part; a part that was lost is sent again.
    fn chunked(&self, data: &mut dyn Read) -> Result<(Digest, u64)> {
        let mut url = self.begin()?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut size = 0_u64;
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            chunk.clear();
            data.take(CHUNK as u64)
                .read_to_end(&mut chunk)
                .map_err(|source| Error::Io {
                    what: format!("read a layer for {}", self.place()),
                    source,
                })?;
            if chunk.is_empty() {
                break;
            }
            hasher.update(&chunk);
            url = self.send_chunk(url, size, &chunk)?;
            size += chunk.len() as u64;
        }
        let digest = hasher.finish();
        let last = url.with("digest", &digest.to_string());
        let call = Call::new(Method::PUT, Target::Url(last), Needs::Push)
            .header("content-type", "application/octet-stream");
        self.client.call(&call, &[201, 204])?;
        Ok((digest, size))
    }

    fn send_chunk(&self, url: Url, offset: u64, chunk: &[u8]) -> Result<Url> {
        let retry = self.client.retry();
        let mut url = url;
        let mut sent = 0_usize;
        let mut n = 0;
        loop {
            let rest = chunk.get(sent..).unwrap_or_default();
            let from = offset + sent as u64;
            let range = format!("{from}-{}", from + rest.len() as u64 - 1);
            let call = Call::new(Method::PATCH, Target::Url(url.clone()), Needs::Push)
                .header("content-type", "application/octet-stream")
                .header("content-range", range);
            let error = match self.client.call_stream(&call, Payload::Bytes(rest), &[202]) {
                Ok(response) => return self.next(&response),
                Err(e) if e.is_transient() => e,
                Err(e) => return Err(e),
            };
            let Some(pause) = retry.pause(n, None) else {
                return Err(error);
            };
            n += 1;
            std::thread::sleep(pause);
            // The registry knows best how far it came.
            let call = Call::new(Method::GET, Target::Url(url.clone()), Needs::Push);
            let state = self.client.call(&call, &[204, 200])?;
            let has = received(&state).saturating_sub(offset);
            sent = usize::try_from(has).unwrap_or(usize::MAX);
            url = self.next(&state)?;
            if sent > chunk.len() {
                return Err(error);
            }
            if sent == chunk.len() {
                return Ok(url);
            }
        }
    }

    /// Keeps the list of referrers where the registry does not.
    fn add_referrer(&self, raw: &RawManifest, subject: &Descriptor) -> Result<()> {
        let tag = fallback_tag(&subject.digest);
        let mut index = match manifest(&self.client, &tag, None) {
            Err(e) if e.is_missing() => empty_index(),
            other => match other?.parse()? {
                Document::Index(index) => *index,
                // Somebody else's tag.
                Document::Manifest(_) => return Ok(()),
            },
        };
        if index.manifests.iter().any(|d| d.digest == raw.digest) {
            return Ok(());
        }
        let mut entry = Descriptor::of(&raw.bytes, raw.own_media_type()?);
        if let Document::Manifest(m) = raw.parse()? {
            entry.artifact_type = m.artifact_type.or(Some(m.config.media_type));
            entry.annotations = m.annotations;
        }
        index.manifests.push(entry);
        let bytes = serde_json::to_vec(&index).map_err(|e| Error::Document {
            what: "index",
            why: e.to_string(),
        })?;
        self.put(&RawManifest::new(bytes, media_type::OCI_INDEX), &tag)
            .map(drop)
    }

    fn put(&self, raw: &RawManifest, selector: &str) -> Result<Response> {
        let target = self.client.path(&format!("manifests/{selector}"));
        let call = Call::new(Method::PUT, target, Needs::Push)
            .header("content-type", raw.own_media_type()?)
            .body(&raw.bytes);
        let response = self.client.call(&call, &[200, 201, 202])?;
        match response.header("docker-content-digest") {
            Some(digest) if digest.parse().ok() != Some(raw.digest.clone()) => {
                Err(Error::Document {
                    what: "manifest",
                    why: format!("put {}, the registry took it for another", raw.digest),
                })
            }
            _ => Ok(response),
        }
    }
}

impl Destination for RegistryDestination {
    fn place(&self) -> String {
        format!("docker://{}", self.reference)
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        let target = self.client.path(&format!("blobs/{}", blob.digest));
        let call = Call::new(Method::HEAD, target, Needs::Push);
        let response = self.client.call(&call, &[200, 404])?;
        let length = response
            .header("content-length")
            .and_then(|l| l.parse().ok());
        Ok(response.status == 200 && length.is_none_or(|l: u64| l == blob.size))
    }

    fn mount_blob(&self, blob: &Descriptor, from: &Reference) -> Result<bool> {
        let own = self.client.reference();
        if from.host() != own.host() || from.path() == own.path() {
            return Ok(false);
        }
        let query = format!("blobs/uploads/?mount={}&from={}", blob.digest, from.path());
        let needs = Needs::Mount(from.path().to_owned());
        let call = Call::new(Method::POST, self.client.path(&query), needs);
        // Who may write here may still not be allowed to read there: then it is uploaded.
        let response = match self.client.call(&call, &[201, 202]) {
            Err(Error::Status { .. }) => return Ok(false),
            other => other?,
        };
        if response.status == 202 {
            // It began an upload instead, which nobody will finish.
            let cancel = Call::new(
                Method::DELETE,
                Target::Url(self.next(&response)?),
                Needs::Push,
            );
            let _ = self.client.call(&cancel, &[200, 202, 204]);
        }
        Ok(response.status == 201)
    }

    fn put_blob(
        &self,
        expected: Option<&Descriptor>,
        data: &mut dyn Read,
    ) -> Result<(Digest, u64)> {
        match expected {
            None => self.chunked(data),
            Some(blob) => {
                let mut checked = crate::transport::Verified::new(data, blob);
                self.monolithic(blob, &mut checked)?;
                Ok((blob.digest.clone(), blob.size))
            }
        }
    }

    fn wants_compressed(&self) -> bool {
        true
    }

    fn put_manifest(&self, raw: &RawManifest, name: PutAs<'_>) -> Result<()> {
        let selector = match name {
            PutAs::Digest => raw.digest.to_string(),
            PutAs::Tag(tag) => tag.to_owned(),
            PutAs::Top => {
                if let Some(wanted) = self.reference.digest()
                    && *wanted != raw.digest
                {
                    return Err(Error::Refused {
                        what: self.place(),
                        why: format!("the image has the digest {}", raw.digest),
                    });
                }
                match self.reference.tag() {
                    Some(tag) => tag.to_owned(),
                    None => raw.digest.to_string(),
                }
            }
        };
        let response = self.put(raw, &selector)?;
        match crate::transport::subject_of(&raw.bytes) {
            Some(subject) if response.header("oci-subject").is_none() => {
                self.add_referrer(raw, &subject)
            }
            _ => Ok(()),
        }
    }
}

fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        artifact_type: None,
        manifests: Vec::new(),
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    }
}

/// Bytes that an upload has received: `Range: 0-99` are a hundred.
fn received(state: &Response) -> u64 {
    let range = state.header("range").unwrap_or("");
    let end = range.rsplit('-').next().and_then(|e| e.parse::<u64>().ok());
    match end {
        // An upload without bytes says 0-0, and so does one with a single byte; parts are larger.
        Some(0) | None => 0,
        Some(end) => end + 1,
    }
}

/// Keeps the reason why reading failed: the sender would only say that it could not go on.
struct Remembering<'a> {
    inner: &'a mut dyn Read,
    failed: Option<io::Error>,
}

impl Read for Remembering<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|e| {
            let kind = e.kind();
            self.failed = Some(e);
            kind.into()
        })
    }
}
