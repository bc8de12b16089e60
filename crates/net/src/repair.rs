//! Puts back what someone else took away.

use std::collections::{BTreeMap, BTreeSet};

use crate::bridge::{Bridge, elements, needs_localnet};
use crate::nft::Element;
use crate::rtnl::{Link, Links};
use crate::state::{Made, Place, Record, State};
use crate::{Result, sysctl};

impl Bridge {
    /// Sees to it that everything is as the records say. Returns what was not; what could not be
    /// put back is among it.
    pub(crate) fn repair(&self, state: &State) -> Result<Vec<String>> {
        let mut found = Vec::new();
        self.distrust();
        let bridge = self.ensure_all(state, &mut found)?;
        // First the elements, then the records: what is in the sets and has no record by now,
        // has none any more.
        let there = self.tables()?.elements()?;
        let records = state.records()?;
        self.repair_links(state, &bridge, &records, &mut found)?;
        self.repair_elements(state, &there, &records, &mut found)?;
        let mut places = records.values().filter_map(finished);
        if places.any(|(record, place)| needs_localnet(&record.attachment, place)) {
            let name = format!("ipv4/conf/{}/route_localnet", self.config.bridge);
            sysctl::set(&name, "1")?;
        }
        Ok(found)
    }

    fn repair_links(
        &self,
        state: &State,
        bridge: &Link,
        records: &BTreeMap<String, Record>,
        found: &mut Vec<String>,
    ) -> Result<()> {
        let mut links = Links::open()?;
        let list = links.list()?;
        for (record, place) in records.values().filter_map(finished) {
            if record.boot != state.boot() {
                continue;
            }
            let id = &record.attachment.id;
            let Some(link) = list.iter().find(|link| link.name == place.host_link) else {
                // One that is being detached is not missed.
                if state.try_lock_id(id)?.is_some() && state.read(id)?.is_some() {
                    found.push(format!("the link {} of pod {id} is gone", place.host_link));
                }
                continue;
            };
            if link.master != Some(bridge.index) || !link.up {
                found.push(format!("the link {} of pod {id} was off", link.name));
                links.set_master(link, bridge.index)?;
                links.describe_port(link, &link.alias)?;
            }
        }
        Ok(())
    }

    fn repair_elements(
        &self,
        state: &State,
        there: &[Element],
        records: &BTreeMap<String, Record>,
        found: &mut Vec<String>,
    ) -> Result<()> {
        let made = records.values().filter(|record| record.setup.is_some());
        let wanted: BTreeSet<Element> = made.flat_map(|r| elements(state, r)).collect();
        let being_made = |id: &str| records.get(id).is_some_and(|r| r.setup.is_none());
        let strange = there
            .iter()
            .filter(|e| !wanted.contains(e) && !being_made(&e.id));
        let strange: Vec<Element> = strange.cloned().collect();
        let there: BTreeSet<&Element> = there.iter().collect();
        let mut missing: Vec<Element> = wanted
            .iter()
            .filter(|e| !there.contains(e))
            .cloned()
            .collect();
        // One that is being detached is not missed, and none is detached before they are back:
        // its elements would stay.
        let mut locks = BTreeMap::new();
        for id in missing.iter().map(|e| &e.id).collect::<BTreeSet<_>>() {
            if let Some(lock) = state.try_lock_id(id)?
                && state.read(id)?.is_some()
            {
                locks.insert(id.clone(), lock);
            }
        }
        missing.retain(|e| locks.contains_key(&e.id));
        let mut tables = self.tables()?;
        if !strange.is_empty() {
            found.push(format!("{} elements were not ours", strange.len()));
            tables.remove(&strange)?;
        }
        if !missing.is_empty() {
            found.push(format!("{} elements were gone", missing.len()));
            tables.add(&missing)?;
        }
        Ok(())
    }
}

/// A record of the built-in network that is complete.
fn finished(record: &Record) -> Option<(&Record, &Place)> {
    match &record.made {
        Made::Builtin(place) if record.setup.is_some() => Some((record, place)),
        _ => None,
    }
}
