//! Connections that the kernel remembers and that lead to the wrong place.
//!
//! A UDP flow has no end: as long as a client goes on sending, its packets go where the first one
//! went, whatever the rules say by now.

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;
use sys::netlink::{
    Attributes, NLM_F_ACK, NLM_F_DUMP, Protocol as Netlink, Request, Socket, attributes,
};

use crate::Result;
use crate::attachment::{PortMapping, Protocol};
use crate::error::unless;
use crate::rtnl::Links;

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_NEW: u16 = NFNL_SUBSYS_CTNETLINK << 8;
const IPCTNL_MSG_CT_GET: u16 = IPCTNL_MSG_CT_NEW | 1;
const IPCTNL_MSG_CT_DELETE: u16 = IPCTNL_MSG_CT_NEW | 2;
/// Length of `struct nfgenmsg`.
const NFGENMSG: usize = 4;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    port: u16,
}

/// A flow that the kernel remembers.
#[derive(Debug)]
pub(crate) struct Flow {
    family: u8,
    there: Tuple,
    back: Tuple,
    /// What names it to the kernel.
    name: Attributes,
}

/// Forgets flows to these ports of the machine that began before the ports led to a pod.
pub(crate) fn forget_before(ports: &[PortMapping]) -> Result<()> {
    if !ports.iter().any(is_endless) {
        return Ok(());
    }
    let local: Vec<IpAddr> = Links::open()?
        .addresses()?
        .iter()
        .map(|address| address.net.addr())
        .collect();
    forget(|flow| {
        let to_us = local.contains(&flow.there.destination);
        to_us && flow.back.source == flow.there.destination && is_to(flow, ports)
    })
}

/// Forgets flows that these ports led to a pod which is gone.
pub(crate) fn forget_after(ports: &[PortMapping], pod: &[IpNet]) -> Result<()> {
    if !ports.iter().any(is_endless) {
        return Ok(());
    }
    forget(|flow| {
        let led = pod.iter().any(|net| net.addr() == flow.back.source);
        led && is_to(flow, ports)
    })
}

fn is_endless(port: &PortMapping) -> bool {
    port.protocol != Protocol::Tcp
}

fn is_to(flow: &Flow, ports: &[PortMapping]) -> bool {
    ports.iter().filter(|port| is_endless(port)).any(|port| {
        let here = port.one_host_ip();
        port.protocol.number() == flow.there.protocol
            && here.is_none_or(|ip| ip == flow.there.destination)
            && port.has_host_port(flow.there.port)
    })
}

fn forget(wanted: impl Fn(&Flow) -> bool) -> Result<()> {
    let mut socket = Socket::open(Netlink::Netfilter)?;
    let request = Request::new(IPCTNL_MSG_CT_GET, NLM_F_DUMP, "all connections");
    // Without connection tracking there is nothing to forget.
    let none = [Errno::INVAL, Errno::OPNOTSUPP];
    let answer = unless(socket.ask(&request.fixed(&[0; NFGENMSG])), &none)?;
    let flows = answer.iter().filter(|m| m.kind == IPCTNL_MSG_CT_NEW);
    for flow in flows.filter_map(|m| parse(&m.body)).filter(wanted) {
        let request = Request::new(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, "forget a connection")
            .fixed(&[flow.family, 0, 0, 0])
            .all(&flow.name);
        unless(socket.ask(&request), &[Errno::NOENT])?;
    }
    Ok(())
}

pub(crate) fn parse(body: &[u8]) -> Option<Flow> {
    let family = *body.first()?;
    let (mut there, mut back) = (None, None);
    let mut name = Attributes::new();
    for (kind, value) in attributes(body, NFGENMSG) {
        match kind {
            CTA_TUPLE_ORIG => {
                there = tuple(value);
                name = name.nest(kind, &Attributes::behind(value));
            }
            CTA_TUPLE_REPLY => back = tuple(value),
            CTA_ID | CTA_ZONE => name = name.bytes(kind, value),
            _ => {}
        }
    }
    Some(Flow {
        family,
        there: there?,
        back: back?,
        name,
    })
}

/// What holds for every flow that could be read.
pub(crate) fn sound(flow: &Flow) {
    for way in [flow.there, flow.back] {
        assert_eq!(way.source.is_ipv4(), way.destination.is_ipv4());
    }
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let parts = attributes(bytes, 0);
    let part = |wanted| {
        let found = parts.iter().find(|(kind, _)| *kind == wanted);
        found.map(|(_, value)| attributes(value, 0))
    };
    let (ips, protocol) = (part(CTA_TUPLE_IP)?, part(CTA_TUPLE_PROTO)?);
    let ip = |wanted: [u16; 2]| {
        let (_, value) = ips.iter().find(|(kind, _)| wanted.contains(kind))?;
        let four: Option<[u8; 4]> = (*value).try_into().ok();
        let sixteen: Option<[u8; 16]> = (*value).try_into().ok();
        four.map(IpAddr::from).or_else(|| sixteen.map(IpAddr::from))
    };
    let get = |wanted| protocol.iter().find(|(kind, _)| *kind == wanted);
    let (_, number) = get(CTA_PROTO_NUM)?;
    let port = get(CTA_PROTO_DST_PORT).and_then(|(_, port)| (*port).try_into().ok());
    let source = ip([CTA_IP_V4_SRC, CTA_IP_V6_SRC])?;
    let destination = ip([CTA_IP_V4_DST, CTA_IP_V6_DST])?;
    (source.is_ipv4() == destination.is_ipv4()).then_some(Tuple {
        source,
        destination,
        protocol: *number.first()?,
        port: port.map(u16::from_be_bytes).unwrap_or_default(),
    })
}
