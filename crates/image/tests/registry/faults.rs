//! A registry that dies, lies, stutters and sends people elsewhere.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use image::config::Credentials;
use image::copy::Layers;
use image::document::{Descriptor, media_type};
use image::transport::{
    LayoutDestination, Name, RawManifest, Source, TransportRef, Verified, fetch,
};
use image::{Digest, Reference};

use crate::server::{Answer, Request, Server};
use crate::support::*;

/// What a registry that works would answer for one image.
#[derive(Clone)]
struct Content {
    manifest: RawManifest,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Content {
    fn of(made: &Made) -> Self {
        let blobs = made.blobs.iter();
        Self {
            manifest: made.manifest.clone(),
            blobs: blobs
                .map(|(d, b)| (d.digest.to_string(), b.clone()))
                .collect(),
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let (_, last) = request.path.rsplit_once('/').unwrap();
        if request.path == "/v2/" {
            return Answer::new(200);
        }
        if request.path.contains("/manifests/") {
            let named = last == "1" || last == self.manifest.digest.to_string();
            return if named {
                Answer::new(200)
                    .with("content-type", self.manifest.media_type.clone())
                    .body(self.manifest.bytes.clone())
            } else {
                Answer::new(404)
            };
        }
        match self.blobs.get(last) {
            None => Answer::new(404),
            Some(blob) => match request.range() {
                None => Answer::new(200).body(blob.clone()),
                Some(from) => Answer::new(206)
                    .with(
                        "content-range",
                        format!("bytes {from}-{}/{}", blob.len() - 1, blob.len()),
                    )
                    .body(&blob[from..]),
            },
        }
    }
}

fn place(server: &Server) -> TransportRef {
    TransportRef::parse(&format!("docker://{}/a/b:1", server.address)).unwrap()
}

/// Copies from `server` into a layout.
fn copy_from(server: &Server, made: &Made) -> image::Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let source = place(server).source(&insecure())?;
    let to = LayoutDestination::open(dir.path(), &Name::Only)?;
    let copied = transfer(source.as_ref(), &to);
    match copied {
        Ok(_) => assert!(has_all(dir.path(), made)),
        // Nothing has the name, and nothing half-written is there.
        Err(_) => {
            assert!(!dir.path().join("index.json").exists());
            let blobs = std::fs::read_dir(dir.path().join("blobs"))
                .unwrap()
                .flatten();
            assert_eq!(blobs.filter(|e| e.path().is_file()).count(), 0);
        }
    }
    copied.map(drop)
}

fn one_layer() -> (Made, Content, String) {
    let made = make_image("amd64", &[noise(7, 3_000_000)]);
    let layer = made.blobs[1].0.digest.to_string();
    (made.clone(), Content::of(&made), layer)
}

/// Answers rightly except that `spoil` may change what is said about the layer, knowing how often
/// it was asked for before.
fn spoiled(
    spoil: impl Fn(usize, &Request, Answer) -> Answer + Send + Sync + 'static,
) -> (Server, Made, String) {
    let (made, content, layer) = one_layer();
    let wanted = layer.clone();
    let times = AtomicUsize::new(0);
    let server = Server::new(move |request| {
        let answer = content.answer(request);
        if request.path.ends_with(&wanted) {
            spoil(times.fetch_add(1, Ordering::SeqCst), request, answer)
        } else {
            answer
        }
    });
    (server, made, layer)
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let (server, made, layer) = spoiled(|n, _, mut answer| {
        // Progress of more than a megabyte earns new attempts: five breaks, three repetitions.
        answer.die_after = (n < 2).then_some(1_200_000);
        answer
    });
    copy_from(&server, &made).unwrap();
    let ranges: Vec<usize> = server
        .asked()
        .iter()
        .filter(|r| r.path.ends_with(&layer))
        .map(|r| r.range().unwrap_or(0))
        .collect();
    assert_eq!(ranges, [0, 1_200_000, 2_400_000]);

    // Without progress it ends, and says how far it came.
    let (server, made, layer) = spoiled(|_, _, mut answer| {
        answer.die_after = Some(100);
        answer
    });
    let error = copy_from(&server, &made).unwrap_err().to_string();
    assert!(error.contains("gave up at byte 400"), "{error}");
    assert_eq!(server.count(&layer), 4);
}

#[test]
fn a_registry_without_ranges_is_read_from_the_start_again() {
    let (made, content, layer) = one_layer();
    let times = AtomicUsize::new(0);
    let wanted = layer.clone();
    let server = Server::new(move |request| {
        let mut plain = request.clone();
        plain.headers.remove("range");
        let mut answer = content.answer(&plain);
        if request.path.ends_with(&wanted) && times.fetch_add(1, Ordering::SeqCst) == 0 {
            answer.die_after = Some(500_000);
        }
        answer
    });
    copy_from(&server, &made).unwrap();
    assert_eq!(server.count(&layer), 2);

    // Another part than the one asked for.
    let (server, made, _) = spoiled(|n, request, mut answer| {
        if n == 0 {
            answer.die_after = Some(1000);
        } else {
            let from = request.range().unwrap();
            answer.headers.clear();
            answer = answer.with("content-range", format!("bytes {}-2/3", from + 5));
        }
        answer
    });
    let error = copy_from(&server, &made).unwrap_err().to_string();
    assert!(error.contains("another part came"), "{error}");
}

#[test]
fn passing_errors_pass() {
    for status in [408, 429, 500, 502, 503] {
        let (server, made, layer) = spoiled(move |n, _, answer| {
            if n < 2 {
                Answer::new(status).with("retry-after", "0")
            } else {
                answer
            }
        });
        copy_from(&server, &made).unwrap();
        assert_eq!(server.count(&layer), 3, "{status}");
    }
    for status in [403, 404, 418] {
        let (server, made, layer) = spoiled(move |_, _, _| {
            let text = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\\u001b[2Jway\"}]}";
            Answer::new(status).body(text)
        });
        let error = copy_from(&server, &made).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{status} DENIED no [2Jway")),
            "{error:?}"
        );
        assert_eq!(server.count(&layer), 1, "{status}");
    }
    // A registry that asks for an hour is not waited for.
    let (server, made, layer) = spoiled(|_, _, _| Answer::new(429).with("retry-after", "3600"));
    assert!(
        copy_from(&server, &made)
            .unwrap_err()
            .to_string()
            .contains("429")
    );
    assert_eq!(server.count(&layer), 1);
}

#[test]
fn wrong_bytes_are_found_out() {
    for (spoil, why) in [(0, "have the digest"), (1, "more than"), (2, "gave up")] {
        let (server, made, _) = spoiled(move |_, request, mut answer| {
            match spoil {
                0 => answer.body[10] ^= 1,
                1 => answer.body.push(0),
                _ if request.range().is_none() => answer.body.truncate(1000),
                _ => answer.body.clear(),
            }
            answer
        });
        let error = copy_from(&server, &made).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_truncated_gzip_stream_is_found_out() {
    let mut made = make_image("amd64", &[noise(7, 100_000)]);
    let cut = made.blobs[1].1[..50_000].to_vec();
    let mut blob = Descriptor::of(&cut, made.blobs[1].0.media_type.clone());
    blob.annotations.clear();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": made.blobs[0].0, "layers": [blob],
    });
    made.manifest = RawManifest::new(manifest.to_string().into_bytes(), media_type::OCI_MANIFEST);
    made.blobs[1] = (blob, cut);
    let content = Content::of(&made);
    let server = Server::new(move |request| content.answer(request));
    let dir = tempfile::tempdir().unwrap();
    let source = place(&server).source(&insecure()).unwrap();
    let to = LayoutDestination::open(dir.path(), &Name::Only).unwrap();
    let inflate = transfer_with(source.as_ref(), &to, |o| o.layers = Layers::Uncompressed);
    assert!(inflate.is_err());
    assert!(!dir.path().join("index.json").exists());
    let store = image::store::Store::open(&dir.path().join("store")).unwrap();
    let name = Reference::parse("x").unwrap();
    assert!(
        store
            .pull(source.as_ref(), &name, &Default::default())
            .is_err()
    );
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn manifests_that_lie() {
    let (made, content, _) = one_layer();
    let other = make_image("amd64", &[noise(8, 10)]);
    let huge = format!("{{\"schemaVersion\":2,\"x\":\"{}\"}}", "y".repeat(5 << 20));
    let both = r#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#;
    let lies: Vec<(Answer, &str)> = vec![
        (
            Answer::new(200)
                .with("docker-content-digest", Digest::of(b"x").to_string())
                .body(made.manifest.bytes.clone()),
            "its digest is",
        ),
        (
            Answer::new(200)
                .with("docker-content-digest", "sha256:../../x")
                .body("{}"),
            "digest",
        ),
        (
            Answer::new(200)
                .with("content-type", media_type::OCI_INDEX)
                .body(made.manifest.bytes.clone()),
            "does not fit",
        ),
        (Answer::new(200).body(huge), "more than"),
        (Answer::new(200).body(both), "both"),
        (Answer::new(200).body("not json"), "manifest"),
        (
            Answer::new(302).with("location", "http://user@evil/"),
            "no URL",
        ),
        (
            Answer::new(302).with("location", "/v2/a/b/manifests/1"),
            "more than 10 times",
        ),
    ];
    for (lie, why) in lies {
        let answer = content.clone();
        let server = Server::new(move |request| match request.path.contains("/manifests/") {
            true => lie.clone(),
            false => answer.answer(request),
        });
        let error = copy_from(&server, &made).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    // By digest, another document does not do.
    let wrong = Content::of(&other);
    let server = Server::new(move |request| match request.path.contains("/manifests/") {
        true => Answer::new(200).body(wrong.manifest.bytes.clone()),
        false => Answer::new(200),
    });
    let text = format!("docker://{}/a/b@{}", server.address, made.manifest.digest);
    let source = TransportRef::parse(&text)
        .unwrap()
        .source(&insecure())
        .unwrap();
    assert!(
        source
            .manifest(None)
            .unwrap_err()
            .to_string()
            .contains("its digest is")
    );
    let entry = Descriptor::of(&made.manifest.bytes, media_type::OCI_MANIFEST);
    assert!(fetch(source.as_ref(), &entry).is_err());
}

/// Reads the layer of `made` as far as its bytes are right.
fn read_layer(source: &dyn Source, blob: &Descriptor) -> image::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = Verified::new(source.blob(blob)?, blob);
    reader
        .read_to_end(&mut bytes)
        .map_err(|source| image::Error::Io {
            what: "read".to_owned(),
            source,
        })?;
    Ok(bytes)
}

#[test]
fn credentials_stay_at_home() {
    let (made, content, layer) = one_layer();
    let blob = made.blobs[1].0.clone();
    let elsewhere = content.clone();
    let cdn = Server::new(move |request| elsewhere.answer(request));
    let away = format!("http://{}/v2/x/blobs/{layer}", cdn.address);
    let to = away.clone();
    let server = Server::new(move |request| {
        if request.header("authorization").is_empty() {
            return Answer::new(401).with("www-authenticate", "Basic realm=\"x\"");
        }
        if request.path.contains("/blobs/") {
            return Answer::new(307).with("location", to.clone());
        }
        content.answer(request)
    });
    let secret = Credentials::parse("person:secret");
    let access = insecure().with_credentials(Some(secret));
    let source = place(&server).source(&access).unwrap();
    source.manifest(None).unwrap();
    assert_eq!(
        read_layer(source.as_ref(), &blob).unwrap().len() as u64,
        blob.size
    );
    assert!(
        server
            .asked()
            .iter()
            .any(|r| r.header("authorization").starts_with("Basic "))
    );
    assert_eq!(cdn.count("/blobs/"), 1);
    assert!(
        cdn.asked()
            .iter()
            .all(|r| r.header("authorization").is_empty())
    );

    // A foreign layer that the registry lacks: its URL gets no credentials either, and without
    // TLS it is not asked at all unless the registry is insecure by configuration.
    let strange = Server::new(|request| match request.header("authorization") {
        "" => Answer::new(401).with("www-authenticate", "Basic realm=\"x\""),
        _ if request.path == "/v2/" => Answer::new(200),
        _ => Answer::new(404),
    });
    let foreign = Descriptor {
        media_type: format!("{}+gzip", media_type::OCI_LAYER_FOREIGN),
        urls: vec!["file:///etc/passwd".to_owned(), away],
        ..blob
    };
    let config = format!(
        "[[registry]]\nlocation = '{}'\ninsecure = true",
        strange.address
    );
    let allowed = with_config(&config).with_credentials(Some(Credentials::parse("a:b")));
    let before = cdn.asked().len();
    let source = place(&strange).source(&allowed).unwrap();
    read_layer(source.as_ref(), &foreign).unwrap();
    assert!(
        cdn.asked()[before..]
            .iter()
            .all(|r| r.header("authorization").is_empty())
    );
    let strict = place(&strange)
        .source(&insecure().with_credentials(None))
        .unwrap();
    assert!(read_layer(strict.as_ref(), &foreign).is_err());
}

#[test]
fn a_token_that_ends_is_made_anew() {
    let (made, content, _) = one_layer();
    let issued = Arc::new(AtomicUsize::new(0));
    let made_tokens = Arc::clone(&issued);
    let tokens = Server::new(move |_| {
        let n = made_tokens.fetch_add(1, Ordering::SeqCst);
        Answer::new(200).body(format!("{{\"token\":\"t{n}\"}}"))
    });
    let realm = format!("Bearer realm=\"http://{}/\",service=\"s\"", tokens.address);
    let left: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let server = Server::new(move |request| {
        let token = request.header("authorization").to_owned();
        // Each token is good for one request.
        let mut left = left.lock().unwrap();
        let used = left.entry(token.clone()).or_default();
        *used += 1;
        if token.is_empty() || *used > 1 {
            return Answer::new(401).with("www-authenticate", realm.clone());
        }
        content.answer(request)
    });
    copy_from(&server, &made).unwrap();
    assert!(issued.load(Ordering::SeqCst) >= 3);

    // A realm that is no URL, and an answer without a token.
    for (realm, body, why) in [
        ("Bearer realm=\"javascript:x\"", "", "names no URL"),
        ("Bearer realm=\"REALM\"", "{}", "no token in the answer"),
        (
            "Bearer realm=\"REALM\"",
            "{\"token\":\"a b\"}",
            "no token in the answer",
        ),
    ] {
        let tokens = Server::new(move |_| Answer::new(200).body(body));
        let realm = realm.replace("REALM", &format!("http://{}/", tokens.address));
        let server = Server::new(move |_| Answer::new(401).with("www-authenticate", realm.clone()));
        let error = copy_from(&server, &made).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn lists_go_over_pages_and_stay_on_their_host() {
    let server = Server::new(|request| match request.path.as_str() {
        "/v2/" => Answer::new(200),
        "/v2/a/b/tags/list?n=1000" => Answer::new(200)
            .with("link", "</v2/a/b/tags/list?n=1000&last=x>; rel=\"next\"")
            .body(r#"{"tags":["v","x"]}"#),
        "/v2/a/b/tags/list?n=1000&last=x" => Answer::new(200).body(r#"{"tags":["y"]}"#),
        _ => Answer::new(404).body("<html>"),
    });
    let reference = Reference::parse(&format!("{}/a/b", server.address)).unwrap();
    assert_eq!(insecure().tags(&reference).unwrap(), ["v", "x", "y"]);
    let none = Server::new(|request| match request.path.as_str() {
        "/v2/" => Answer::new(200),
        _ => Answer::new(200).body(r#"{"name":"a/b","tags":null}"#),
    });
    let reference = Reference::parse(&format!("{}/a/b", none.address)).unwrap();
    assert!(insecure().tags(&reference).unwrap().is_empty());
}

#[test]
fn a_lost_part_of_an_upload_is_sent_again() {
    // The upload as the registry has it, and how often a part was refused.
    let state: Arc<Mutex<(Vec<u8>, usize)>> = Arc::default();
    let shared = Arc::clone(&state);
    let server = Server::new(move |request| {
        let mut state = shared.lock().unwrap();
        let at = |status: u16, len: usize| {
            let answer = Answer::new(status).with("location", "/v2/a/b/blobs/uploads/u?s=1");
            answer.with("range", format!("0-{}", len.saturating_sub(1)))
        };
        match (request.method.as_str(), request.path.as_str()) {
            (_, "/v2/") => Answer::new(200),
            ("POST", _) => at(202, 0),
            ("PATCH", _) if state.1 == 0 => {
                // Half of the part arrives, then the registry is overloaded.
                state.1 = 1;
                let half = request.body.len() / 2;
                state.0.extend_from_slice(&request.body[..half]);
                Answer::new(503)
            }
            ("PATCH", _) => {
                let from: usize = request
                    .header("content-range")
                    .split('-')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                assert_eq!(from, state.0.len());
                state.0.extend_from_slice(&request.body);
                at(202, state.0.len())
            }
            ("GET", _) => at(204, state.0.len()),
            ("PUT", _) => Answer::new(201),
            _ => Answer::new(500),
        }
    });
    let to = place(&server).destination(&insecure()).unwrap();
    let bytes = noise(4, 9 << 20);
    let (digest, size) = to.put_blob(None, &mut &bytes[..]).unwrap();
    assert_eq!((digest, size), (Digest::of(&bytes), bytes.len() as u64));
    assert!(state.lock().unwrap().0 == bytes);
    assert!(
        server
            .asked()
            .iter()
            .any(|r| r.method == "PUT" && r.path.contains("digest=sha256%3A"))
    );
}
