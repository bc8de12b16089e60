//! Our chains and rules. They depend on the configuration only: pods are elements of sets.

use ipnet::IpNet;

use super::Family;
use super::expression::{Base, Connection, Expressions, FIRST, Meta, link_name};
use crate::Config;

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// RTN_LOCAL: an address of this machine.
const RTN_LOCAL: u32 = 2;
/// IPS_DST_NAT: the destination was rewritten.
const REWRITTEN: u32 = 0x20;
const ESTABLISHED: u32 = 0x2;
const RELATED: u32 = 0x4;

/// A base chain: where packets enter our rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    pub(super) kind: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// A chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
    pub(super) hook: Option<Hook>,
}

/// A rule, with the comment by which it is known again.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) family: Family,
    pub(crate) chain: &'static str,
    pub(crate) comment: String,
    pub(super) expressions: Expressions,
}

/// All chains and rules of a network.
#[derive(Clone, Debug)]
pub(crate) struct Ruleset {
    pub(crate) table: String,
    pub(crate) chains: Vec<Chain>,
    pub(crate) rules: Vec<Rule>,
}

const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

fn chains(config: &Config) -> Vec<Chain> {
    let base = |family, name, kind, number, priority| Chain {
        family,
        name,
        hook: Some(Hook {
            kind,
            number,
            priority,
        }),
    };
    let mut list = vec![
        Chain {
            family: Family::Inet,
            name: "hostports",
            hook: None,
        },
        // Before connection tracking: a reply that will be rewritten to 127.0.0.1 is not so yet.
        base(Family::Inet, "guard", "filter", PREROUTING, -300),
        base(Family::Inet, "arriving", "nat", PREROUTING, -100),
        base(Family::Inet, "local", "nat", OUTPUT, -100),
        base(Family::Inet, "forwarded", "filter", FORWARD, 0),
        base(Family::Inet, "leaving", "nat", POSTROUTING, 100),
    ];
    if config.source_check {
        list.push(base(Family::Bridge, "sources", "filter", PREROUTING, -300));
    }
    list
}

impl Ruleset {
    pub(crate) fn new(config: &Config) -> Self {
        let mut this = Self {
            table: config.table(),
            chains: chains(config),
            rules: Vec::new(),
        };
        this.guard(config);
        this.host_ports();
        this.forwarded(config);
        this.leaving(config);
        if config.source_check {
            this.sources();
        }
        this
    }

    fn add(&mut self, family: Family, chain: &'static str, words: &str, rule: Expressions) {
        // A rule that another version of us would write differently is another rule.
        let comment = format!(
            "{words} [{:08x}]",
            crate::hash(rule.0.as_bytes()) & 0xffff_ffff
        );
        self.rules.push(Rule {
            family,
            chain,
            comment,
            expressions: rule,
        });
    }

    fn inet(&mut self, chain: &'static str, words: &str, rule: Expressions) {
        self.add(Family::Inet, chain, words, rule);
    }

    /// With route_localnet on the bridge, a pod could reach what listens on 127.0.0.1
    /// (CVE-2020-8558).
    fn guard(&mut self, config: &Config) {
        let bridge = config.bridge.as_str();
        for (offset, words) in [
            (16, "pods do not reach the machine's loopback addresses"),
            (12, "pods do not send from loopback addresses"),
        ] {
            let rule = from(bridge)
                .of_family(NFPROTO_IPV4)
                .payload(Base::Network, offset, 1, FIRST)
                .equals(&[127])
                .drop();
            self.inet("guard", words, rule);
        }
    }

