//! One pod's place in the network: what is asked for, and what it got.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// IFNAMSIZ, with the NUL.
const NAME_SIZE: usize = 16;

/// What a pod asks for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Attachment {
    /// The sandbox's id.
    pub id: String,
    /// Its network namespace: a path to it (`/run/hull/netns/ID`, `/proc/PID/ns/net`).
    pub netns: PathBuf,
    /// Name of the link inside.
    pub interface: String,
    /// Ports of the machine that lead to it.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// Addresses that it must have instead of the next free ones.
    #[serde(default)]
    pub ips: Vec<IpAddr>,
    /// Hardware address that it must have.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Limits of its traffic.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// Its names, for plugins.
    #[serde(default)]
    pub pod: PodName,
    /// Resolver settings, for plugins.
    #[serde(default)]
    pub dns: Dns,
    /// Its control group, for plugins.
    #[serde(default)]
    pub cgroup: Option<String>,
}

impl Attachment {
    /// An attachment with the usual interface and nothing special.
    pub fn new(id: impl Into<String>, netns: impl Into<PathBuf>) -> Self {
        Self {
            id: id.into(),
            netns: netns.into(),
            interface: "eth0".into(),
            ports: Vec::new(),
            ips: Vec::new(),
            mac: None,
            bandwidth: Bandwidth::default(),
            pod: PodName::default(),
            dns: Dns::default(),
            cgroup: None,
        }
    }

    /// Refuses what cannot be honoured.
    pub(crate) fn check(&self) -> Result<()> {
        check_id(&self.id)?;
        check_interface_name("interface", &self.interface)?;
        if self.interface == "lo" {
            return Err(Error::Invalid("interface lo is taken".into()));
        }
        self.ports.iter().try_for_each(PortMapping::check)?;
        if let Some(mac) = self.mac.filter(|mac| mac.0[0] & 1 != 0) {
            return Err(Error::Invalid(format!("mac {mac} is a group's address")));
        }
        Ok(())
    }
}

/// A pod's names.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Resolver settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search list.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// Limits of a pod's traffic, in bits a second.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Bandwidth {
    /// To the pod.
    pub ingress: Option<u64>,
    /// From the pod.
    pub egress: Option<u64>,
}

impl Bandwidth {
    /// Reads `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that is no quantity between 1 kbit/s and 1 Pbit/s.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self> {
        let read = |key: &str| {
            let value = annotations.get(key);
            value.map(|value| rate(key, value)).transpose()
        };
        Ok(Self {
            ingress: read("kubernetes.io/ingress-bandwidth")?,
            egress: read("kubernetes.io/egress-bandwidth")?,
        })
    }
}

/// A quantity as Kubernetes writes them (`10M`, `1.5Gi`, `5000k`, `1e6`).
fn rate(key: &str, text: &str) -> Result<u64> {
    const UNITS: [(&str, f64); 11] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("", 1.0),
    ];
    let invalid = || {
        Error::Invalid(format!(
            "annotation {key}: {text:?} is not a rate between 1k and 1P bits a second"
        ))
    };
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let (unit, factor) = unit.copied().unwrap_or(("", 1.0));
    let number = text.strip_suffix(unit).unwrap_or(text);
    let plain = number
        .chars()
        .all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    let value = number.parse::<f64>().ok().filter(|_| plain);
    let bits = value.ok_or_else(invalid)? * factor;
    if !(1e3..=1e15).contains(&bits) {
        return Err(invalid());
    }
    // Whole bits are exact in this range, and the range is that of u64.
    format!("{:.0}", bits).parse().map_err(|_| invalid())
}

/// Ports of the machine that lead to a pod.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PortMapping {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The address of the machine on which the ports are; all of them if not given.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    /// The first port of the machine.
    pub host_port: u16,
    /// The first port of the pod.
    pub container_port: u16,
    /// How many ports, side by side.
    #[serde(default = "one")]
    pub count: u16,
}

fn one() -> u16 {
    1
}

