//! What the network is to be.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::attachment::check_interface_name;
use crate::{Error, Result};

/// Where the network of a machine keeps its state, if nothing else is said.
pub const STATE_DIR: &str = "/run/hulld/network";

/// The network of all pods of a machine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Name of the bridge, and with it of our nftables tables (`hull-BRIDGE`).
    pub bridge: String,
    /// The pods' IPv4 addresses; the first is the gateway's.
    pub subnet4: Option<Ipv4Net>,
    /// The pods' IPv6 addresses; the first is the gateway's.
    pub subnet6: Option<Ipv6Net>,
    /// MTU of all links; that of the default route's link where it is not given.
    pub mtu: Option<u32>,
    /// Whether packets to the world carry the machine's address.
    pub masquerade: bool,
    /// Whether a pod may only send from the addresses that it was given.
    pub source_check: bool,
    /// Whether the world reaches published ports only, and not the pods' own addresses.
    pub published_only: bool,
    /// Whose attachments these are. [`Network::gc`](crate::Network::gc) collects only those of
    /// its own owner: several programs may share a network.
    pub owner: String,
    /// Where network namespaces made by us are pinned.
    pub netns_dir: PathBuf,
    /// Where subnets that were given while the network ran are kept. It must survive a reboot,
    /// as the rest of the state need not; with the rest where it is not given.
    pub subnets_file: Option<PathBuf>,
    /// Which of the two makes the network.
    pub backend: Backend,
    /// Where CNI's files are.
    pub cni: CniConfig,
}

/// Who makes the network.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// CNI where a configuration is that is not podman's own, else the built-in one.
    #[default]
    Auto,
    /// The built-in bridge.
    Builtin,
    /// CNI plugins only: not ready without a configuration.
    Cni,
}

/// What a container run by a person is attached to: `--network`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// The network of all pods.
    #[default]
    Bridge,
    /// The machine's own network namespace.
    Host,
    /// A network namespace with `lo` alone.
    None,
}

impl std::str::FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "bridge" => Ok(Self::Bridge),
            "host" => Ok(Self::Host),
            "none" => Ok(Self::None),
            _ => Err(Error::Invalid(format!(
                "network {text:?} is not bridge, host or none"
            ))),
        }
    }
}

/// Where CNI's files are, and what its plugins may take.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CniConfig {
    /// Network configurations; the first by name is taken.
    pub conf_dir: PathBuf,
    /// Where plugins are, in the order in which they are looked for.
    pub bin_dirs: Vec<PathBuf>,
    /// What pods got, kept for DEL and CHECK. It must survive a reboot: addresses that plugins
    /// gave do.
    pub cache_dir: PathBuf,
    /// Seconds that one run of a plugin may take.
    pub timeout_seconds: u64,
    /// Subnets of this machine's pods, for plugins that ask for `ipRanges`.
    pub ip_ranges: Vec<IpNet>,
}

impl CniConfig {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

impl Default for CniConfig {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"]
                .map(PathBuf::from)
                .into(),
            cache_dir: "/var/lib/hull/cni".into(),
            timeout_seconds: 60,
            ip_ranges: Vec::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let subnet6 = Ipv6Addr::new(0xfd68, 0x756c, 0x6c00, 0, 0, 0, 0, 0);
        Self {
            bridge: "hull0".into(),
            subnet4: Ipv4Net::new(Ipv4Addr::new(10, 86, 0, 0), 16).ok(),
            subnet6: Ipv6Net::new(subnet6, 64).ok(),
            mtu: None,
            masquerade: true,
            source_check: true,
            published_only: false,
            owner: "hulld".into(),
            netns_dir: "/run/hull/netns".into(),
            subnets_file: None,
            backend: Backend::default(),
            cni: CniConfig::default(),
        }
    }
}

impl Config {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the field and the reason.
    pub fn check(&self) -> Result<()> {
        check_interface_name("bridge", &self.bridge)?;
        let invalid =
            |text: String| Err(Error::Invalid(format!("network {}: {text}", self.bridge)));
        if self.subnet4.is_none() && self.subnet6.is_none() {
            return invalid("neither subnet4 nor subnet6 is given".into());
        }
        if let Some(net) = self.subnet4.filter(|n| n.prefix_len() > 30) {
            return invalid(format!("subnet4 {net} has no room for a gateway and a pod"));
        }
        if let Some(net) = self.subnet6.filter(|n| n.prefix_len() > 126) {
            return invalid(format!("subnet6 {net} has no room for a gateway and a pod"));
        }
        let least = if self.subnet6.is_some() { 1280 } else { 68 };
        if let Some(mtu) = self.mtu.filter(|m| !(least..=65_535).contains(m)) {
            return invalid(format!("mtu {mtu} is not between {least} and 65535"));
        }
        if !(1..=3600).contains(&self.cni.timeout_seconds) {
            return invalid(format!(
                "CNI's timeout-seconds {} is not between 1 and 3600",
                self.cni.timeout_seconds
            ));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.owner.is_empty() || self.owner.len() > 32 || !self.owner.chars().all(plain) {
            return invalid(format!(
                "owner {:?} is not 1 to 32 letters, digits or dashes",
                self.owner
            ));
        }
        Ok(())
    }

    /// Takes other subnets than those that were configured, by family.
    pub(crate) fn take_subnets(&mut self, subnets: &[IpNet]) {
        for subnet in subnets {
            match subnet {
                IpNet::V4(net) => self.subnet4 = Some(net.trunc()),
                IpNet::V6(net) => self.subnet6 = Some(net.trunc()),
            }
        }
        if !subnets.is_empty() {
            self.cni.ip_ranges = subnets.iter().map(IpNet::trunc).collect();
        }
    }

    /// The pods' subnets.
    pub(crate) fn subnets(&self) -> Vec<IpNet> {
        let four = self.subnet4.map(IpNet::V4);
        four.into_iter()
            .chain(self.subnet6.map(IpNet::V6))
            .collect()
    }

    /// Name of our tables.
    pub(crate) fn table(&self) -> String {
        format!("hull-{}", self.bridge)
    }

    /// The bridge's IPv4 address.
    pub(crate) fn gateway4(&self) -> Option<Ipv4Net> {
        let net = self.subnet4?;
        let first = u32::from(net.network()).checked_add(1)?;
        Ipv4Net::new(Ipv4Addr::from(first), net.prefix_len()).ok()
    }

    /// The bridge's IPv6 address.
    pub(crate) fn gateway6(&self) -> Option<Ipv6Net> {
        let net = self.subnet6?;
        let first = u128::from(net.network()).checked_add(1)?;
        Ipv6Net::new(Ipv6Addr::from(first), net.prefix_len()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_sound() {
        let config = Config::default();
        config.check().unwrap();
        assert_eq!(config.gateway4().unwrap().to_string(), "10.86.0.1/16");
        assert_eq!(
            config.gateway6().unwrap().to_string(),
            "fd68:756c:6c00::1/64"
        );
        assert_eq!(config.table(), "hull-hull0");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let text = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(text(|c| c.bridge = "a/b".into()).contains("bridge"));
        assert!(text(|c| c.subnet4 = "10.0.0.0/31".parse().ok()).contains("no room"));
        assert!(text(|c| c.subnet6 = "fd00::/127".parse().ok()).contains("no room"));
        assert!(text(|c| c.mtu = Some(1000)).contains("1280"));
        assert!(text(|c| c.owner = "a b".into()).contains("owner"));
        assert!(text(|c| (c.subnet4, c.subnet6) = (None, None)).contains("neither"));
    }
}
