//! The number by which this network namespace knows another (RTM_GETNSID, rtnetlink(7)).

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::collect::Namespace;

const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NLM_F_REQUEST: u16 = 1;
/// Attributes of linux/net_namespace.h.
const NETNSA_NSID: u16 = 1;
const NETNSA_PID: u16 = 2;

/// The number, or lsns' word for none.
pub fn of(namespace: &Namespace) -> String {
    let asked = namespace.pids.first().map(|&pid| ask(pid.cast_unsigned()));
    match asked.flatten() {
        Some(id) if id >= 0 => id.to_string(),
        _ => "unassigned".to_owned(),
    }
}

fn ask(pid: u32) -> Option<i32> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    );
    let socket = socket.ok()?;
    rustix::net::send(&socket, &request(pid), SendFlags::empty()).ok()?;
    let mut answer = [0_u8; 1024];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).ok()?;
    parse(answer.get(..length)?)
}

/// nlmsghdr, rtgenmsg with padding, one attribute.
fn request(pid: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(28);
    message.extend(28_u32.to_ne_bytes());
    message.extend(RTM_GETNSID.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(8_u16.to_ne_bytes());
    message.extend(NETNSA_PID.to_ne_bytes());
    message.extend(pid.to_ne_bytes());
    message
}

fn parse(message: &[u8]) -> Option<i32> {
    let word = |at: usize| {
        Some(u16::from_ne_bytes(
            message.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    if word(4)? != RTM_NEWNSID {
        return None;
    }
    let mut at = 20;
    while at + 4 <= message.len() {
        let (length, kind) = (usize::from(word(at)?), word(at + 2)?);
        if kind == NETNSA_NSID {
            let value = message.get(at + 4..at + 8)?;
            return Some(i32::from_ne_bytes(value.try_into().ok()?));
        }
        // A length below that of its own header would make no progress.
        at += length.max(4).next_multiple_of(4);
    }
    None
}