impl PortMapping {
    /// One port on all addresses.
    #[must_use]
    pub fn new(protocol: Protocol, host_port: u16, container_port: u16) -> Self {
        Self {
            protocol,
            host_ip: None,
            host_port,
            container_port,
            count: 1,
        }
    }

    fn check(&self) -> Result<()> {
        let last = |first: u16| first.checked_add(self.count.checked_sub(1)?);
        let sound = |first: u16| first > 0 && last(first).is_some();
        if sound(self.host_port) && sound(self.container_port) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "port mapping {self}: ports are 1 to 65535, and at least one"
        )))
    }

    /// The host's address, if it is one and not all.
    pub(crate) fn one_host_ip(&self) -> Option<IpAddr> {
        self.host_ip.filter(|ip| !ip.is_unspecified())
    }

    /// Whether traffic of this family is meant: an address says which, none says both.
    pub(crate) fn covers(&self, pod: IpAddr) -> bool {
        self.host_ip.is_none_or(|ip| ip.is_ipv4() == pod.is_ipv4())
    }

    /// Whether a port of the machine is one of these.
    pub(crate) fn has_host_port(&self, port: u16) -> bool {
        let place = port.checked_sub(self.host_port);
        place.is_some_and(|place| place < self.count)
    }

    /// Pairs of a host's port and a pod's.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (u16, u16)> {
        let (host, pod) = (self.host_port, self.container_port);
        (0..self.count).map(move |n| (host.saturating_add(n), pod.saturating_add(n)))
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            None => {}
        }
        let range = |f: &mut fmt::Formatter<'_>, first: u16| match self.count {
            0 | 1 => write!(f, "{first}"),
            n => write!(f, "{first}-{}", u32::from(first) + u32::from(n) - 1),
        };
        range(f, self.host_port)?;
        f.write_str(":")?;
        range(f, self.container_port)?;
        write!(f, "/{}", self.protocol)
    }
}

/// `-p`'s language: `[IP:][HOST[-LAST]:]PORT[-LAST][/PROTOCOL]`.
impl FromStr for PortMapping {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            Error::Invalid(format!(
                "port mapping {text:?} is not [IP:]HOST-PORT[-LAST]:PORT[-LAST][/tcp|udp|sctp]"
            ))
        };
        let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let protocol = protocol.parse().map_err(|_| invalid())?;
        let (rest, inside) = ports.rsplit_once(':').ok_or_else(invalid)?;
        let (ip, host) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((ip, host)) => {
                let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
                (Some(bare.unwrap_or(ip)), host)
            }
        };
        let host_ip = ip.filter(|ip| !ip.is_empty()).map(str::parse).transpose();
        let (host_port, host_count) = range(host).ok_or_else(invalid)?;
        let (container_port, count) = range(inside).ok_or_else(invalid)?;
        let mapping = Self {
            protocol,
            host_ip: host_ip.map_err(|_| invalid())?,
            host_port,
            container_port,
            count,
        };
        if host_count != count {
            return Err(invalid());
        }
        mapping.check()?;
        Ok(mapping)
    }
}

/// First port and how many.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

/// Transport protocols that have ports.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in IP's header.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::Invalid(format!(
                "protocol {text:?} is not tcp, udp or sctp"
            ))),
        }
    }
}

/// A hardware address.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// One that follows from an address: whoever gets the address again has the same, and no
    /// neighbour's memory is wrong.
    pub(crate) fn of(ip: IpAddr) -> Self {
        // The first byte says "locally administered, of one station".
        let [a, b, c, d] = match ip {
            IpAddr::V4(ip) => ip.octets(),
            IpAddr::V6(ip) => {
                let [.., a, b, c, d] = ip.octets();
                [a, b, c, d]
            }
        };
        let second = if ip.is_ipv4() { 0x04 } else { 0x06 };
        Self([0x0a, second, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<u8> = text
            .split(':')
            .filter_map(|part| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok())?)
            .collect();
        let bytes: Option<[u8; 6]> = parts.try_into().ok();
        bytes
            .filter(|_| text.len() == 17)
            .map(Self)
            .ok_or_else(|| Error::Invalid(format!("{text:?} is not a hardware address")))
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

/// What a pod got.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Setup {
    /// Name of the link inside.
    pub interface: String,
    /// Its other end on the machine; plugins may have none.
    pub host_interface: Option<String>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// Its addresses, the first is the pod's main one.
    pub ips: Vec<IpNet>,
    /// Its gateways.
    pub gateways: Vec<IpAddr>,
    /// Resolver settings, where a plugin gave some.
    pub dns: Dns,
}

impl Setup {
    /// The pod's main address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ips.first().map(IpNet::addr)
    }
}

