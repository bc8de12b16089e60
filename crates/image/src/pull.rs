//! From a name that a person typed to an image in the store.

use crate::config::{Policy, Scope};
use crate::registry::Access;
use crate::store::{ImageRecord, PullOptions, Store};
use crate::transport::{Pinned, Source, TransportRef, resolve};
use crate::{Error, Platform, Reference, Result, policy};

/// Pulls what `source` has, if the policy accepts it, under the name `reference`.
///
/// # Errors
/// Refused by the policy, or those of [`Store::pull`].
pub fn pull(
    store: &Store,
    source: &dyn Source,
    (rules, scope): (&Policy, &Scope),
    reference: &Reference,
    options: &PullOptions<'_>,
) -> Result<ImageRecord> {
    let pinned = Pinned::new(source)?;
    let host = Platform::host();
    let found = resolve(&pinned, options.platform.unwrap_or(&host))?;
    policy::check(rules, scope, &pinned, &[&found.top, &found.raw])?;
    store.pull(&pinned, reference, options)
}

/// Pulls an image from a registry by its name, short or whole; each registry that a short name
/// may mean is asked in its order.
///
/// # Errors
/// Those of [`pull`]; where several registries were asked, what each said.
pub fn pull_named(
    store: &Store,
    access: &Access,
    rules: &Policy,
    name: &str,
    options: &PullOptions<'_>,
) -> Result<ImageRecord> {
    let candidates = access.registries().candidates(name)?;
    let only = candidates.len() == 1;
    let mut failed: Vec<String> = Vec::new();
    for reference in candidates {
        let scope = Scope::of(&TransportRef::Registry(reference.clone()));
        let source = access.source(&reference)?;
        match pull(store, &source, (rules, &scope), &reference, options) {
            // What a registry does not have, another may; what is refused stays refused.
            Err(e) if !only && is_elsewhere(&e) => failed.push(e.to_string()),
            result => return result,
        }
    }
    Err(Error::Missing {
        what: format!("image {name:?}"),
        why: failed.join("; "),
    })
}

fn is_elsewhere(error: &Error) -> bool {
    error.is_missing() || matches!(error, Error::Status { .. } | Error::Connection { .. })
}
