//! Addresses, routes, neighbours.

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;
use sys::netlink::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, Request, attributes, u32_at,
};

use super::{
    IFADDRMSG, Links, RTM_DELNEIGH, RTM_GETADDR, RTM_GETROUTE, RTM_NEWADDR, RTM_NEWNEIGH,
    RTM_NEWROUTE, RTMSG, family, octets,
};
use crate::Result;
use crate::attachment::Mac;
use crate::error::unless;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// The address is known to be no one else's: it is usable at once.
const IFA_F_NODAD: u32 = 0x02;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_STALE: u16 = 4;

/// An address of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) net: IpNet,
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Route {
    pub(crate) to: IpNet,
    pub(crate) link: u32,
    pub(crate) metric: u32,
}

impl Links {
    /// Gives a link an address. One that it has is no error.
    pub(crate) fn add_address(&mut self, index: u32, net: IpNet) -> Result<()> {
        let ip = octets(net.addr());
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut request = Request::new(RTM_NEWADDR, flags, format!("address {net}"))
            .address(family(net.addr()), net.prefix_len(), 0, index)
            .attribute(IFA_LOCAL, &ip)
            .attribute(IFA_ADDRESS, &ip);
        match net {
            IpNet::V4(net) => request = request.attribute(IFA_BROADCAST, &net.broadcast().octets()),
            IpNet::V6(_) => request = request.u32(IFA_FLAGS, IFA_F_NODAD),
        }
        self.0.ask(&request)?;
        Ok(())
    }

    /// All addresses.
    pub(crate) fn addresses(&mut self) -> Result<Vec<Address>> {
        let request = Request::new(RTM_GETADDR, NLM_F_DUMP, "all addresses").address(0, 0, 0, 0);
        let answer = self.0.ask(&request)?;
        let addresses = answer.iter().filter(|m| m.kind == RTM_NEWADDR);
        Ok(addresses.filter_map(|m| parse_address(&m.body)).collect())
    }

    /// The way to the world.
    pub(crate) fn add_default_route(&mut self, index: u32, gateway: IpAddr) -> Result<()> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let what = format!("default route by {gateway}");
        let header = [
            family(gateway),
            0,
            0,
            0,
            RT_TABLE_MAIN,
            RTPROT_STATIC,
            0,
            RTN_UNICAST,
        ];
        let request = Request::new(RTM_NEWROUTE, flags, what)
            .fixed(&[header.as_slice(), &[0; 4]].concat())
            .attribute(RTA_GATEWAY, &octets(gateway))
            .u32(RTA_OIF, index);
        self.0.ask(&request)?;
        Ok(())
    }

    /// The main table's routes.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route>> {
        let request = Request::new(RTM_GETROUTE, NLM_F_DUMP, "all routes").fixed(&[0; RTMSG]);
        let answer = self.0.ask(&request)?;
        let routes = answer.iter().filter(|m| m.kind == RTM_NEWROUTE);
        Ok(routes.filter_map(|m| parse_route(&m.body)).collect())
    }

    /// The MTU of the link of the default route, the least where there are several.
    pub(crate) fn default_route_mtu(&mut self) -> Result<Option<u32>> {
        let routes = self.routes()?;
        let ways: Vec<u32> = routes
            .iter()
            .filter(|route| route.to.prefix_len() == 0)
            .map(|route| route.link)
            .collect();
        let links = self.list()?;
        let used = links.iter().filter(|link| ways.contains(&link.index));
        Ok(used.map(|link| link.mtu).min())
    }

    /// Tells the machine who has an address, whatever it remembers.
    pub(crate) fn set_neighbour(&mut self, index: u32, ip: IpAddr, mac: Mac) -> Result<()> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let request = neighbour(RTM_NEWNEIGH, flags, index, ip).attribute(NDA_LLADDR, &mac.0);
        self.0.ask(&request)?;
        Ok(())
    }

    /// Makes the machine forget who has an address.
    pub(crate) fn forget_neighbour(&mut self, index: u32, ip: IpAddr) -> Result<()> {
        let request = neighbour(RTM_DELNEIGH, NLM_F_ACK, index, ip);
        let gone = [Errno::NOENT, Errno::NODEV, Errno::NXIO, Errno::INVAL];
        unless(self.0.ask(&request), &gone)?;
        Ok(())
    }
}

/// `struct ndmsg` with the address.
fn neighbour(kind: u16, flags: u16, index: u32, ip: IpAddr) -> Request {
    let mut fixed = vec![family(ip), 0, 0, 0];
    fixed.extend(index.to_ne_bytes());
    fixed.extend(NUD_STALE.to_ne_bytes());
    fixed.extend([0, 0]);
    Request::new(kind, flags, format!("neighbour {ip}"))
        .fixed(&fixed)
        .attribute(NDA_DST, &octets(ip))
}

pub(crate) fn parse_address(body: &[u8]) -> Option<Address> {
    let &[_, prefix, ..] = body else { return None };
    let list = attributes(body, IFADDRMSG);
    let get = |wanted: u16| list.iter().find(|(kind, _)| *kind == wanted);
    let (_, value) = get(IFA_LOCAL).or_else(|| get(IFA_ADDRESS))?;
    Some(Address {
        index: u32_at(body, 4)?,
        net: IpNet::new(ip(value)?, prefix).ok()?,
    })
}

pub(crate) fn parse_route(body: &[u8]) -> Option<Route> {
    let &[family, prefix, _, _, table, _, _, kind, ..] = body else {
        return None;
    };
    if table != RT_TABLE_MAIN || kind != RTN_UNICAST {
        return None;
    }
    let none = [0; 16];
    let mut to: &[u8] = none.get(..if family == 2 { 4 } else { 16 })?;
    let (mut link, mut metric) = (None, 0);
    for (kind, value) in attributes(body, RTMSG) {
        match kind {
            RTA_DST => to = value,
            RTA_OIF => link = u32_at(value, 0),
            RTA_PRIORITY => metric = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(Route {
        to: IpNet::new(ip(to)?, prefix).ok()?,
        link: link?,
        metric,
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four: Option<[u8; 4]> = bytes.try_into().ok();
    let sixteen: Option<[u8; 16]> = bytes.try_into().ok();
    four.map(IpAddr::from).or_else(|| sixteen.map(IpAddr::from))
}
