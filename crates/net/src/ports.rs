//! Whether a port of the machine is free to lead to a pod.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use crate::attachment::{PortMapping, Protocol};
use crate::{Error, Result};

/// Refuses ports on which a process of the machine listens: its connections would go to the pod
/// instead, without a word.
pub(crate) fn check_free(mappings: &[PortMapping]) -> Result<()> {
    for mapping in mappings {
        for (port, _) in mapping.pairs() {
            if !is_free(mapping, port) {
                return Err(Error::PortTaken(format!(
                    "host port {port}/{} (of {mapping}): a process of this machine listens there",
                    mapping.protocol
                )));
            }
        }
    }
    Ok(())
}

fn is_free(mapping: &PortMapping, port: u16) -> bool {
    let ip = mapping.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    // What cannot be tried is not known to be taken: an address that is not here yet, a protocol
    // that the kernel lacks.
    attempt(mapping.protocol, SocketAddr::new(ip, port)) != Err(Errno::ADDRINUSE)
}

/// Takes the port for a moment without listening. With SO_REUSEADDR a connection that is over
/// (TIME_WAIT) is not in the way, and who listens is.
fn attempt(protocol: Protocol, at: SocketAddr) -> std::result::Result<(), Errno> {
    let family = if at.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
        Protocol::Sctp => return Ok(()),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if protocol == Protocol::Tcp {
        set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &at)
}
