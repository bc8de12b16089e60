//! `policy.json` (containers-policy.json(5)): which images are accepted from where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::transport::files;
use crate::transport::{Name, TransportRef};
use crate::{Error, Reference, Result};

const LIMIT: u64 = 1 << 20;

/// The policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// One thing that must hold; all of a list must.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub enum Requirement {
    /// Nothing is asked.
    InsecureAcceptAnything,
    /// Nothing is accepted.
    Reject,
    /// A simple-signing signature by a GPG key.
    #[serde(rename_all = "camelCase")]
    SignedBy {
        /// `GPGKeys`.
        key_type: String,
        /// Keyring file.
        key_path: Option<PathBuf>,
        /// Keyring files.
        key_paths: Option<Vec<PathBuf>>,
        /// Keyring, base64.
        key_data: Option<String>,
        /// Which name the signature must be for.
        signed_identity: Option<Identity>,
    },
    /// A signature that cosign attached.
    #[serde(rename_all = "camelCase")]
    SigstoreSigned {
        /// Public key file, PEM.
        key_path: Option<PathBuf>,
        /// Public key files, PEM; one must fit.
        key_paths: Option<Vec<PathBuf>>,
        /// Public key, PEM in base64.
        key_data: Option<String>,
        /// Public keys, PEM in base64; one must fit.
        key_datas: Option<Vec<String>>,
        /// A certificate authority instead of a key: hull refuses, it cannot check this.
        fulcio: Option<serde_json::Value>,
        /// A transparency log's key: hull refuses, it cannot check this.
        rekor_public_key_path: Option<PathBuf>,
        /// A transparency log's key: hull refuses, it cannot check this.
        rekor_public_key_data: Option<String>,
        /// Which name the signature must be for.
        signed_identity: Option<Identity>,
    },
}

/// Which name a signature must be for.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub enum Identity {
    /// The same tag or digest.
    MatchExact,
    /// The same tag; with a digest, the same repository.
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// This reference.
    #[serde(rename_all = "camelCase")]
    ExactReference {
        /// The reference.
        docker_reference: String,
    },
    /// This repository.
    #[serde(rename_all = "camelCase")]
    ExactRepository {
        /// The repository.
        docker_repository: String,
    },
    /// The same under another prefix.
    #[serde(rename_all = "camelCase")]
    RemapIdentity {
        /// Prefix of what is pulled.
        prefix: String,
        /// Prefix of what is signed.
        signed_prefix: String,
    },
}

/// Which part of the policy an image falls under.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scope {
    /// Name of the transport: `docker`, `oci`, …
    pub transport: &'static str,
    /// Keys to look for, the most specific first.
    pub keys: Vec<String>,
}

impl Policy {
    /// What holds where no policy is configured: everything is accepted.
    #[must_use]
    pub const fn accept_anything() -> Self {
        Self {
            default: Vec::new(),
            transports: BTreeMap::new(),
        }
    }

    /// Reads the user's or the machine's policy; without one, everything is accepted.
    ///
    /// # Errors
    /// A file that is not a policy: nothing is accepted by accident.
    pub fn system() -> Result<Self> {
        let own = super::user_config("containers/policy.json");
        let paths = own
            .into_iter()
            .chain(["/etc/containers/policy.json".into()]);
        match paths.into_iter().find(|p| p.exists()) {
            Some(path) => Self::load(&path),
            None => Ok(Self::accept_anything()),
        }
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// Not readable or not a policy.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = files::read_limited(path, LIMIT)?;
        let refuse = |why: String| Error::Document {
            what: "policy",
            why: format!("{}: {why}", path.display()),
        };
        let policy: Self = serde_json::from_slice(&bytes).map_err(|e| refuse(e.to_string()))?;
        let lists = policy.transports.values().flat_map(BTreeMap::values);
        if lists.chain([&policy.default]).any(Vec::is_empty) {
            return Err(refuse("an empty list of requirements".to_owned()));
        }
        Ok(policy)
    }

