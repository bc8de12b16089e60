//! Lists of tags and of referrers; deletion.

use serde::Deserialize;
use ureq::http::Method;

use super::access::Access;
use super::client::{Call, Client, Needs, Target};
use super::http::{Response, SMALL};
use super::source::{ACCEPT, manifest};
use crate::document::{Descriptor, Document, Index};
use crate::{Digest, Error, Reference, Result};

/// Most pages of a list that are read.
const PAGES: usize = 10_000;

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Access {
    /// The tags of a repository, over all pages, as the registry orders them.
    ///
    /// # Errors
    /// Not reached or not allowed.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        let client = self.client(reference)?;
        let mut all = Vec::new();
        let mut target = client.path("tags/list?n=1000");
        for _ in 0..PAGES {
            let response = client.call(&Call::new(Method::GET, target, Needs::Pull), &[200])?;
            let next = next_page(&client, &response)?;
            let page: Tags = json(response, "list of tags")?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) => target = next,
                None => return Ok(all),
            }
        }
        Err(Error::Document {
            what: "list of tags",
            why: format!("{}: more than {PAGES} pages", reference.name()),
        })
    }

    /// The digest that a reference has now.
    ///
    /// # Errors
    /// Not there or not reached.
    pub fn digest_of(&self, reference: &Reference) -> Result<Digest> {
        let client = self.client(reference)?;
        digest_of(&client, reference)
    }

    /// Deletes the manifest that a reference names, with all its tags.
    ///
    /// # Errors
    /// Not there, not allowed, or the registry does not delete.
    pub fn delete(&self, reference: &Reference) -> Result<Digest> {
        let client = self.client(reference)?;
        let digest = digest_of(&client, reference)?;
        let target = client.path(&format!("manifests/{digest}"));
        let call = Call::new(Method::DELETE, target, Needs::Delete);
        match client.call(&call, &[200, 202, 204]) {
            Err(Error::Status {
                what, status: 405, ..
            }) => Err(Error::Refused {
                what,
                why: "this registry is configured not to delete".to_owned(),
            }),
            other => other.map(|_| digest),
        }
    }
}

fn digest_of(client: &Client, reference: &Reference) -> Result<Digest> {
    if let Some(digest) = reference.digest() {
        return Ok(digest.clone());
    }
    let target = client.path(&format!("manifests/{}", reference.selector()));
    let call = Call::new(Method::HEAD, target, Needs::Pull).header("accept", ACCEPT);
    let response = client.call(&call, &[200])?;
    match response.header("docker-content-digest").map(str::parse) {
        Some(Ok(digest)) => Ok(digest),
        _ => Ok(manifest(client, &reference.selector(), None)?.digest),
    }
}

/// What says `subject: to`: by the API, else by the tag that stands in for it.
pub(super) fn referrers(client: &Client, to: &Digest) -> Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    let mut target = client.path(&format!("referrers/{to}"));
    for _ in 0..PAGES {
        let response = client.call(
            &Call::new(Method::GET, target, Needs::Pull),
            &[200, 400, 404],
        )?;
        if response.status != 200 {
            return by_tag(client, to);
        }
        let next = next_page(client, &response)?;
        let index: Index = json(response, "list of referrers")?;
        found.extend(index.manifests);
        match next {
            Some(next) => target = next,
            None => break,
        }
    }
    Ok(found)
}

fn by_tag(client: &Client, to: &Digest) -> Result<Vec<Descriptor>> {
    let raw = match manifest(client, &fallback_tag(to), None) {
        Err(e) if e.is_missing() => return Ok(Vec::new()),
        other => other?,
    };
    match raw.parse()? {
        Document::Index(index) => Ok(index.manifests),
        Document::Manifest(_) => Ok(Vec::new()),
    }
}

/// The tag that lists referrers where the API is not there.
pub(super) fn fallback_tag(to: &Digest) -> String {
    format!("{}-{}", to.algorithm().name(), to.hex())
}

/// `Link: <…>; rel="next"` (RFC 8288).
fn next_page(client: &Client, response: &Response) -> Result<Option<Target>> {
    for field in response.headers("link") {
        for link in field.split(", ") {
            let Some((url, parameters)) = link
                .trim()
                .strip_prefix('<')
                .and_then(|l| l.split_once('>'))
            else {
                continue;
            };
            if parameters.replace(['"', ' '], "").contains("rel=next") {
                return client.follow(response, url).map(|u| Some(Target::Url(u)));
            }
        }
    }
    Ok(None)
}

fn json<T: serde::de::DeserializeOwned>(response: Response, what: &'static str) -> Result<T> {
    let url = response.url.to_string();
    let bytes = response.bytes(SMALL).map_err(|source| Error::Io {
        what: format!("GET {url}"),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Document {
        what,
        why: format!("{url}: {e}"),
    })
}
