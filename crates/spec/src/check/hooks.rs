//! `hooks`.

use super::text;
use crate::error::{At, Result};
use crate::oci::{self, Hook};
use crate::plan::Hooks;

/// Longest timeout, in seconds: a year. It keeps sums of times far from overflow.
const TIMEOUT_MAX: i64 = 366 * 24 * 3600;

pub(super) fn hooks(given: &oci::Hooks) -> Result<Hooks> {
    let at = At::top("hooks");
    let mut create_runtime = list(&given.prestart, &at.field("prestart"))?;
    create_runtime.extend(list(&given.create_runtime, &at.field("createRuntime"))?);
    Ok(Hooks {
        create_runtime,
        create_container: list(&given.create_container, &at.field("createContainer"))?,
        start_container: list(&given.start_container, &at.field("startContainer"))?,
        poststart: list(&given.poststart, &at.field("poststart"))?,
        poststop: list(&given.poststop, &at.field("poststop"))?,
    })
}

fn list(hooks: &[Hook], at: &At) -> Result<Vec<Hook>> {
    hooks
        .iter()
        .enumerate()
        .map(|(i, given)| hook(given, &at.index(i)))
        .collect()
}

fn hook(given: &Hook, at: &At) -> Result<Hook> {
    text::absolute(&given.path, &at.field("path"))?;
    for (words, name) in [(&given.args, "args"), (&given.env, "env")] {
        let at = at.field(name);
        for (i, word) in words.iter().enumerate() {
            text::no_nul(word, &at.index(i))?;
        }
    }
    if let Some(timeout) = given.timeout {
        let at = at.field("timeout");
        if timeout <= 0 {
            return Err(at.invalid(timeout, "must be above zero"));
        }
        if timeout > TIMEOUT_MAX {
            return Err(at.invalid(timeout, format!("must be at most {TIMEOUT_MAX} seconds")));
        }
    }
    let mut hook = given.clone();
    if hook.args.is_empty() {
        hook.args.push(hook.path.clone());
    }
    Ok(hook)
}
