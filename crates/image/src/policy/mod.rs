//! Is an image accepted? The policy's requirements against the signatures that there are.

#[cfg(feature = "signatures")]
mod gpg;
#[cfg(feature = "signatures")]
mod payload;
#[cfg(feature = "signatures")]
mod sigstore;

use crate::config::{Policy, Requirement, Scope};
use crate::transport::{RawManifest, Source};
use crate::{Error, Result};

/// Checks that one of `documents` (an image, or the indexes that lead to it) fulfils all
/// requirements.
///
/// # Errors
/// [`Error::Refused`] says which requirement was not met and why.
pub fn check(
    policy: &Policy,
    scope: &Scope,
    source: &dyn Source,
    documents: &[&RawManifest],
) -> Result<()> {
    let mut failed: Vec<String> = Vec::new();
    for requirement in policy.requirements(scope) {
        failed.clear();
        let mut met = false;
        for document in documents {
            match check_one(requirement, source, document) {
                Ok(()) => met = true,
                Err(why) => failed.push(why),
            }
        }
        if !met {
            failed.dedup();
            return Err(Error::Refused {
                what: source.place(),
                why: format!("policy.json: {}", failed.join("; ")),
            });
        }
    }
    Ok(())
}

fn check_one(
    requirement: &Requirement,
    source: &dyn Source,
    document: &RawManifest,
) -> std::result::Result<(), String> {
    match requirement {
        Requirement::InsecureAcceptAnything => Ok(()),
        Requirement::Reject => Err("images from here are rejected".to_owned()),
        #[cfg(feature = "signatures")]
        Requirement::SignedBy { .. } => gpg::check(requirement, source, document),
        #[cfg(feature = "signatures")]
        Requirement::SigstoreSigned { .. } => sigstore::check(requirement, source, document),
        #[cfg(not(feature = "signatures"))]
        Requirement::SignedBy { .. } | Requirement::SigstoreSigned { .. } => {
            let _ = (source, document);
            Err(
                "a signature is required, and this program was built without their check"
                    .to_owned(),
            )
        }
    }
}

#[cfg(test)]
mod tests;
