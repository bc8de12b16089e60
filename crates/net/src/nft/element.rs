//! Elements of our sets and maps: all that changes when a pod comes or goes.

use std::net::IpAddr;

use ipnet::IpNet;
use sys::netlink::{Attributes, attributes};

use super::Family;
use super::expression::link_name;
use crate::attachment::{Attachment, Mac, PortMapping};

/// NFT_SET_MAP.
pub(super) const NFT_SET_MAP: u32 = 8;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const NFTA_DATA_VALUE: u16 = 1;

/// Numbers of nft's data types: only nft(8) reads them, to print a set.
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const ETHER: u32 = 9;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
const LINK: u32 = 41;

/// Our sets and maps.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Set {
    /// Protocol and port on all IPv4 addresses → pod's address and port.
    Any4,
    /// The same for IPv6.
    Any6,
    /// Protocol, IPv4 address and port → pod's address and port.
    One4,
    /// The same for IPv6.
    One6,
    /// Links that lead to pods.
    Ports,
    /// Links and the hardware address behind each.
    Stations,
    /// Links, hardware addresses and IPv4 addresses behind them.
    Sources4,
    /// The same for IPv6.
    Sources6,
}

impl Set {
    pub(crate) const ALL: [Self; 8] = [
        Self::Any4,
        Self::Any6,
        Self::One4,
        Self::One6,
        Self::Ports,
        Self::Stations,
        Self::Sources4,
        Self::Sources6,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Any4 => "any4",
            Self::Any6 => "any6",
            Self::One4 => "one4",
            Self::One6 => "one6",
            Self::Ports => "ports",
            Self::Stations => "stations",
            Self::Sources4 => "sources4",
            Self::Sources6 => "sources6",
        }
    }

    pub(crate) fn family(self) -> Family {
        match self {
            Self::Any4 | Self::Any6 | Self::One4 | Self::One6 => Family::Inet,
            Self::Ports | Self::Stations | Self::Sources4 | Self::Sources6 => Family::Bridge,
        }
    }

    /// Types of the parts of a key, and of a value.
    fn types(self) -> (&'static [u32], &'static [u32]) {
        match self {
            Self::Any4 => (&[PROTOCOL, SERVICE], &[IPV4, SERVICE]),
            Self::Any6 => (&[PROTOCOL, SERVICE], &[IPV6, SERVICE]),
            Self::One4 => (&[PROTOCOL, IPV4, SERVICE], &[IPV4, SERVICE]),
            Self::One6 => (&[PROTOCOL, IPV6, SERVICE], &[IPV6, SERVICE]),
            Self::Ports => (&[LINK], &[]),
            Self::Stations => (&[LINK, ETHER], &[]),
            Self::Sources4 => (&[LINK, ETHER, IPV4], &[]),
            Self::Sources6 => (&[LINK, ETHER, IPV6], &[]),
        }
    }

    /// The attributes behind table and name that make the set.
    pub(super) fn define(self, id: u32) -> Attributes {
        let (key, value) = self.types();
        let flags = if value.is_empty() { 0 } else { NFT_SET_MAP };
        let attributes = Attributes::new()
            .be32(3, flags)
            .be32(4, concatenated(key))
            .be32(5, length(key))
            .be32(10, id);
        if value.is_empty() {
            return attributes;
        }
        attributes
            .be32(6, concatenated(value))
            .be32(7, length(value))
    }
}

/// nft's number for several types side by side.
fn concatenated(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, kind| (all << 6) | kind)
}

/// Length of the parts, each filled up to whole registers.
fn length(types: &[u32]) -> u32 {
    let one = |kind: &u32| match *kind {
        IPV6 | LINK => 16,
        ETHER => 8,
        _ => 4,
    };
    types.iter().map(one).sum()
}

/// An element of a set or a map.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Element {
    pub(crate) set: Set,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// Whose it is; nft(8) prints it as a comment.
    pub(crate) id: String,
}

impl Element {
    pub(super) fn encode(&self, list: Attributes) -> Attributes {
        let key = Attributes::new().bytes(NFTA_DATA_VALUE, &self.key);
        let mut element = Attributes::new().nest(NFTA_SET_ELEM_KEY, &key);
        if !self.value.is_empty() {
            let value = Attributes::new().bytes(NFTA_DATA_VALUE, &self.value);
            element = element.nest(NFTA_SET_ELEM_DATA, &value);
        }
        element = element.bytes(NFTA_SET_ELEM_USERDATA, &comment(&self.id));
        list.nest(NFTA_LIST_ELEM, &element)
    }

