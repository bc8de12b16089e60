//! A container's network: its own on our bridge, its own without links, or the machine's.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use net::{Attachment, Backend, Config, Network};

use super::args::{NetworkMode, Settings};
use super::config::NetworkNamespace;

/// Where the network keeps which container has which address.
pub const STATE: &str = "/run/hull/network";

/// What became of the network of a container.
#[derive(Debug, Default)]
pub struct Connected {
    /// What its configuration says.
    pub namespace: NetworkNamespace,
    /// Its address.
    pub ip: Option<IpAddr>,
}

/// The network of containers that are run without a daemon: the same bridge as hulld's, under
/// another owner, so that neither collects what is the other's.
fn network() -> Result<Network> {
    let config = Config {
        owner: "hullctl".to_owned(),
        backend: Backend::Builtin,
        ..Config::default()
    };
    Network::open(config, Path::new(STATE)).context("open the network")
}

/// Makes what the container `id` needs; [`disconnect`] undoes it.
pub fn connect(id: &str, settings: &Settings) -> Result<Connected> {
    match settings.network.unwrap_or(NetworkMode::Bridge) {
        NetworkMode::None | NetworkMode::UserSpace(_) => Ok(Connected::default()),
        NetworkMode::Host => Ok(Connected {
            namespace: NetworkNamespace::Host,
            ip: None,
        }),
        NetworkMode::Bridge => {
            let network = network()?;
            let path = network.create_netns(id)?;
            let mut attachment = Attachment::new(id, &path);
            attachment.ports.clone_from(&settings.ports);
            let setup = network.setup(&attachment).inspect_err(|_| {
                // The first error is the one to report; what stays is collected later.
                let _ = network.teardown(id);
            });
            Ok(Connected {
                ip: setup?.ip(),
                namespace: NetworkNamespace::Join(path.display().to_string()),
            })
        }
    }
}

/// Undoes [`connect`]; what is gone already is no error.
pub fn disconnect(id: &str) -> Result<()> {
    network()?
        .teardown(id)
        .with_context(|| format!("detach {id} from the network"))
}
