use std::collections::BTreeMap;
use std::io::Read;

use super::*;
use crate::config::Scope;
use crate::document::{Descriptor, media_type};
use crate::transport::TransportRef;
use crate::{Digest, Reference};

/// An image with what is attached to it.
struct Signed {
    reference: Reference,
    blobs: BTreeMap<Digest, Vec<u8>>,
    siblings: BTreeMap<String, RawManifest>,
    signatures: Vec<Vec<u8>>,
}

impl Source for Signed {
    fn place(&self) -> String {
        format!("docker://{}", self.reference)
    }
    fn manifest(&self, _by: Option<&Digest>) -> Result<RawManifest> {
        Ok(image())
    }
    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(std::io::Cursor::new(
            self.blobs[&blob.digest].clone(),
        )))
    }
    fn sibling(&self, tag: &str) -> Result<Option<RawManifest>> {
        Ok(self.siblings.get(tag).cloned())
    }
    fn signatures(&self, _of: &Digest) -> Result<Vec<Vec<u8>>> {
        Ok(self.signatures.clone())
    }
    fn repository(&self) -> Option<&Reference> {
        Some(&self.reference)
    }
}

fn image() -> RawManifest {
    RawManifest::new(b"an image".to_vec(), media_type::OCI_MANIFEST)
}

fn unsigned() -> Signed {
    Signed {
        reference: Reference::parse("r.io/a:1").unwrap(),
        blobs: BTreeMap::new(),
        siblings: BTreeMap::new(),
        signatures: Vec::new(),
    }
}

fn judge(requirement: &str, source: &Signed) -> Result<()> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(r#"{{"default":[{requirement}]}}"#);
    std::fs::write(file.path(), text).unwrap();
    let policy = Policy::load(file.path()).unwrap();
    let scope = Scope::of(&TransportRef::parse(&source.place()).unwrap());
    check(&policy, &scope, source, &[&image()])
}