    /// The host's port and protocol, where it is one that leads to a pod.
    pub(crate) fn host_port(&self) -> Option<String> {
        if self.set.family() != Family::Inet {
            return None;
        }
        let protocol = match self.key.first()? {
            6 => "tcp",
            17 => "udp",
            _ => "sctp",
        };
        let at = self.key.len().checked_sub(4)?;
        let port = self.key.get(at..at + 2)?.try_into().ok()?;
        Some(format!("{}/{protocol}", u16::from_be_bytes(port)))
    }

    /// Reads the elements that a dump's message lists.
    pub(crate) fn decode(set: Set, list: &[u8]) -> Vec<Self> {
        let read = |element: &[u8]| {
            let mut this = Self {
                set,
                key: Vec::new(),
                value: Vec::new(),
                id: String::new(),
            };
            for (kind, bytes) in attributes(element, 0) {
                match kind {
                    NFTA_SET_ELEM_KEY => this.key = value(bytes),
                    NFTA_SET_ELEM_DATA => this.value = value(bytes),
                    NFTA_SET_ELEM_USERDATA => this.id = read_comment(bytes).unwrap_or_default(),
                    _ => {}
                }
            }
            this
        };
        let items = attributes(list, 0).into_iter();
        items
            .filter(|(kind, _)| *kind == NFTA_LIST_ELEM)
            .map(|(_, element)| read(element))
            .collect()
    }
}

fn value(bytes: &[u8]) -> Vec<u8> {
    let list = attributes(bytes, 0);
    let value = list.iter().find(|(kind, _)| *kind == NFTA_DATA_VALUE);
    value.map(|(_, value)| value.to_vec()).unwrap_or_default()
}

/// A comment as nft(8) keeps it: type 0, length, text with a NUL.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let text: Vec<u8> = text.bytes().take(127).chain([0]).collect();
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[0, length], text.as_slice()].concat()
}

pub(crate) fn read_comment(bytes: &[u8]) -> Option<String> {
    let &[0, length, ref text @ ..] = bytes else {
        return None;
    };
    let text = text.get(..usize::from(length))?;
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The elements of a pod: what its link may send, and what leads to its ports.
pub(crate) fn elements_of(
    attachment: &Attachment,
    host_link: &str,
    mac: Mac,
    ips: &[IpNet],
) -> Vec<Element> {
    let new = |set, key, value| Element {
        set,
        key,
        value,
        id: attachment.id.clone(),
    };
    let link = link_name(host_link).to_vec();
    let station = [link.as_slice(), &mac.0, &[0, 0]].concat();
    let mut list = vec![
        new(Set::Ports, link, Vec::new()),
        new(Set::Stations, station.clone(), Vec::new()),
    ];
    for ip in ips.iter().map(IpNet::addr) {
        let set = if ip.is_ipv4() {
            Set::Sources4
        } else {
            Set::Sources6
        };
        list.push(new(
            set,
            [station.as_slice(), &octets(ip)].concat(),
            Vec::new(),
        ));
    }
    for mapping in &attachment.ports {
        for pod in first_of_each_family(ips) {
            for (set, key, value) in port_elements(mapping, pod) {
                list.push(new(set, key, value));
            }
        }
    }
    list.sort();
    list.dedup();
    list
}

/// Ports lead to the first address of each family.
fn first_of_each_family(ips: &[IpNet]) -> impl Iterator<Item = IpAddr> + '_ {
    let first = |v4: bool| {
        let mut family = ips.iter().filter(move |ip| ip.addr().is_ipv4() == v4);
        family.next().map(IpNet::addr)
    };
    first(true).into_iter().chain(first(false))
}

fn port_elements(mapping: &PortMapping, pod: IpAddr) -> Vec<(Set, Vec<u8>, Vec<u8>)> {
    if !mapping.covers(pod) {
        return Vec::new();
    }
    let protocol = [mapping.protocol.number(), 0, 0, 0];
    let port = |port: u16| [port.to_be_bytes(), [0, 0]].concat();
    let set = match (mapping.one_host_ip(), pod.is_ipv4()) {
        (None, true) => Set::Any4,
        (None, false) => Set::Any6,
        (Some(_), true) => Set::One4,
        (Some(_), false) => Set::One6,
    };
    let host = mapping.one_host_ip().map(octets).unwrap_or_default();
    let pairs = mapping.pairs();
    pairs
        .map(|(outside, inside)| {
            let key = [protocol.as_slice(), &host, &port(outside)].concat();
            let value = [octets(pod), port(inside)].concat();
            (set, key, value)
        })
        .collect()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