/// An id becomes the name of a file and a comment in a firewall rule.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let first = id.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && id.len() <= 100 && id.chars().all(plain) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "id {id:?} is not 1 to 100 letters, digits, '_', '.' or '-'"
    )))
}

pub(crate) fn check_interface_name(what: &str, name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_graphic() && !"/:%\"\\".contains(c);
    let sound = !name.is_empty() && name.len() < NAME_SIZE && name.chars().all(plain);
    if sound && name != "." && name != ".." {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{what} {name:?} is not a name for a link (1 to 15 letters, no '/', ':', '%')"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_written() {
        for text in [
            "80:8080/tcp",
            "127.0.0.1:53:5353/udp",
            "[::1]:9:9/sctp",
            "8000-8010:9000-9010/tcp",
        ] {
            assert_eq!(text.parse::<PortMapping>().unwrap().to_string(), text);
        }
        let some: PortMapping = "8000-8010:9000-9010".parse().unwrap();
        let inside = [7999, 8000, 8010, 8011].map(|port| some.has_host_port(port));
        assert_eq!(inside, [false, true, true, false]);
        let short: PortMapping = "80:8080".parse().unwrap();
        assert_eq!(short, PortMapping::new(Protocol::Tcp, 80, 8080));
        for text in [
            "80",
            "0:80",
            "80:65536",
            "1-3:1-2",
            "3-1:3-1",
            "x:1:1",
            "80:80/icmp",
            "",
            "65535-65536:1-2",
        ] {
            let error = text.parse::<PortMapping>().unwrap_err().to_string();
            assert!(error.starts_with("port mapping"), "{text}: {error}");
        }
    }

    #[test]
    fn rates_are_kubernetes_quantities() {
        let read = |text: &str| {
            let key = "kubernetes.io/egress-bandwidth".to_owned();
            Bandwidth::from_annotations(&[(key, text.to_owned())].into())
        };
        for (text, bits) in [
            ("10M", 10_000_000),
            ("1Gi", 1 << 30),
            ("1.5k", 1500),
            ("5000", 5000),
            ("1e6", 1_000_000),
        ] {
            assert_eq!(read(text).unwrap().egress, Some(bits), "{text}");
        }
        for text in ["", "M", "-1M", "nan", "infinity", "1Z", "999", "2P", "0x10"] {
            assert!(read(text).is_err(), "{text}");
        }
        let none = Bandwidth::from_annotations(&BTreeMap::new()).unwrap();
        assert_eq!(none, Bandwidth::default());
    }

    #[test]
    fn hardware_addresses() {
        let mac: Mac = "0a:04:0a:56:00:02".parse().unwrap();
        assert_eq!(mac, Mac::of("10.86.0.2".parse().unwrap()));
        for text in [
            "",
            "0a:04:0a:56:00",
            "0a:04:0a:56:00:2",
            "0a:04:0a:56:00:0g",
            "0a:04:0a:56:00:02:",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_and_names() {
        for id in ["a", "0f3", "x.y_z-1"] {
            check_id(id).unwrap();
        }
        for id in ["", ".", "..", "-a", "a/b", "a\n", &"x".repeat(101)] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        for name in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a:b",
            "e%d",
            "sixteen-letters-",
            "é",
        ] {
            assert!(check_interface_name("x", name).is_err(), "{name:?}");
        }
    }
}