    /// What an image must fulfil.
    #[must_use]
    pub fn requirements(&self, scope: &Scope) -> &[Requirement] {
        let transport = self.transports.get(scope.transport);
        let found = transport.and_then(|t| scope.keys.iter().find_map(|key| t.get(key)));
        found.unwrap_or(&self.default)
    }
}

impl Scope {
    /// The scope of an image at `place`.
    #[must_use]
    pub fn of(place: &TransportRef) -> Self {
        let (transport, keys) = match place {
            TransportRef::Registry(r) => ("docker", registry_keys(r)),
            TransportRef::Layout(p, name) => ("oci", path_keys(p, Some(name))),
            TransportRef::LayoutArchive(p, name) => ("oci-archive", path_keys(p, Some(name))),
            TransportRef::DockerArchive(p, _) => ("docker-archive", path_keys(p, None)),
            TransportRef::Dir(p) => ("dir", path_keys(p, None)),
            TransportRef::Store(_) => ("containers-storage", vec![String::new()]),
        };
        Self { transport, keys }
    }
}

pub(super) fn registry_keys(reference: &Reference) -> Vec<String> {
    let mut key = reference.name();
    let mut keys = vec![reference.to_string()];
    loop {
        keys.push(key.clone());
        match key.rfind('/') {
            Some(at) => key.truncate(at),
            None => break,
        }
    }
    let mut domain = reference.host();
    while let Some((_, parent)) = domain.split_once('.') {
        keys.push(format!("*.{parent}"));
        domain = parent;
    }
    keys.push(String::new());
    keys
}

fn path_keys(path: &Path, name: Option<&Name>) -> Vec<String> {
    // Keys are absolute and without symbolic links; what does not exist yet has no parents.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut keys = Vec::new();
    if let Some(Name::Tag(tag)) = name {
        keys.push(format!("{}:{tag}", path.display()));
    }
    keys.extend(path.ancestors().map(|p| p.display().to_string()));
    keys.push(String::new());
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<Policy> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Policy::load(file.path())
    }

    fn kind(policy: &Policy, place: &str) -> String {
        let scope = Scope::of(&TransportRef::parse(place).unwrap());
        let first = format!("{:?}", policy.requirements(&scope)[0]);
        first.split([' ', '{']).next().unwrap_or("").to_owned()
    }

    #[test]
    fn the_most_specific_scope_counts() {
        let text = r#"{"default":[{"type":"reject"}],"transports":{
            "docker":{
              "r.io":[{"type":"insecureAcceptAnything"}],
              "r.io/a":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}],
              "r.io/a/b:t":[{"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"matchRepository"}}],
              "*.corp.io":[{"type":"insecureAcceptAnything"}]},
            "dir":{"/tmp":[{"type":"insecureAcceptAnything"}]}}}"#;
        let policy = policy(text).unwrap();
        for (place, expected) in [
            ("docker://r.io/x", "InsecureAcceptAnything"),
            ("docker://r.io/a/x", "SignedBy"),
            ("docker://r.io/a/b:t", "SigstoreSigned"),
            ("docker://r.io/a/b:u", "SignedBy"),
            ("docker://x.y.corp.io/a", "InsecureAcceptAnything"),
            ("docker://r.io.evil.io/x", "Reject"),
            ("dir:/tmp/nowhere/x", "InsecureAcceptAnything"),
            ("dir:/nowhere", "Reject"),
            ("oci:/tmp/nowhere", "Reject"),
        ] {
            assert_eq!(kind(&policy, place), expected, "{place}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in [
            "{}",
            r#"{"default":[]}"#,
            r#"{"default":[{"type":"other"}]}"#,
            r#"{"default":[{"type":"reject"}],"defaults":[]}"#,
            r#"{"default":[{"type":"sigstoreSigned","pki":{}}]}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"":[]}}}"#,
        ] {
            assert!(policy(text).is_err(), "{text}");
        }
    }
}
