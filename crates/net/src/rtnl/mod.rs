//! rtnetlink(7): links, addresses, routes, neighbours.

mod limit;
mod link;
mod route;

pub use link::Counters;
pub(crate) use link::{Link, Veth, parse as parse_link};
pub(crate) use route::{Address, parse_address, parse_route};

use sys::netlink::{Protocol, Socket};

use crate::Result;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_STATS64: u16 = 23;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;

const IFF_UP: u32 = 1;
/// Length of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
/// Length of `struct ifaddrmsg`.
const IFADDRMSG: usize = 8;
/// Length of `struct rtmsg`.
const RTMSG: usize = 12;

/// The links of one network namespace: that of the thread which opened this.
#[derive(Debug)]
pub(crate) struct Links(Socket);

impl Links {
    pub(crate) fn open() -> Result<Self> {
        Ok(Self(Socket::open(Protocol::Route)?))
    }
}

/// The number of an address family in messages.
fn family(ip: std::net::IpAddr) -> u8 {
    if ip.is_ipv4() { 2 } else { 10 }
}

fn octets(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
