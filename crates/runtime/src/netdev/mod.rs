//! Network devices: loopback up, and `linux.netDevices` moved into the container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use rustix::io::Errno;
use spec::oci::NetDevice;
use spec::plan::NamespaceKind;
use sys::Context as _;
use sys::netlink::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, Protocol, Request, Socket, attributes,
    u32_at,
};

use crate::{Doing as _, Error, Result};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;
/// Length of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
/// Length of `struct ifaddrmsg`.
const IFADDRMSG: usize = 8;
/// IFNAMSIZ, with the NUL.
const NAME_SIZE: usize = 16;

/// Brings `lo` of the caller's network namespace up.
///
/// # Errors
/// netlink(7)'s.
pub fn loopback_up() -> Result<()> {
    /// LOOPBACK_IFINDEX of the kernel: the first device of every namespace.
    const LOOPBACK: u32 = 1;
    let request = Request::new(RTM_NEWLINK, NLM_F_ACK, "lo, IFF_UP").link(LOOPBACK, IFF_UP, IFF_UP);
    Socket::open(Protocol::Route)?.ask(&request)?;
    Ok(())
}

/// Moves devices of the caller's network namespace into `namespace`, gives them their names,
/// their permanent global addresses again (the kernel drops them on the way), and sets them up.
///
/// A name may be a template such as `eth%d`: the first free number is taken. What was moved
/// before an error is moved back.
///
/// # Errors
/// A missing device, a name that is taken, or the kernel's refusal.
pub fn move_all(devices: &BTreeMap<String, NetDevice>, namespace: impl AsFd) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let home = open_home()?;
    let mut here = Socket::open(Protocol::Route)?;
    let mut there = open_in(namespace.as_fd(), home.as_fd())?;
    let mut moved: Vec<(String, String)> = Vec::new();
    for (name, device) in devices {
        let wanted = if device.name.is_empty() {
            name
        } else {
            &device.name
        };
        let result = sys::trace::step(
            "rtnetlink",
            || format!("move {name} into the container as {wanted}"),
            || {
                move_one(
                    &mut here,
                    &mut there,
                    namespace.as_fd(),
                    name,
                    wanted,
                    &mut moved,
                )
            },
        );
        if let Err(error) = result.doing(|| format!("move network device {name:?}")) {
            let mut errors = vec![error];
            for (old, new) in moved.iter().rev() {
                let back = rename_into(&mut there, home.as_fd(), new, old);
                errors.extend(
                    back.doing(|| format!("move network device {old:?} back"))
                        .err(),
                );
            }
            return Err(Error::from_several(errors).unwrap_or(Error::NotRunning));
        }
    }
    Ok(())
}

/// A device's permanent global address, as attributes to send again.
#[derive(Debug, Eq, PartialEq)]
struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

fn move_one(
    here: &mut Socket,
    there: &mut Socket,
    namespace: BorrowedFd<'_>,
    old: &str,
    wanted: &str,
    moved: &mut Vec<(String, String)>,
) -> Result<()> {
    check_name(wanted)?;
    let index = index_of(here, old)?;
    let addresses = addresses_of(here, index)?;
    let new = free_name(&names(there)?, wanted)?;
    rename_into(here, namespace, old, &new)?;
    moved.push((old.to_owned(), new.clone()));
    let index = index_of(there, &new)?;
    for address in &addresses {
        add_address(there, index, address)?;
    }
    set_up(there, &new, index)
}

fn open_home() -> Result<File> {
    let path = "/proc/thread-self/ns/net";
    Ok(File::open(path).context("open", || path)?)
}

/// A socket in another network namespace: the calling thread goes there and comes back.
fn open_in(namespace: BorrowedFd<'_>, home: BorrowedFd<'_>) -> Result<Socket> {
    let kind = NamespaceKind::Network.clone_flag();
    sys::namespace::setns(namespace, kind)?;
    let socket = Socket::open(Protocol::Route);
    sys::namespace::setns(home, kind).doing(|| "return to the runtime's network namespace")?;
    Ok(socket?)
}

fn check_name(name: &str) -> Result<()> {
    let plain = name.replacen("%d", "0", 1);
    let bad = |c: char| c == '/' || c == ':' || c == '%' || c == '\0' || c.is_whitespace();
    if plain.is_empty()
        || name.len() >= NAME_SIZE
        || plain.contains(bad)
        || plain == "."
        || plain == ".."
    {
        return Err(Error::Invalid(format!(
            "{name:?} is not a network device's name"
        )));
    }
    Ok(())
}