    /// Only what is addressed to this machine is looked up (CVE-2025-67499).
    fn host_ports(&mut self) {
        for chain in ["arriving", "local"] {
            if chain == "local" {
                let rule = Expressions::default()
                    .of_family(NFPROTO_IPV6)
                    .payload(Base::Network, 24, 16, FIRST)
                    .equals(&std::net::Ipv6Addr::LOCALHOST.octets())
                    .back();
                // The kernel routes nothing from ::1 to another link: refused beats silence.
                self.inet(chain, "no host ports on ::1", rule);
            }
            let rule = Expressions::default()
                .destination_kind()
                .equals(&RTN_LOCAL.to_ne_bytes())
                .jump("hostports");
            self.inet(chain, "addressed to this machine", rule);
        }
        for (family, offset, length, one, any) in [
            (NFPROTO_IPV4, 16, 4, "one4", "any4"),
            (NFPROTO_IPV6, 24, 16, "one6", "any6"),
        ] {
            let registers = length / 4;
            let rule = Expressions::default()
                .of_family(family)
                .meta(Meta::TransportProtocol, FIRST)
                .payload(Base::Network, offset, length, FIRST + 1)
                .payload(Base::Transport, 2, 2, FIRST + 1 + registers)
                .map(one)
                .dnat(family.into(), FIRST + registers);
            self.inet("hostports", "a port of one address", rule);
            let rule = Expressions::default()
                .of_family(family)
                .meta(Meta::TransportProtocol, FIRST)
                .payload(Base::Transport, 2, 2, FIRST + 1)
                .map(any)
                .dnat(family.into(), FIRST + registers);
            self.inet("hostports", "a port of all addresses", rule);
        }
    }

    fn forwarded(&mut self, config: &Config) {
        let bridge = config.bridge.as_str();
        if config.source_check {
            for net in subnets(config) {
                let rule = from(bridge).outside(net, Side::Source);
                // Bridged frames come by here where br_netfilter is on.
                let rule = rule.routable(net).counter().drop();
                self.inet("forwarded", "pods send from pods' addresses", rule);
            }
        }
        if !config.published_only {
            return;
        }
        let rule = to(bridge)
            .connection(Connection::State, ESTABLISHED | RELATED)
            .accept();
        self.inet("forwarded", "answers to pods", rule);
        let rule = to(bridge)
            .connection(Connection::Status, REWRITTEN)
            .accept();
        self.inet("forwarded", "published ports", rule);
        let rule = to(bridge)
            .meta(Meta::InName, FIRST)
            .differs(&link_name(bridge))
            .counter()
            .drop();
        self.inet("forwarded", "nothing else reaches pods", rule);
    }

    fn leaving(&mut self, config: &Config) {
        let bridge = config.bridge.as_str();
        for net in subnets(config) {
            // The answer must come back to the machine that rewrote the destination.
            let rule = to(bridge)
                .within(net, Side::Source)
                .connection(Connection::Status, REWRITTEN)
                .masquerade();
            self.inet("leaving", "a pod by way of a host port", rule);
        }
        let rule = to(bridge)
            .of_family(NFPROTO_IPV4)
            .payload(Base::Network, 12, 1, FIRST)
            .equals(&[127])
            .masquerade();
        self.inet("leaving", "127.0.0.1 by way of a host port", rule);
        if !config.masquerade {
            return;
        }
        for net in subnets(config) {
            let rule = Expressions::default()
                .meta(Meta::OutName, FIRST)
                .differs(&link_name(bridge))
                .within(net, Side::Source)
                .outside(net, Side::Destination)
                .not_multicast(net)
                .masquerade();
            self.inet("leaving", "pods to the world", rule);
        }
    }

    /// What a pod's link may bring into the bridge: its own addresses, and no router
    /// advertisements (CVE-2020-10749).
    fn sources(&mut self) {
        let mut add = |words: &str, rule: Expressions| {
            self.add(Family::Bridge, "sources", words, rule);
        };
        let rule = Expressions::default()
            .meta(Meta::InName, FIRST)
            .not_in_set("ports")
            .accept();
        add("links of others", rule);
        let rule = station().not_in_set("stations").counter().drop();
        add("a foreign hardware address", rule);
        let rule = frame([0x08, 0x00]).sender(12, 4, "sources4").accept();
        add("IPv4 from its address", rule);
        let rule = frame([0x08, 0x06]).sender(14, 4, "sources4").accept();
        add("ARP of its address", rule);
        let rule = frame([0x08, 0x06])
            .payload(Base::Network, 14, 4, FIRST)
            .equals(&[0; 4])
            .accept();
        add("ARP that asks whether an address is free", rule);
        for (kind, words) in [(134, "router advertisement"), (137, "redirect")] {
            let rule = frame([0x86, 0xdd])
                .meta(Meta::TransportProtocol, FIRST)
                .equals(&[58])
                .payload(Base::Transport, 0, 1, FIRST)
                .equals(&[kind])
                .counter()
                .drop();
            add(words, rule);
        }
        let rule = frame([0x86, 0xdd]).sender(8, 16, "sources6").accept();
        add("IPv6 from its address", rule);
        let rule = frame([0x86, 0xdd])
            .payload(Base::Network, 8, 2, FIRST)
            .mask(&[0xff, 0xc0])
            .equals(&[0xfe, 0x80])
            .accept();
        add("IPv6 from a link-local address", rule);
        let rule = frame([0x86, 0xdd])
            .payload(Base::Network, 8, 16, FIRST)
            .equals(&[0; 16])
            .accept();
        add("IPv6 that asks whether an address is free", rule);
        add("all else", Expressions::default().counter().drop());
    }
}

