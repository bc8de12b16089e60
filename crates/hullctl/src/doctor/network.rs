//! What pods that are gone hold of the network.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use net::{Holding, Network};

use super::leaks::{Kind, Leak};
use super::places::Places;
use super::users;

/// As its daemon has it; whoever opened it last has written that down. What an earlier boot has
/// left is none of the kernel's any more.
fn open(state: &Path, owner: &str) -> Result<Option<Network>> {
    let opened = Network::resume(owner, state);
    opened.with_context(|| format!("open the network of {}", state.display()))
}

/// Everything that is held for nobody.
pub fn find(places: &Places) -> Result<Vec<Leak>> {
    let mut leaks = Vec::new();
    // A user has no bridge, and may not ask for rules.
    if runtime::is_rootless() {
        return Ok(leaks);
    }
    let there = places.networks.iter();
    let there = there.filter(|(state, _)| state.join("addresses").exists());
    let mut held = Vec::new();
    for (state, owner) in there {
        if let Some(network) = open(state, owner)? {
            held.push((state, *owner, network.holdings()?));
        }
    }
    // Read last: whoever has got something by now and lives, is on these lists.
    let (living, used) = (places.living()?, users::network_namespaces());
    let recorded: BTreeSet<&str> = held
        .iter()
        .flat_map(|(_, _, all)| all.values())
        .filter(|h| h.recorded)
        .map(|h| h.id.as_str())
        .collect();
    for (state, owner, all) in &held {
        for holding in all.values() {
            let is_used = holding.namespace.is_some_and(|inode| used.contains(&inode));
            // Networks share a bridge: a rule may be the other's.
            let is_others = !holding.recorded && recorded.contains(holding.id.as_str());
            let is_young = holding.age.is_some_and(|age| age < places.grace);
            if living.contains(&holding.id) || is_used || is_others || is_young {
                continue;
            }
            let leak = Leak::new(
                Kind::Network,
                &holding.id,
                state.to_path_buf(),
                &words(holding),
            );
            leaks.push(leak.of_owner(owner));
        }
    }
    Ok(leaks)
}

fn words(holding: &Holding) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(holding.addresses.iter().map(|a| format!("address {a}")));
    parts.extend(holding.links.iter().map(|l| format!("link {l}")));
    if holding.elements > 0 {
        parts.push(format!("{} elements of nftables sets", holding.elements));
    }
    parts.extend(holding.ports.iter().map(|p| format!("port {p}")));
    if holding.netns {
        parts.push("a pinned network namespace".to_owned());
    }
    if holding.recorded {
        parts.push("a record".to_owned());
    }
    format!(
        "no such pod or container, but it holds {}",
        parts.join(", ")
    )
}

/// Lets go of all that is held for `id`.
pub fn remove(state: &Path, owner: &str, id: &str) -> Result<()> {
    open(state, owner)?.map_or(Ok(()), |network| Ok(network.teardown(id)?))
}
