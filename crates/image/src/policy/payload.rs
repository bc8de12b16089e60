//! What a signature says: the simple-signing document, which cosign signs as well.

use serde::Deserialize;

use crate::config::policy::Identity;
use crate::{Digest, Reference};

/// A signed document, its signature checked.
#[derive(Debug, Deserialize)]
pub struct Payload {
    critical: Critical,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Named,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: Digest,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Named {
    docker_reference: String,
}

impl Payload {
    /// Checks that the document is of the `kind` and is about this manifest and this name.
    pub fn check(
        bytes: &[u8],
        kind: &str,
        digest: &Digest,
        intended: Option<&Reference>,
        identity: Option<&Identity>,
    ) -> Result<(), String> {
        let payload: Self =
            serde_json::from_slice(bytes).map_err(|e| format!("signed text: {e}"))?;
        let critical = payload.critical;
        if critical.kind != kind {
            return Err(format!("signed text is of type {:?}", critical.kind));
        }
        if critical.image.docker_manifest_digest != *digest {
            return Err(format!(
                "signature is for {}, not {digest}",
                critical.image.docker_manifest_digest
            ));
        }
        let signed = &critical.identity.docker_reference;
        if matches(identity, intended, signed) {
            return Ok(());
        }
        Err(format!("signature is for the name {signed:?}"))
    }
}

/// A name as it was signed, with what it leaves out left out.
struct Signed {
    reference: Reference,
    name_only: bool,
}

impl Signed {
    fn parse(text: &str) -> Option<Self> {
        let reference = Reference::parse(text).ok()?;
        let last = text.rsplit('/').next().unwrap_or(text);
        Some(Self {
            reference,
            name_only: !last.contains([':', '@']),
        })
    }
}

fn matches(identity: Option<&Identity>, intended: Option<&Reference>, signed: &str) -> bool {
    let Some(signed) = Signed::parse(signed) else {
        return false;
    };
    let exact = |want: &Reference| !signed.name_only && *want == signed.reference;
    let repository = |want: &Reference| want.name() == signed.reference.name();
    let digest_or_exact = |want: &Reference| {
        let by_digest = want.digest().is_some() && want.tag().is_none();
        if by_digest {
            repository(want)
        } else {
            exact(want)
        }
    };
    match (identity, intended) {
        (Some(Identity::ExactReference { docker_reference }), _) => {
            Reference::parse(docker_reference).is_ok_and(|want| exact(&want))
        }
        (Some(Identity::ExactRepository { docker_repository }), _) => {
            Reference::parse(docker_repository).is_ok_and(|want| repository(&want))
        }
        (_, None) => false,
        (Some(Identity::MatchExact), Some(want)) => exact(want),
        (Some(Identity::MatchRepository), Some(want)) => repository(want),
        (Some(Identity::MatchRepoDigestOrExact) | None, Some(want)) => digest_or_exact(want),
        (
            Some(Identity::RemapIdentity {
                prefix,
                signed_prefix,
            }),
            Some(want),
        ) => match remapped(want, prefix, signed_prefix) {
            Some(want) => digest_or_exact(&want),
            None => digest_or_exact(want),
        },
    }
}

fn remapped(want: &Reference, prefix: &str, signed_prefix: &str) -> Option<Reference> {
    let name = want.name();
    let rest = name.strip_prefix(prefix)?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    want.at(&format!("{signed_prefix}{rest}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        let exact_repository = Identity::ExactRepository {
            docker_repository: "r.io/a".to_owned(),
        };
        let remap = Identity::RemapIdentity {
            prefix: "mirror.io/x".to_owned(),
            signed_prefix: "r.io".to_owned(),
        };
        let digest = Digest::of(b"");
        let by_digest = format!("r.io/a@{digest}");
        for (identity, intended, signed, expected) in [
            (None, "r.io/a:1", "r.io/a:1", true),
            (None, "r.io/a:1", "r.io/a:2", false),
            (None, "r.io/a:latest", "r.io/a", false),
            (None, by_digest.as_str(), "r.io/a:9", true),
            (None, by_digest.as_str(), "r.io/b:9", false),
            (
                Some(&Identity::MatchExact),
                by_digest.as_str(),
                "r.io/a:9",
                false,
            ),
            (Some(&Identity::MatchRepository), "r.io/a:1", "r.io/a", true),
            (
                Some(&Identity::MatchRepository),
                "r.io/a:1",
                "r.io/b",
                false,
            ),
            (Some(&exact_repository), "other.io/z:1", "r.io/a:7", true),
            (Some(&remap), "mirror.io/x/a:1", "r.io/a:1", true),
            (Some(&remap), "mirror.io/xx/a:1", "r.io/a:1", false),
            (None, "r.io/a:1", "r.io/A", false),
        ] {
            let want = Reference::parse(intended).unwrap();
            assert_eq!(
                matches(identity, Some(&want), signed),
                expected,
                "{intended} {signed}"
            );
        }
        assert!(!matches(None, None, "r.io/a:1"));
    }
}
