//! Links: the bridge, its ports, and what is counted on them.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;
use sys::netlink::{
    Attributes, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Request, attributes, u32_at,
};

use super::{
    IFF_UP, IFINFOMSG, IFLA_ADDRESS, IFLA_BRPORT_MODE, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND, IFLA_LINKINFO, IFLA_MASTER,
    IFLA_MTU, IFLA_NET_NS_FD, IFLA_STATS64, Links, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK,
    VETH_INFO_PEER,
};
use crate::Result;
use crate::attachment::Mac;
use crate::error::unless;

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<Mac>,
    pub(crate) master: Option<u32>,
    pub(crate) kind: String,
    pub(crate) alias: String,
    pub(crate) counters: Counters,
}

/// What passed a link, counted since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Packets dropped on the way in.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped on the way out.
    pub tx_dropped: u64,
}

/// A pair of links to be made: one end on the machine, one in a pod.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    pub(crate) host: &'a str,
    pub(crate) bridge: u32,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) pod: &'a str,
    pub(crate) mac: Mac,
    pub(crate) mtu: u32,
}

impl Links {
    /// All links.
    pub(crate) fn list(&mut self) -> Result<Vec<Link>> {
        let request = Request::new(RTM_GETLINK, NLM_F_DUMP, "all links").link(0, 0, 0);
        let answer = self.0.ask(&request)?;
        let links = answer.iter().filter(|m| m.kind == RTM_NEWLINK);
        Ok(links.filter_map(|m| parse(&m.body)).collect())
    }

    /// The link of that name, if there is one.
    pub(crate) fn find(&mut self, name: &str) -> Result<Option<Link>> {
        let request = Request::new(RTM_GETLINK, NLM_F_ACK, name)
            .link(0, 0, 0)
            .string(IFLA_IFNAME, name);
        let answer = unless(self.0.ask(&request), &[Errno::NODEV])?;
        let link = answer.iter().find(|m| m.kind == RTM_NEWLINK);
        Ok(link.and_then(|m| parse(&m.body)))
    }

    pub(crate) fn loopback_up(&mut self) -> Result<()> {
        /// LOOPBACK_IFINDEX of the kernel: the first device of every namespace.
        const LOOPBACK: u32 = 1;
        self.up(LOOPBACK, "lo")
    }

    pub(crate) fn up(&mut self, index: u32, name: &str) -> Result<()> {
        let request = Request::new(RTM_NEWLINK, NLM_F_ACK, format!("{name}, up"));
        self.0.ask(&request.link(index, IFF_UP, IFF_UP))?;
        Ok(())
    }

    /// Makes a bridge whose hardware address stays, whatever ports come and go.
    pub(crate) fn add_bridge(&mut self, name: &str, mac: Mac, mtu: u32) -> Result<()> {
        let info = Attributes::new().string(IFLA_INFO_KIND, "bridge");
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let request = Request::new(RTM_NEWLINK, flags, format!("{name}, new bridge"))
            .link(0, IFF_UP, IFF_UP)
            .string(IFLA_IFNAME, name)
            .attribute(IFLA_ADDRESS, &mac.0)
            .u32(IFLA_MTU, mtu)
            .nest(IFLA_LINKINFO, &info);
        unless(self.0.ask(&request), &[Errno::EXIST])?;
        Ok(())
    }

    /// Makes a pair of links in one request: one up and a port of the bridge, the other in the
    /// pod's namespace under its final name (the kernel refuses to have it up at once).
    pub(crate) fn add_veth(&mut self, veth: &Veth<'_>) -> Result<()> {
        let fd = u32::try_from(veth.netns.as_raw_fd()).unwrap_or(u32::MAX);
        let peer = Attributes::behind(&[0; IFINFOMSG])
            .string(IFLA_IFNAME, veth.pod)
            .bytes(IFLA_ADDRESS, &veth.mac.0)
            .u32(IFLA_MTU, veth.mtu)
            .u32(IFLA_NET_NS_FD, fd);
        let data = Attributes::new().nest(VETH_INFO_PEER, &peer);
        let info = Attributes::new()
            .string(IFLA_INFO_KIND, "veth")
            .nest(IFLA_INFO_DATA, &data);
        let what = format!("{} to {} in a pod, new veth", veth.host, veth.pod);
        let request = Request::new(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, what)
            .link(0, IFF_UP, IFF_UP)
            .string(IFLA_IFNAME, veth.host)
            .u32(IFLA_MTU, veth.mtu)
            .u32(IFLA_MASTER, veth.bridge)
            .nest(IFLA_LINKINFO, &info);
        self.0.ask(&request)?;
        Ok(())
    }

    /// What is told of a port once it is one: whose it is, and that a packet may go back out of
    /// it (a pod that calls itself through the machine's port, where bridged packets are
    /// filtered by br_netfilter).
    pub(crate) fn describe_port(&mut self, link: &Link, alias: &str) -> Result<()> {
        let slave = Attributes::new().u8(IFLA_BRPORT_MODE, 1);
        let info = Attributes::new()
            .string(IFLA_INFO_SLAVE_KIND, "bridge")
            .nest(IFLA_INFO_SLAVE_DATA, &slave);
        let what = format!("{}, bridge port", link.name);
        let request = Request::new(RTM_NEWLINK, NLM_F_ACK, what)
            .link(link.index, 0, 0)
            .string(IFLA_IFALIAS, alias)
            .nest(IFLA_LINKINFO, &info);
        self.0.ask(&request)?;
        Ok(())
    }

    /// Makes the link a port of the bridge again.
    pub(crate) fn set_master(&mut self, link: &Link, bridge: u32) -> Result<()> {
        let what = format!("{}, master {bridge}", link.name);
        let request = Request::new(RTM_NEWLINK, NLM_F_ACK, what)
            .link(link.index, IFF_UP, IFF_UP)
            .u32(IFLA_MASTER, bridge);
        self.0.ask(&request)?;
        Ok(())
    }

    /// Removes a link. One that is gone is no error.
    pub(crate) fn delete(&mut self, link: &Link) -> Result<()> {
        let what = format!("{}, delete", link.name);
        let request = Request::new(RTM_DELLINK, NLM_F_ACK, what).link(link.index, 0, 0);
        unless(self.0.ask(&request), &[Errno::NODEV])?;
        Ok(())
    }
}

/// `struct ifinfomsg` and its attributes.
pub(crate) fn parse(body: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: u32_at(body, 4)?,
        up: u32_at(body, 8)? & IFF_UP != 0,
        ..Link::default()
    };
    for (kind, value) in attributes(body, IFINFOMSG) {
        match kind {
            IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_MASTER => link.master = u32_at(value, 0),
            IFLA_IFALIAS => link.alias = text(value),
            IFLA_STATS64 => link.counters = counters(value),
            IFLA_LINKINFO => {
                let info = attributes(value, 0);
                let kind = info.iter().find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = kind.map(|(_, value)| text(value)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

/// A C string.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// The first fields of `struct rtnl_link_stats64`.
fn counters(value: &[u8]) -> Counters {
    let field = |place: usize| {
        let bytes = value.get(place * 8..place * 8 + 8);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_ne_bytes).unwrap_or_default()
    };
    Counters {
        rx_packets: field(0),
        tx_packets: field(1),
        rx_bytes: field(2),
        tx_bytes: field(3),
        rx_errors: field(4),
        tx_errors: field(5),
        rx_dropped: field(6),
        tx_dropped: field(7),
    }
}
