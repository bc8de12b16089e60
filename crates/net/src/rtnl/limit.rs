//! Limits of a pod's traffic: token buckets of the kernel (`tbf`).
//!
//! What goes to a pod waits on the link that leads to it. What comes from it is sent by way of a
//! link of ours (`ifb`) and waits there: on the pod's own end, its root could take the limit off.

use sys::netlink::{Attributes, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request};

use super::link::Link;
use super::{
    IFF_UP, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, Links, RTM_NEWLINK,
    RTM_NEWQDISC, RTM_NEWTFILTER,
};
use crate::attachment::Bandwidth;
use crate::{Error, Result};

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
/// The handle of the qdisc at TC_H_INGRESS.
const INGRESS: u32 = 0xffff_0000;

impl Links {
    /// Limits what goes to a pod and what comes from it. `host` is the link that leads to it.
    pub(crate) fn limit(
        &mut self,
        host: &Link,
        bandwidth: Bandwidth,
        ifb: &str,
        alias: &str,
    ) -> Result<()> {
        if let Some(bits) = bandwidth.ingress {
            self.token_bucket(host, bits)?;
        }
        let Some(bits) = bandwidth.egress else {
            return Ok(());
        };
        let info = Attributes::new().string(IFLA_INFO_KIND, "ifb");
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let request = Request::new(RTM_NEWLINK, flags, format!("{ifb}, new ifb"))
            .link(0, IFF_UP, IFF_UP)
            .string(IFLA_IFNAME, ifb)
            .nest(IFLA_LINKINFO, &info);
        self.0.ask(&request)?;
        let queue = self
            .find(ifb)?
            .ok_or_else(|| Error::from(sys::Error::new("rtnetlink", ifb, sys::Errno::NODEV)))?;
        let request = Request::new(RTM_NEWLINK, NLM_F_ACK, format!("{ifb}, alias"))
            .link(queue.index, 0, 0)
            .string(IFLA_IFALIAS, alias);
        self.0.ask(&request)?;
        self.token_bucket(&queue, bits)?;
        self.redirect(host, &queue)
    }

    fn token_bucket(&mut self, link: &Link, bits: u64) -> Result<()> {
        let what = format!("{}, at most {bits} bits a second", link.name);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let request = Request::new(RTM_NEWQDISC, flags, what)
            .fixed(&tcmsg(link, 0x0001_0000, TC_H_ROOT, 0))
            .string(TCA_KIND, "tbf")
            .nest(TCA_OPTIONS, &bucket(bits / 8));
        self.0.ask(&request)?;
        Ok(())
    }

    /// Sends all that comes in by one link out by another.
    fn redirect(&mut self, from: &Link, to: &Link) -> Result<()> {
        const TCA_U32_SEL: u16 = 5;
        const TCA_U32_ACT: u16 = 7;
        /// Priority 1, ETH_P_ALL in network byte order.
        const ALL: u32 = (1 << 16) | 3_u16.to_be() as u32;
        let what = format!("{}, by way of {}", from.name, to.name);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let request = Request::new(RTM_NEWQDISC, flags, what.as_str())
            .fixed(&tcmsg(from, INGRESS, TC_H_INGRESS, 0))
            .string(TCA_KIND, "ingress");
        self.0.ask(&request)?;
        // One key that everything matches: no bit of it counts.
        let mut selector = [0_u8; 32];
        selector[0] = 1;
        selector[2] = 1;
        let options = Attributes::new()
            .bytes(TCA_U32_SEL, &selector)
            .nest(TCA_U32_ACT, &Attributes::new().nest(1, &mirror(to)));
        let request = Request::new(RTM_NEWTFILTER, flags, what)
            .fixed(&tcmsg(from, 0, INGRESS, ALL))
            .string(TCA_KIND, "u32")
            .nest(TCA_OPTIONS, &options);
        self.0.ask(&request)?;
        Ok(())
    }
}

/// `struct tcmsg`.
fn tcmsg(link: &Link, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let fields = [0, link.index, handle, parent, info];
    fields.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// The action that takes a packet and sends it out by another link.
fn mirror(to: &Link) -> Attributes {
    const TCA_ACT_KIND: u16 = 1;
    const TCA_ACT_OPTIONS: u16 = 2;
    const TCA_MIRRED_PARMS: u16 = 2;
    const TC_ACT_STOLEN: u32 = 4;
    const TCA_EGRESS_REDIR: u32 = 1;
    // struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
    let fields = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to.index];
    let bytes: Vec<u8> = fields.into_iter().flat_map(u32::to_ne_bytes).collect();
    let options = Attributes::new().bytes(TCA_MIRRED_PARMS, &bytes);
    Attributes::new()
        .string(TCA_ACT_KIND, "mirred")
        .nest(TCA_ACT_OPTIONS, &options)
}

/// A bucket that fills at a rate of bytes a second.
fn bucket(rate: u64) -> Attributes {
    const TCA_TBF_PARMS: u16 = 1;
    const TCA_TBF_RATE64: u16 = 4;
    const TCA_TBF_BURST: u16 = 6;
    /// TC_LINKLAYER_ETHERNET: the kernel reckons by itself and needs no table.
    const ETHERNET: u8 = 1;
    /// A tenth of a second's worth, and no less than some packets.
    const LEAST: u64 = 64 * 1024;
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let burst = narrow((rate / 10).max(LEAST));
    // What waits: another tenth of a second.
    let limit = burst.saturating_mul(2);
    let mut parameters = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    parameters.extend(narrow(rate).to_ne_bytes());
    parameters.extend([0; 12]);
    for field in [limit, 0, 0] {
        parameters.extend(field.to_ne_bytes());
    }
    let list = Attributes::new()
        .bytes(TCA_TBF_PARMS, &parameters)
        .u32(TCA_TBF_BURST, burst);
    if rate > u32::MAX.into() {
        return list.bytes(TCA_TBF_RATE64, &rate.to_ne_bytes());
    }
    list
}
