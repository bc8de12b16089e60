//! Simple-signing signatures: beside the registry, where `registries.d` says.

use std::path::Path;

use ureq::http::Method;

use super::access::Access;
use super::http::{Payload, Request};
use super::url::Url;
use crate::transport::files;
use crate::{Digest, Error, Reference, Result};

/// Most signatures of one manifest.
const SIGNATURES: usize = 128;
/// Largest signature.
const LIMIT: u64 = 4 << 20;

/// The signatures that there are: numbered from 1, without a gap.
pub fn signatures(access: &Access, reference: &Reference, of: &Digest) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for n in 1..=SIGNATURES {
        let Some(place) = access.lookaside().url(reference, of, n) else {
            break;
        };
        match read(access, &place) {
            Ok(bytes) => found.push(bytes),
            Err(e) if e.is_missing() => break,
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

fn read(access: &Access, place: &str) -> Result<Vec<u8>> {
    if let Some(path) = place.strip_prefix("file://") {
        return files::read_limited(Path::new(path), LIMIT);
    }
    let url = Url::parse(place).ok_or_else(|| Error::Document {
        what: "registries.d",
        why: format!("{place}: not a file, http or https URL"),
    })?;
    let what = format!("GET {url}");
    // Without credentials: this is not the registry.
    let response = access.http().send(Request {
        method: Method::GET,
        url,
        headers: Vec::new(),
        authorization: None,
        payload: Payload::Empty,
        insecure: false,
    })?;
    let response = super::client::expect(response, &what, &[200])?;
    response
        .bytes(LIMIT)
        .map_err(|source| Error::Io { what, source })
}