fn subnets(config: &Config) -> Vec<IpNet> {
    let four = config.subnet4.map(IpNet::V4);
    four.into_iter()
        .chain(config.subnet6.map(IpNet::V6))
        .collect()
}

fn from(link: &str) -> Expressions {
    Expressions::default()
        .meta(Meta::InName, FIRST)
        .equals(&link_name(link))
}

fn to(link: &str) -> Expressions {
    Expressions::default()
        .meta(Meta::OutName, FIRST)
        .equals(&link_name(link))
}

fn frame(kind: [u8; 2]) -> Expressions {
    Expressions::default()
        .payload(Base::Link, 12, 2, FIRST)
        .equals(&kind)
}

/// Link and hardware address of the sender in the registers.
fn station() -> Expressions {
    Expressions::default()
        .meta(Meta::InName, FIRST)
        .payload(Base::Link, 6, 6, FIRST + 4)
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Source,
    Destination,
}

impl Expressions {
    fn of_family(self, family: u8) -> Self {
        self.meta(Meta::NetworkProtocol, FIRST).equals(&[family])
    }

    /// Link, hardware address, and the address at an offset of the network header, in a set.
    fn sender(self, offset: u32, length: u32, set: &str) -> Self {
        self.meta(Meta::InName, FIRST)
            .payload(Base::Link, 6, 6, FIRST + 4)
            .payload(Base::Network, offset, length, FIRST + 6)
            .in_set(set)
    }

    fn address(self, net: IpNet, side: Side) -> (Self, Vec<u8>) {
        let (family, offset, length) = match (net, side) {
            (IpNet::V4(_), Side::Source) => (NFPROTO_IPV4, 12, 4),
            (IpNet::V4(_), Side::Destination) => (NFPROTO_IPV4, 16, 4),
            (IpNet::V6(_), Side::Source) => (NFPROTO_IPV6, 8, 16),
            (IpNet::V6(_), Side::Destination) => (NFPROTO_IPV6, 24, 16),
        };
        let (network, mask) = match net {
            IpNet::V4(net) => (
                net.network().octets().to_vec(),
                net.netmask().octets().to_vec(),
            ),
            IpNet::V6(net) => (
                net.network().octets().to_vec(),
                net.netmask().octets().to_vec(),
            ),
        };
        let this = self
            .of_family(family)
            .payload(Base::Network, offset, length, FIRST)
            .mask(&mask);
        (this, network)
    }

    fn within(self, net: IpNet, side: Side) -> Self {
        let (this, network) = self.address(net, side);
        this.equals(&network)
    }

    fn outside(self, net: IpNet, side: Side) -> Self {
        let (this, network) = self.address(net, side);
        this.differs(&network)
    }

    /// Goes on where an IPv6 source is neither link-local nor missing.
    fn routable(self, net: IpNet) -> Self {
        if matches!(net, IpNet::V4(_)) {
            return self;
        }
        self.payload(Base::Network, 8, 16, FIRST)
            .differs(&[0; 16])
            .mask(&[&[0xff, 0xc0], [0; 14].as_slice()].concat())
            .differs(&[&[0xfe, 0x80], [0; 14].as_slice()].concat())
    }

    fn not_multicast(self, net: IpNet) -> Self {
        match net {
            IpNet::V4(_) => self
                .payload(Base::Network, 16, 1, FIRST)
                .mask(&[0xf0])
                .differs(&[0xe0]),
            IpNet::V6(_) => self.payload(Base::Network, 24, 1, FIRST).differs(&[0xff]),
        }
    }
}
