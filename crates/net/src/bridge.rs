//! The built-in network: a bridge, a pair of links for each pod, rules.

use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;
use rustix::io::Errno;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use crate::attachment::{Attachment, Mac, Setup};
use crate::error::Doing as _;
use crate::nft::{Element, Ruleset, Sockets, Tables, elements_of};
use crate::rtnl::{Link, Links, Veth};
use crate::state::{Made, Place, Record, State};
use crate::{Config, Error, Result, conntrack, netns, ports, sysctl};

/// MTU of Ethernet, where no route says more.
const USUAL_MTU: u32 = 1500;

/// How names of links on the machine begin.
pub(crate) const LINK: &str = "hv";

/// The bridge and what hangs on it.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) config: Config,
    pub(crate) ruleset: Ruleset,
    sockets: Sockets,
    /// Index of the bridge that was found to be complete; 0 for none.
    complete: AtomicU32,
}

impl Bridge {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            ruleset: Ruleset::new(&config),
            config,
            sockets: Sockets::default(),
            complete: AtomicU32::new(0),
        }
    }

    /// Our tables.
    pub(crate) fn tables(&self) -> Result<Tables<'_>> {
        Tables::open(&self.ruleset, &self.sockets)
    }

    /// The place of a new attachment.
    pub(crate) fn place(&self, attachment: &Attachment, ips: Vec<IpNet>) -> Place {
        let first = ips.first().map(IpNet::addr);
        let mac = attachment.mac.or_else(|| first.map(Mac::of));
        Place {
            host_link: self.host_link(&attachment.id),
            mac: mac.unwrap_or(Mac([0x0a, 0, 0, 0, 0, 1])),
            ips,
        }
    }

    /// Name of the link on the machine: it follows from the id, so that it can be found again.
    pub(crate) fn host_link(&self, id: &str) -> String {
        self.link_name(LINK, id)
    }

    /// Name of the link on which a pod's sending waits for its turn.
    fn ifb(&self, id: &str) -> String {
        self.link_name("hb", id)
    }

    fn link_name(&self, prefix: &str, id: &str) -> String {
        let text = format!("{}/{}/{id}", self.config.bridge, self.config.owner);
        let hash = crate::hash(text.as_bytes()) & 0xffff_ffff_ffff;
        format!("{prefix}{hash:012x}")
    }

    pub(crate) fn alias(&self, id: &str) -> String {
        format!("hull:{}:{id}", self.config.owner)
    }

    /// The id in a link's alias, if the link is our owner's.
    pub(crate) fn id_of(&self, link: &Link) -> Option<String> {
        let rest = link.alias.strip_prefix("hull:")?;
        let id = rest.strip_prefix(self.config.owner.as_str())?;
        id.strip_prefix(':').map(str::to_owned)
    }

    /// Sees to it that bridge, settings and rules are there. Returns the bridge.
    pub(crate) fn ensure(&self, state: &State) -> Result<Link> {
        let known = self.complete.load(Ordering::Acquire);
        if known != 0 {
            let found = Links::open()?.find(&self.config.bridge)?;
            if let Some(link) = found.filter(|link| link.index == known && link.up) {
                return Ok(link);
            }
        }
        self.ensure_all(state, &mut Vec::new())
    }

    /// The same without trust in what was found before; says what was not as it should be.
    pub(crate) fn ensure_all(&self, state: &State, found: &mut Vec<String>) -> Result<Link> {
        let _lock = state.lock()?;
        let name = self.config.bridge.as_str();
        let link = self
            .ensure_link(found)
            .doing(|| format!("make the bridge {name}"))?;
        self.ensure_rules(state, found)
            .doing(|| format!("put the rules of the bridge {name}"))?;
        self.complete.store(link.index, Ordering::Release);
        Ok(link)
    }

    /// The index of the bridge that was found last; 0 for none.
    pub(crate) fn known_index(&self) -> u32 {
        self.complete.load(Ordering::Acquire)
    }

    /// What was found before holds no more.
    pub(crate) fn distrust(&self) {
        self.complete.store(0, Ordering::Release);
    }

    fn ensure_link(&self, found: &mut Vec<String>) -> Result<Link> {
        let mut links = Links::open()?;
        let name = self.config.bridge.as_str();
        let gateways = self.gateways();
        if links.find(name)?.is_none() {
            found.push(format!("the bridge {name} was gone"));
            self.refuse_overlap(&mut links)?;
            let mtu = match self.config.mtu {
                Some(mtu) => mtu,
                None => links.default_route_mtu()?.unwrap_or(USUAL_MTU),
            };
            let first = gateways.first().map(IpNet::addr);
            let mac = first.map_or(Mac([0x0a, 0, 0, 0, 0, 1]), Mac::of);
            links.add_bridge(name, mac, mtu)?;
        }
        let link = links.find(name)?.ok_or_else(|| missing(name))?;
        if link.kind != "bridge" {
            return Err(Error::Invalid(format!(
                "link {name} is a {:?}, not a bridge: configure another name",
                link.kind
            )));
        }
        for (setting, value) in [("accept_ra", "0"), ("accept_dad", "0")] {
            sysctl::set_if_there(&format!("ipv6/conf/{name}/{setting}"), value)?;
        }
        let there = links.addresses()?;
        for gateway in gateways {
            let same = |a: &crate::rtnl::Address| a.index == link.index && a.net == gateway;
            if !there.iter().any(same) {
                found.push(format!("{name} had no address {gateway}"));
                links.add_address(link.index, gateway)?;
            }
        }
        if !link.up {
            found.push(format!("the bridge {name} was down"));
            links.up(link.index, name)?;
        }
        self.forwarding(&mut links, found)?;
        Ok(Link { up: true, ..link })
    }

    /// Refuses a subnet in which the machine already has another way.
    fn refuse_overlap(&self, links: &mut Links) -> Result<()> {
        let routes = links.routes()?;
        for subnet in self.config.subnets() {
            let clash = routes
                .iter()
                .find(|route| route.to.prefix_len() > 0 && subnet.contains(&route.to));
            if let Some(route) = clash {
                return Err(Error::Invalid(format!(
                    "subnet {subnet} overlaps with the route to {} that this machine has: \
                     configure another subnet",
                    route.to
                )));
            }
        }
        Ok(())
    }

    /// The machine is a router now. One that learns its own way by IPv6 router advertisements
    /// must go on to do so, which a router does not by itself.
    fn forwarding(&self, links: &mut Links, found: &mut Vec<String>) -> Result<()> {
        let four = "ipv4/ip_forward";
        if self.config.subnet4.is_some() && sysctl::get(four)?.as_deref() != Some("1") {
            found.push("net.ipv4.ip_forward was off".into());
            sysctl::set(four, "1")?;
        }
        let all = "ipv6/conf/all/forwarding";
        if self.config.subnet6.is_some() && sysctl::get(all)?.as_deref() == Some("0") {
            found.push("net.ipv6.conf.all.forwarding was off".into());
            for link in links.list()? {
                let setting = format!("ipv6/conf/{}/accept_ra", link.name);
                if sysctl::get(&setting)?.as_deref() == Some("1") {
                    sysctl::set(&setting, "2")?;
                }
            }
            sysctl::set(all, "1")?;
        }
        Ok(())
    }

    /// Puts the rules where they are not what they should be.
    fn ensure_rules(&self, state: &State, found: &mut Vec<String>) -> Result<()> {
        let mut tables = self.tables()?;
        let there = tables.rules()?;
        if there == self.expected_rules() {
            return Ok(());
        }
        found.push(if there.is_empty() {
            format!("the rules of {} were gone", self.config.bridge)
        } else {
            format!("the rules of {} were not ours", self.config.bridge)
        });
        tables.rebuild(&self.all_elements(state)?)
    }

    /// Family, chain and comment of the rules, in the order in which the kernel lists them.
    pub(crate) fn expected_rules(&self) -> Vec<(crate::nft::Family, String, String)> {
        let mut list = Vec::new();
        for chain in &self.ruleset.chains {
            let of_chain = self.ruleset.rules.iter();
            let of_chain = of_chain.filter(|r| (r.family, r.chain) == (chain.family, chain.name));
            list.extend(of_chain.map(|r| (r.family, r.chain.to_owned(), r.comment.clone())));
        }
        list
    }

    /// The elements of all attachments of this boot that are made, whosever they are.
    fn all_elements(&self, state: &State) -> Result<Vec<Element>> {
        let mut list = Vec::new();
        for record in state.records()?.values() {
            if record.setup.is_some() {
                list.extend(elements(state, record));
            }
        }
        Ok(list)
    }

    fn gateways(&self) -> Vec<IpNet> {
        let four = self.config.gateway4().map(IpNet::V4);
        let six = self.config.gateway6().map(IpNet::V6);
        four.into_iter().chain(six).collect()
    }

    /// Makes an attachment of which the record is written.
    pub(crate) fn attach(
        &self,
        state: &State,
        attachment: &Attachment,
        place: &Place,
    ) -> Result<Setup> {
        ports::check_free(&attachment.ports)?;
        let bridge = self.ensure(state)?;
        let namespace = netns::open(&attachment.netns)?;
        let mut inside = netns::inside(namespace.as_fd(), || {
            // What a link is born with: no neighbour tells it the way (CVE-2020-10749), and its
            // addresses are known to be no one else's.
            for name in ["all", "default"] {
                sysctl::set_if_there(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
            }
            sysctl::set_if_there("ipv6/conf/default/accept_dad", "0")?;
            let mut links = Links::open()?;
            links.loopback_up()?;
            Ok(links)
        })
        .doing(|| format!("enter the network namespace {}", attachment.netns.display()))?;
        let veth = Veth {
            host: &place.host_link,
            bridge: bridge.index,
            netns: namespace.as_fd(),
            pod: &attachment.interface,
            mac: place.mac,
            mtu: bridge.mtu,
        };
        let mut links = Links::open()?;
        links.add_veth(&veth)?;
        let host = find(&mut links, veth.host)?;
        let alias = self.alias(&attachment.id);
        links.describe_port(&host, &alias)?;
        let pod = find(&mut inside, veth.pod)?;
        for ip in &place.ips {
            inside.add_address(pod.index, *ip)?;
            links.set_neighbour(bridge.index, ip.addr(), place.mac)?;
        }
        inside.up(pod.index, veth.pod)?;
        for gateway in self.gateways() {
            inside.add_default_route(pod.index, gateway.addr())?;
        }
        links.limit(
            &host,
            attachment.bandwidth,
            &self.ifb(&attachment.id),
            &alias,
        )?;
        self.open_ports(state, attachment, place)?;
        Ok(self.result(attachment, place, bridge.mtu))
    }

    fn result(&self, attachment: &Attachment, place: &Place, mtu: u32) -> Setup {
        let gateways = self.gateways();
        Setup {
            interface: attachment.interface.clone(),
            host_interface: Some(place.host_link.clone()),
            mac: Some(place.mac),
            mtu: Some(mtu),
            ips: place.ips.clone(),
            gateways: gateways.iter().map(IpNet::addr).collect(),
            dns: attachment.dns.clone(),
        }
    }

    fn open_ports(&self, state: &State, attachment: &Attachment, place: &Place) -> Result<()> {
        if needs_localnet(attachment, place) {
            let bridge = &self.config.bridge;
            sysctl::set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
        }
        let list = elements_of(attachment, &place.host_link, place.mac, &place.ips);
        self.add_elements(state, &list)?;
        conntrack::forget_before(&attachment.ports)
    }

    fn add_elements(&self, state: &State, list: &[Element]) -> Result<()> {
        let add = || self.tables()?.add(list);
        match add() {
            // The tables went between the look and the use.
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                self.ensure_all(state, &mut Vec::new())?;
                add()
            }
            Err(error) if matches!(error.errno(), Some(Errno::BUSY | Errno::EXIST)) => {
                Err(self.port_taken(list, error))
            }
            other => other,
        }
    }

    /// Says whose a port is.
    fn port_taken(&self, wanted: &[Element], error: Error) -> Error {
        let there = self.tables().and_then(|mut tables| tables.elements());
        let there = there.unwrap_or_default();
        let clash = there.iter().find(|there| {
            let same = |w: &&Element| (w.set, &w.key) == (there.set, &there.key);
            wanted.iter().any(|w| same(&w) && w.value != there.value)
        });
        match clash.and_then(|clash| Some((clash.host_port()?, &clash.id))) {
            Some((port, id)) => Error::PortTaken(format!("host port {port} leads to pod {id}")),
            None => error,
        }
    }

    /// Undoes an attachment as far as it was made; goes on after errors.
    pub(crate) fn detach(&self, state: &State, record: &Record, place: &Place) -> Vec<Error> {
        let mut errors = Vec::new();
        if record.boot == state.boot() {
            let whole = record.setup.is_some();
            errors.extend(self.close(record, place, whole).err());
            errors.extend(self.remove_link(&record.attachment.id, place).err());
        }
        // An address is given again only when no link has it any more.
        if errors.is_empty() {
            let id = &record.attachment.id;
            errors.extend(state.release(&place.ips, id).err());
        }
        errors
    }

    /// Lets nothing in any more: `whole` says that all its elements are there.
    pub(crate) fn close(&self, record: &Record, place: &Place, whole: bool) -> Result<()> {
        let mut errors = Vec::new();
        errors.extend(self.close_ports(&record.attachment, place, whole).err());
        let ports = &record.attachment.ports;
        errors.extend(conntrack::forget_after(ports, &place.ips).err());
        Error::from_several(errors).map_or(Ok(()), Err)
    }

    fn close_ports(&self, attachment: &Attachment, place: &Place, whole: bool) -> Result<()> {
        let list = elements_of(attachment, &place.host_link, place.mac, &place.ips);
        let mut tables = self.tables()?;
        if whole {
            tables.remove(&list)
        } else {
            // A port that another pod has must stay there.
            tables.remove_present(&list)
        }
    }

    fn remove_link(&self, id: &str, place: &Place) -> Result<()> {
        let mut links = Links::open()?;
        for name in [&place.host_link, &self.ifb(id)] {
            if let Some(link) = links.find(name)? {
                links.delete(&link)?;
            }
        }
        let Some(bridge) = links.find(&self.config.bridge)? else {
            return Ok(());
        };
        for ip in &place.ips {
            links.forget_neighbour(bridge.index, ip.addr())?;
        }
        Ok(())
    }

    /// Undoes all that can be found by an id alone.
    pub(crate) fn remove_by_id(&self, id: &str) -> Result<()> {
        let mut tables = self.tables()?;
        let mut list = tables.elements()?;
        list.retain(|element| element.id == id);
        tables.remove(&list)?;
        let mut links = Links::open()?;
        for name in [self.host_link(id), self.ifb(id)] {
            if let Some(link) = links.find(&name)? {
                links.delete(&link)?;
            }
        }
        Ok(())
    }

    /// Turns route_localnet off where no attachment needs it any more.
    pub(crate) fn close_localnet(&self, state: &State) -> Result<()> {
        for record in state.records()?.values() {
            if let Made::Builtin(place) = &record.made
                && needs_localnet(&record.attachment, place)
            {
                return Ok(());
            }
        }
        let bridge = &self.config.bridge;
        sysctl::set_if_there(&format!("ipv4/conf/{bridge}/route_localnet"), "0")
    }

    /// Removes the bridge and the tables.
    pub(crate) fn destroy(&self) -> Result<()> {
        self.distrust();
        self.tables()?.destroy()?;
        let mut links = Links::open()?;
        if let Some(link) = links.find(&self.config.bridge)? {
            links.delete(&link)?;
        }
        Ok(())
    }
}

/// The elements of a record, if they are the kernel's of this boot.
pub(crate) fn elements(state: &State, record: &Record) -> Vec<Element> {
    match &record.made {
        Made::Builtin(place) if record.boot == state.boot() => {
            elements_of(&record.attachment, &place.host_link, place.mac, &place.ips)
        }
        _ => Vec::new(),
    }
}

/// Whether one of its ports is to be reached by 127.0.0.1.
pub(crate) fn needs_localnet(attachment: &Attachment, place: &Place) -> bool {
    let pod4 = place.ips.iter().map(IpNet::addr).find(IpAddr::is_ipv4);
    pod4.is_some_and(|pod| {
        attachment.ports.iter().any(|port| {
            let loopback = port.one_host_ip().is_none_or(|ip| ip.is_loopback());
            port.covers(pod) && loopback
        })
    })
}

fn find(links: &mut Links, name: &str) -> Result<Link> {
    links.find(name)?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    sys::Error::new("rtnetlink", name, Errno::NODEV).into()
}