/// The name itself, or for a template the first that is free.
fn free_name(taken: &BTreeSet<String>, wanted: &str) -> Result<String> {
    let found = if wanted.contains("%d") {
        // One number more than there are devices: one of them is free.
        (0..=taken.len())
            .map(|n| wanted.replacen("%d", &n.to_string(), 1))
            .find(|name| !taken.contains(name) && name.len() < NAME_SIZE)
    } else {
        (!taken.contains(wanted)).then(|| wanted.to_owned())
    };
    found.ok_or_else(|| {
        let text = format!("the container has a network device {wanted:?} already");
        Error::Invalid(text)
    })
}

fn names(netlink: &mut Socket) -> Result<BTreeSet<String>> {
    let request = Request::new(RTM_GETLINK, NLM_F_DUMP, "all links").link(0, 0, 0);
    let answer = netlink.ask(&request)?;
    let links = answer.iter().filter(|m| m.kind == RTM_NEWLINK);
    Ok(links
        .filter_map(|m| string(&m.body, IFINFOMSG, IFLA_IFNAME))
        .collect())
}

fn string(body: &[u8], fixed: usize, kind: u16) -> Option<String> {
    let list = attributes(body, fixed);
    let (_, value) = list.into_iter().find(|(k, _)| *k == kind)?;
    let value = value.split(|&b| b == 0).next()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn index_of(netlink: &mut Socket, name: &str) -> Result<u32> {
    let request = Request::new(RTM_GETLINK, NLM_F_ACK, name).link(0, 0, 0);
    let answer = netlink.ask(&request.string(IFLA_IFNAME, name))?;
    let link = answer.iter().find(|m| m.kind == RTM_NEWLINK);
    link.and_then(|m| u32_at(&m.body, 4))
        .ok_or_else(|| sys::Error::new("rtnetlink", name, Errno::NODEV).into())
}

fn addresses_of(netlink: &mut Socket, index: u32) -> Result<Vec<Address>> {
    let request = Request::new(RTM_GETADDR, NLM_F_DUMP, "all addresses").address(0, 0, 0, 0);
    let answer = netlink.ask(&request)?;
    let addresses = answer.iter().filter(|m| m.kind == RTM_NEWADDR);
    Ok(addresses
        .filter_map(|m| lasting_address(&m.body, index))
        .collect())
}

/// The address in a message, if it is permanent, global, and of this device.
fn lasting_address(body: &[u8], index: u32) -> Option<Address> {
    let &[family, prefix, short_flags, scope] = body.get(..4)? else {
        return None;
    };
    let list = attributes(body, IFADDRMSG);
    // IFA_FLAGS has the 8 bits of the header and those that found no room there.
    let long_flags = list.iter().find(|(kind, _)| *kind == IFA_FLAGS);
    let flags = long_flags
        .and_then(|(_, v)| u32_at(v, 0))
        .unwrap_or_else(|| short_flags.into());
    let ours = u32_at(body, 4)? == index;
    if !ours || scope != RT_SCOPE_UNIVERSE || flags & IFA_F_PERMANENT == 0 {
        return None;
    }
    let keep = [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST];
    let attributes = list
        .into_iter()
        .filter(|(kind, _)| keep.contains(kind))
        .map(|(kind, value)| (kind, value.to_vec()))
        .collect();
    Some(Address {
        family,
        prefix,
        attributes,
    })
}

fn add_address(netlink: &mut Socket, index: u32, address: &Address) -> Result<()> {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut request = Request::new(RTM_NEWADDR, flags, "keep address").address(
        address.family,
        address.prefix,
        RT_SCOPE_UNIVERSE,
        index,
    );
    for (kind, value) in &address.attributes {
        request = request.attribute(*kind, value);
    }
    netlink.ask(&request)?;
    Ok(())
}

/// Moves the device `old` of `from` into `namespace` and names it `new`, in one request.
fn rename_into(from: &mut Socket, namespace: BorrowedFd<'_>, old: &str, new: &str) -> Result<()> {
    let index = index_of(from, old)?;
    // A device that is up keeps its name.
    let down = Request::new(RTM_NEWLINK, NLM_F_ACK, format!("{old}, down")).link(index, 0, IFF_UP);
    from.ask(&down)?;
    let fd = u32::try_from(namespace.as_raw_fd()).unwrap_or(u32::MAX);
    let request = Request::new(
        RTM_NEWLINK,
        NLM_F_ACK,
        format!("{old}, move and name {new}"),
    )
    .link(index, 0, 0)
    .u32(IFLA_NET_NS_FD, fd)
    .string(IFLA_IFNAME, new);
    from.ask(&request)?;
    Ok(())
}

fn set_up(netlink: &mut Socket, name: &str, index: u32) -> Result<()> {
    let request = Request::new(RTM_NEWLINK, NLM_F_ACK, format!("{name}, IFF_UP"));
    netlink.ask(&request.link(index, IFF_UP, IFF_UP))?;
    Ok(())
}

#[cfg(test)]
mod tests;
