//! Whether what there is, is what there should be.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;

use crate::attachment::Attachment;
use crate::bridge::Bridge;
use crate::nft::{Element, elements_of};
use crate::rtnl::Links;
use crate::state::Place;
use crate::{Error, Result, netns, sysctl};

impl Bridge {
    /// Whether an attachment is as it was made.
    pub(crate) fn check(&self, attachment: &Attachment, place: &Place) -> Result<()> {
        let mut differs = Vec::new();
        self.check_outside(place, &mut differs)?;
        check_inside(attachment, place, &mut differs)?;
        let wanted = elements_of(attachment, &place.host_link, place.mac, &place.ips);
        let there: BTreeSet<Element> = self.tables()?.elements()?.into_iter().collect();
        let missing = wanted
            .iter()
            .filter(|wanted| !there.contains(wanted))
            .count();
        if missing > 0 {
            differs.push(format!("{missing} of its elements are missing in our sets"));
        }
        if differs.is_empty() {
            return Ok(());
        }
        Err(Error::Drift(differs.join(", ")))
    }

    fn check_outside(&self, place: &Place, differs: &mut Vec<String>) -> Result<()> {
        let mut links = Links::open()?;
        let name = &self.config.bridge;
        let Some(bridge) = links.find(name)? else {
            differs.push(format!("the bridge {name} is gone"));
            return Ok(());
        };
        match links.find(&place.host_link)? {
            None => differs.push(format!("the link {} is gone", place.host_link)),
            Some(link) => {
                if link.master != Some(bridge.index) {
                    differs.push(format!("the link {} is not on {name}", link.name));
                }
                if !link.up {
                    differs.push(format!("the link {} is down", link.name));
                }
            }
        }
        Ok(())
    }

    /// What is not ours to change but may stop packets.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut list = Vec::new();
        let drops = self.tables().and_then(|mut tables| tables.foreign_drops());
        for chain in drops.unwrap_or_default() {
            list.push(format!(
                "another firewall drops forwarded packets by default (nftables chain {chain}): \
                 let it accept those from and to {}",
                self.config.bridge
            ));
        }
        if let Ok(Some(value)) = sysctl::get("ipv4/ip_forward")
            && value != "1"
        {
            list.push("net.ipv4.ip_forward is off".into());
        }
        list
    }
}

fn check_inside(attachment: &Attachment, place: &Place, differs: &mut Vec<String>) -> Result<()> {
    let namespace = match netns::open(&attachment.netns) {
        Ok(namespace) => namespace,
        Err(error) => {
            differs.push(error.to_string());
            return Ok(());
        }
    };
    let mut links = netns::inside(namespace.as_fd(), Links::open)?;
    let Some(link) = links.find(&attachment.interface)? else {
        differs.push(format!("the link {} is gone", attachment.interface));
        return Ok(());
    };
    if link.mac != Some(place.mac) {
        differs.push(format!("{} has another hardware address", link.name));
    }
    let there = links.addresses()?;
    for ip in &place.ips {
        if !there.iter().any(|a| a.index == link.index && a.net == *ip) {
            differs.push(format!("{} has no address {ip}", link.name));
        }
    }
    Ok(())
}