#[test]
fn the_simple_ones() {
    judge(r#"{"type":"insecureAcceptAnything"}"#, &unsigned()).unwrap();
    let both = r#"{"type":"insecureAcceptAnything"},{"type":"reject"}"#;
    let error = judge(both, &unsigned()).unwrap_err().to_string();
    assert!(
        error.contains("docker://r.io/a:1: refused: policy.json"),
        "{error}"
    );
    let scope = Scope::of(&TransportRef::parse("docker://r.io/a").unwrap());
    check(&Policy::accept_anything(), &scope, &unsigned(), &[&image()]).unwrap();
}

#[cfg(feature = "signatures")]
mod signatures {
    use std::path::Path;
    use std::process::Command;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn run(dir: &Path, program: &str, args: &[&str]) {
        let output = Command::new(program)
            .current_dir(dir)
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn payload(kind: &str, name: &str) -> String {
        format!(
            r#"{{"critical":{{"type":"{kind}","identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{}"}}}},"optional":null}}"#,
            image().digest
        )
    }

    /// Signs as cosign does.
    fn cosigned(dir: &Path, name: &str) -> Signed {
        let payload = payload("cosign container image signature", name);
        std::fs::write(dir.join("payload"), &payload).unwrap();
        run(
            dir,
            "openssl",
            &[
                "dgst", "-sha256", "-sign", "key.pem", "-out", "sig", "payload",
            ],
        );
        let signature = STANDARD.encode(std::fs::read(dir.join("sig")).unwrap());
        let mut layer = Descriptor::of(
            payload.as_bytes(),
            "application/vnd.dev.cosign.simplesigning.v1+json",
        );
        let mut source = unsigned();
        source
            .blobs
            .insert(layer.digest.clone(), payload.into_bytes());
        layer
            .annotations
            .insert("dev.cosignproject.cosign/signature".to_owned(), signature);
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::of(b"{}", media_type::OCI_CONFIG), "layers": [layer],
        });
        let raw = RawManifest::new(manifest.to_string().into_bytes(), media_type::OCI_MANIFEST);
        let tag = format!("sha256-{}.sig", image().digest.hex());
        source.siblings.insert(tag, raw);
        source
    }

    #[test]
    fn cosign_keys() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for (key, public) in [("key.pem", "pub.pem"), ("other.pem", "otherpub.pem")] {
            run(
                dir,
                "openssl",
                &[
                    "ecparam",
                    "-name",
                    "prime256v1",
                    "-genkey",
                    "-noout",
                    "-out",
                    key,
                ],
            );
            run(
                dir,
                "openssl",
                &["ec", "-in", key, "-pubout", "-out", public],
            );
        }
        let by = |key: &str, identity: &str| {
            let path = dir.join(key);
            format!(
                r#"{{"type":"sigstoreSigned","keyPath":"{}"{identity}}}"#,
                path.display()
            )
        };
        let repository = r#","signedIdentity":{"type":"matchRepository"}"#;
        let good = cosigned(dir, "r.io/a");
        judge(&by("pub.pem", repository), &good).unwrap();
        judge(&by("pub.pem", ""), &cosigned(dir, "r.io/a:1")).unwrap();
        let inline = STANDARD.encode(std::fs::read(dir.join("pub.pem")).unwrap());
        let inline = format!(r#"{{"type":"sigstoreSigned","keyData":"{inline}"{repository}}}"#);
        judge(&inline, &good).unwrap();
        for (requirement, source, why) in [
            (by("pub.pem", ""), &good, "for the name"),
            (
                by("otherpub.pem", repository),
                &good,
                "not by the policy's key",
            ),
            (by("pub.pem", repository), &unsigned(), "no signature"),
            (by("key.pem", repository), &good, "not an ECDSA key"),
            (by("pub.pem", r#","fulcio":{}"#), &good, "fulcio"),
        ] {
            let error = judge(&requirement, source).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let mut changed = cosigned(dir, "r.io/a");
        for blob in changed.blobs.values_mut() {
            blob.push(b' ');
        }
        assert!(judge(&by("pub.pem", repository), &changed).is_err());
    }

    /// Makes two keys and a text that the first has signed.
    fn gpg(dir: &Path) -> Vec<u8> {
        let home = dir.join("home");
        std::fs::create_dir(&home).unwrap();
        let home = ["--homedir", home.to_str().unwrap(), "--batch"];
        let gpg = |args: &[&str]| run(dir, "gpg", &[&home[..], args].concat());
        for user in ["one@example.org", "two@example.org"] {
            gpg(&[
                "--passphrase",
                "",
                "--quick-gen-key",
                user,
                "ed25519",
                "sign",
                "never",
            ]);
        }
        gpg(&["--armor", "-o", "one.asc", "--export", "one@example.org"]);
        gpg(&["-o", "two.gpg", "--export", "two@example.org"]);
        let text = payload("atomic container signature", "r.io/a:1");
        std::fs::write(dir.join("text"), text).unwrap();
        gpg(&["-u", "one@example.org", "-o", "signed", "--sign", "text"]);
        run(dir, "gpgconf", &["--homedir", home[1], "--kill", "all"]);
        std::fs::read(dir.join("signed")).unwrap()
    }

    #[test]
    fn gpg_keys() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let signed = gpg(dir);
        let mut source = unsigned();
        source.signatures.push(signed.clone());
        let by = |key: &str| {
            let path = dir.join(key);
            let path = path.display();
            format!(r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{path}"}}"#)
        };
        judge(&by("one.asc"), &source).unwrap();
        let error = judge(&by("two.gpg"), &source).unwrap_err().to_string();
        assert!(error.contains("not by the policy's key"), "{error}");
        assert!(judge(&by("one.asc"), &unsigned()).is_err());
        source.signatures = vec![b"garbage".to_vec()];
        assert!(judge(&by("one.asc"), &source).is_err());
        source.reference = Reference::parse("r.io/b:1").unwrap();
        source.signatures = vec![signed];
        let error = judge(&by("one.asc"), &source).unwrap_err().to_string();
        assert!(error.contains("for the name"), "{error}");
    }
}
