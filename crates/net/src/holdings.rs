//! What the kernel and the disk hold in whose name: for those who look for what was forgotten.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::nft::Element;
use crate::rtnl::Links;
use crate::state::{Made, identity};
use crate::{Network, Result};

/// What is held in one name.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Holding {
    /// Whose it is: the id of an attachment.
    pub id: String,
    /// Addresses that nobody else gets.
    pub addresses: Vec<IpAddr>,
    /// Links of the machine.
    pub links: Vec<String>,
    /// Elements of our sets and maps of nftables.
    pub elements: usize,
    /// Ports of the machine that these lead on, as `8080/tcp`.
    pub ports: Vec<String>,
    /// Its network namespace is pinned.
    pub netns: bool,
    /// The inode of its network namespace, where that is known.
    pub namespace: Option<u64>,
    /// There is a record of it.
    pub recorded: bool,
    /// Plugins have made it.
    pub by_plugins: bool,
    /// How long nothing of it on disk has changed; none where nothing of it is on disk.
    pub age: Option<Duration>,
}

impl Network {
    /// Everything that is held, by the id of whom it is held for. An element bears no owner: those
    /// of ids of which nothing else is known are told too.
    ///
    /// # Errors
    /// What could not be read.
    pub fn holdings(&self) -> Result<BTreeMap<String, Holding>> {
        let mut all: BTreeMap<String, Holding> = BTreeMap::new();
        // First the kernel's things, then the records: what is attached meanwhile has a record.
        let elements = self.parts().bridge.tables()?.elements()?;
        let links = Links::open()?.list()?;
        let mut others: Vec<String> = Vec::new();
        for link in &links {
            others.extend(self.foreign_id(&link.alias));
            if let Some(id) = self.parts().bridge.id_of(link) {
                entry(&mut all, id).links.push(link.name.clone());
            }
        }
        for (address, id, foreign) in self.state.addresses()? {
            if !foreign {
                entry(&mut all, id).addresses.push(address);
            }
        }
        for id in self.state.marked_netns()? {
            let path = self.config().netns_dir.join(&id);
            let holding = entry(&mut all, id);
            holding.netns = true;
            holding.namespace = identity(&path).map(|(_, inode)| inode);
        }
        for (id, record) in self.state.records()? {
            if record.owner == self.config().owner {
                let holding = entry(&mut all, id);
                holding.recorded = true;
                holding.by_plugins = matches!(record.made, Made::Cni { .. });
                let inode = record.namespace.map(|(_, inode)| inode);
                holding.namespace = holding.namespace.or(inode);
            } else {
                others.push(id);
            }
        }
        for element in elements {
            if !others.contains(&element.id) {
                count(&mut all, &element);
            }
        }
        for holding in all.values_mut() {
            let newest = self.state.last_change(&holding.id);
            let age = newest.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            holding.age = age;
        }
        Ok(all)
    }

    /// The id in the alias of another owner's link.
    fn foreign_id(&self, alias: &str) -> Option<String> {
        let (owner, id) = alias.strip_prefix("hull:")?.split_once(':')?;
        (owner != self.config().owner).then(|| id.to_owned())
    }
}

fn entry(all: &mut BTreeMap<String, Holding>, id: String) -> &mut Holding {
    all.entry(id.clone()).or_insert_with(|| Holding {
        id,
        ..Holding::default()
    })
}

fn count(all: &mut BTreeMap<String, Holding>, element: &Element) {
    let holding = entry(all, element.id.clone());
    holding.elements += 1;
    if let Some(port) = element.host_port()
        && !holding.ports.contains(&port)
    {
        holding.ports.push(port);
    }
}
