//! Signatures that cosign attached: a manifest under the tag `sha256-….sig`, whose layers are
//! signed documents and whose annotations are the signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use super::payload::Payload;
use crate::config::Requirement;
use crate::document::{Document, MAX_MANIFEST};
use crate::transport::{RawManifest, Source, files, small_blob};

const KIND: &str = "cosign container image signature";
const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// A SubjectPublicKeyInfo of a P-256 key up to the point itself (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Most signatures that are looked at.
const SIGNATURES: usize = 128;

/// Checks that one of the attached signatures is by one of the keys.
pub fn check(
    requirement: &Requirement,
    source: &dyn Source,
    document: &RawManifest,
) -> Result<(), String> {
    let Requirement::SigstoreSigned {
        key_path,
        key_paths,
        key_data,
        key_datas,
        fulcio,
        rekor_public_key_path,
        rekor_public_key_data,
        signed_identity,
    } = requirement
    else {
        return Err("not sigstoreSigned".to_owned());
    };
    if fulcio.is_some() || rekor_public_key_path.is_some() || rekor_public_key_data.is_some() {
        return Err("fulcio and rekor cannot be checked by hull: use a public key".to_owned());
    }
    let mut keys = Vec::new();
    for path in key_path.iter().chain(key_paths.iter().flatten()) {
        let pem = files::read_limited(path, 64 << 10).map_err(|e| e.to_string())?;
        keys.push(public_key(&pem)?);
    }
    for data in key_data.iter().chain(key_datas.iter().flatten()) {
        let pem = STANDARD
            .decode(data.trim())
            .map_err(|_| "keyData is not base64".to_owned())?;
        keys.push(public_key(&pem)?);
    }
    if keys.is_empty() {
        return Err("sigstoreSigned names no key".to_owned());
    }
    let signed = attached(source, document)?;
    let mut why = "no signature is attached".to_owned();
    for (payload, signature) in &signed {
        let good = |key: &Vec<u8>| {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
            key.verify(payload, signature).is_ok()
        };
        if !keys.iter().any(good) {
            "a signature is not by the policy's key".clone_into(&mut why);
            continue;
        }
        let identity = signed_identity.as_ref();
        match Payload::check(
            payload,
            KIND,
            &document.digest,
            source.repository(),
            identity,
        ) {
            Ok(()) => return Ok(()),
            Err(e) => why = e,
        }
    }
    Err(why)
}

type Signed = (Vec<u8>, Vec<u8>);

fn attached(source: &dyn Source, document: &RawManifest) -> Result<Vec<Signed>, String> {
    let digest = &document.digest;
    let tag = format!("{}-{}.sig", digest.algorithm().name(), digest.hex());
    let Some(raw) = source.sibling(&tag).map_err(|e| e.to_string())? else {
        return Ok(Vec::new());
    };
    let Document::Manifest(manifest) = raw.parse().map_err(|e| e.to_string())? else {
        return Err(format!("{tag} is an index"));
    };
    let mut found = Vec::new();
    for layer in manifest.layers.iter().take(SIGNATURES) {
        let signature = layer.annotations.get(ANNOTATION);
        let Some(signature) = signature.filter(|_| layer.media_type == MEDIA_TYPE) else {
            continue;
        };
        let Ok(signature) = STANDARD.decode(signature) else {
            continue;
        };
        let payload = small_blob(source, layer, MAX_MANIFEST).map_err(|e| e.to_string())?;
        found.push((payload, signature));
    }
    Ok(found)
}

/// The point of a P-256 key in PEM.
fn public_key(pem: &[u8]) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(pem);
    let body: String = text
        .lines()
        .skip_while(|l| l.trim() != "-----BEGIN PUBLIC KEY-----")
        .skip(1)
        .take_while(|l| l.trim() != "-----END PUBLIC KEY-----")
        .map(str::trim)
        .collect();
    let der = STANDARD
        .decode(body)
        .map_err(|_| "the key is not PEM".to_owned())?;
    match der.strip_prefix(&P256) {
        Some(point) if point.len() == 65 => Ok(point.to_vec()),
        _ => Err("the key is not an ECDSA key on P-256, the kind that cosign makes".to_owned()),
    }
}
