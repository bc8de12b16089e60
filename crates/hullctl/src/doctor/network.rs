//! What pods that are gone hold of the network.

use std::path::Path;

use anyhow::{Context as _, Result};
use net::{Config, Holding, Network};

use super::leaks::{Kind, Leak};
use super::places::{GRACE, Places};

/// As its daemon has it; whoever opened it last has written that down.
fn open(state: &Path, owner: &str) -> Result<Network> {
    let config = Config {
        owner: owner.to_owned(),
        ..Config::default()
    };
    let opened = Network::join(config, state);
    opened.with_context(|| format!("open the network of {}", state.display()))
}

/// Everything that is held for nobody.
pub fn find(places: &Places) -> Result<Vec<Leak>> {
    let mut leaks = Vec::new();
    // A user has no bridge, and may not ask for rules.
    if runtime::is_rootless() {
        return Ok(leaks);
    }
    for (state, owner) in &places.networks {
        if !state.join("addresses").exists() {
            continue;
        }
        let held = open(state, owner)?.holdings()?;
        // Read last: whatever holds something by now and lives, is on this list.
        let living = places.living()?;
        for holding in held.values() {
            if !living.contains(&holding.id) && holding.age.is_none_or(|age| age > GRACE) {
                let leak = Leak::new(Kind::Network, &holding.id, state.clone(), &words(holding));
                leaks.push(leak.of_owner(owner));
            }
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
    Ok(open(state, owner)?.teardown(id)?)
}
