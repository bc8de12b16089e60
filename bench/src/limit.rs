//! The smallest memory limit with which `true` starts, by bisection.

use std::fs::File;

use anyhow::Result;

use crate::config::Bundles;
use crate::cycle::reap;
use crate::peers::Peer;

/// Enough for every runtime.
const ENOUGH: u64 = 64 << 20;
/// How closely the answer is found.
const STEP: u64 = 16 << 10;
/// A limit counts as sufficient when so many starts in a row succeed.
const TRIES: u32 = 3;
/// So often it is looked for; the answer is the median. What a group is charged varies by some
/// pages with what the processors have in stock.
const SEARCHES: usize = 5;

/// The limit in bytes, or `None` where not even [`ENOUGH`] is.
///
/// # Errors
/// Failures to run the runtime at all.
pub fn smallest(peer: &Peer, bundles: &Bundles, complaints: &File) -> Result<Option<u64>> {
    let starts = |limit: u64| -> Result<bool> {
        let id = format!("{}-limit", peer.name);
        let bundle = bundles.write(&id, &["/bin/true"], Some(limit))?;
        for _ in 0..TRIES {
            let run = peer.command(&["run", "--bundle", &bundle, &id])?;
            let took = run.run(complaints);
            reap();
            if !took.is_ok_and(|t| t.ended.code == 0) {
                let delete = peer.command(&["delete", "--force", &id])?;
                delete.run(complaints)?;
                reap();
                return Ok(false);
            }
        }
        Ok(true)
    };
    if !starts(ENOUGH)? {
        return Ok(None);
    }
    let mut found = [0; SEARCHES];
    for answer in &mut found {
        let (mut fails, mut works) = (0, ENOUGH);
        while works - fails > STEP {
            let middle = fails.midpoint(works) / STEP * STEP;
            if starts(middle)? {
                works = middle;
            } else {
                fails = middle;
            }
        }
        *answer = works;
    }
    found.sort_unstable();
    Ok(found.get(SEARCHES / 2).copied())
}
