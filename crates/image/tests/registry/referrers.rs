//! The API of registries that keep lists of referrers themselves (Debian's does not).

use image::document::{Descriptor, media_type};
use image::transport::{PutAs, RawManifest, TransportRef};

use crate::server::{Answer, Request, Server};
use crate::support::*;

/// An artifact that speaks about `subject`.
fn artifact(subject: &Descriptor, kind: &str) -> RawManifest {
    let empty = Descriptor::of(b"{}", media_type::OCI_EMPTY);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": kind,
        "config": empty, "layers": [empty], "subject": subject,
    });
    RawManifest::new(manifest.to_string().into_bytes(), media_type::OCI_MANIFEST)
}

/// A page of the list.
fn page(artifacts: &[&RawManifest]) -> String {
    let entries = artifacts.iter().map(|raw| {
        let mut entry = Descriptor::of(&raw.bytes, media_type::OCI_MANIFEST);
        entry.artifact_type = Some("application/x-note".to_owned());
        entry
    });
    serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": entries.collect::<Vec<_>>(),
    })
    .to_string()
}

fn place(server: &Server) -> TransportRef {
    TransportRef::parse(&format!("docker://{}/app:1", server.address)).unwrap()
}

#[test]
fn a_list_over_two_pages() {
    let image = make_image("amd64", &[noise(1, 10)]);
    let subject = Descriptor::of(&image.manifest.bytes, media_type::OCI_MANIFEST);
    let (first, second) = (artifact(&subject, "x/1"), artifact(&subject, "x/2"));
    let pages = [page(&[&first]), page(&[&second])];
    let at = format!("/v2/app/referrers/{}", subject.digest);
    let path = at.clone();
    let server = Server::new(move |request: &Request| {
        let answer = Answer::new(200).with("Content-Type", media_type::OCI_INDEX);
        match request.path.as_str() {
            p if p == path => answer
                .with("Link", format!("<{path}?page=2>; rel=\"next\""))
                .body(pages[0].clone()),
            p if p.starts_with(&path) => answer.body(pages[1].clone()),
            _ => Answer::new(404),
        }
    });
    let source = place(&server).source(&insecure()).unwrap();
    let found = source.referrers(&subject.digest).unwrap();
    let digests: Vec<_> = found.iter().map(|d| d.digest.clone()).collect();
    assert_eq!(digests, [first.digest, second.digest]);
    assert_eq!(server.count(&at), 2);
    assert_eq!(server.count("/manifests/"), 0, "the tag was looked at, too");
}

#[test]
fn a_registry_that_lists_needs_no_tag() {
    for knows in [true, false] {
        let server = Server::new(move |request: &Request| {
            match (request.method.as_str(), request.path.as_str()) {
                ("PUT", path) if path.contains("/manifests/") => {
                    let answer = Answer::new(201);
                    let subject = serde_json::from_slice::<serde_json::Value>(&request.body);
                    let subject = subject.unwrap()["subject"]["digest"].clone();
                    match subject.as_str() {
                        Some(digest) if knows => answer.with("OCI-Subject", digest),
                        _ => answer,
                    }
                }
                ("GET", "/v2/") => Answer::new(200),
                _ => Answer::new(404),
            }
        });
        let image = make_image("amd64", &[noise(2, 10)]);
        let subject = Descriptor::of(&image.manifest.bytes, media_type::OCI_MANIFEST);
        let raw = artifact(&subject, "x/1");
        let to = place(&server).destination(&insecure()).unwrap();
        to.put_manifest(&raw, PutAs::Digest).unwrap();
        let tag = format!("sha256-{}", subject.digest.hex());
        let puts = server.asked();
        let puts = puts.iter().filter(|r| r.method == "PUT");
        let tagged = puts.filter(|r| r.path.ends_with(&tag)).count();
        assert_eq!(tagged, usize::from(!knows), "knows: {knows}");
    }
}
