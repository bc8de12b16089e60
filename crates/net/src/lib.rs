//! Networks of pods: links, addresses, routes, firewall rules, address pools, CNI plugins.
//!
//! [`Network`] is the whole: it attaches a pod's network namespace and detaches it, with the
//! bridge that is built in or with CNI plugins where `/etc/cni/net.d` has a configuration.
//!
//! Invariants: synchronous, nothing here knows tokio; another network namespace is entered by a
//! thread that ends there ([`netns::inside`]); no program is run but CNI's plugins; what is given
//! to a pod is on disk before it is used.

#![forbid(unsafe_code)]

mod attachment;
mod bridge;
mod cni;
mod config;
mod conntrack;
mod current;
mod error;
mod holdings;
mod inspect;
mod leave;
mod lock;
pub mod netns;
mod network;
mod nft;
mod ports;
mod repair;
mod rtnl;
mod state;
#[doc(hidden)]
pub mod survive;
mod sysctl;
mod watch;

pub use attachment::{Attachment, Bandwidth, Dns, Mac, PodName, PortMapping, Protocol, Setup};
pub use config::{Backend, CniConfig, Config, Mode, STATE_DIR};
pub use error::{Error, ErrorKind, Result};
pub use holdings::Holding;
pub use network::{Network, Status};
pub use rtnl::Counters;
pub use watch::{Watch, WatchEvent};

/// FNV-1a: short names that are the same tomorrow.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
