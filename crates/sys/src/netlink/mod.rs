//! netlink(7): messages built and read by hand, and a socket that asks and listens.
//!
//! One codec for everyone: the runtime moves devices with it, the network's crate makes links,
//! addresses, routes and firewall rules. What the messages say is the caller's; here is only
//! how they are laid out and how an answer is told from a refusal.

mod message;
mod socket;

pub use message::{
    Attributes, Message, Request, attributes, be32_at, i32_at, split, u16_at, u32_at,
};
pub use socket::{Protocol, Socket};

/// NLM_F_ACK: answer, also where there is nothing to say.
pub const NLM_F_ACK: u16 = 0x4;
/// NLM_F_DUMP: all objects of the kind.
pub const NLM_F_DUMP: u16 = 0x300;
/// NLM_F_REPLACE: an object that exists is replaced.
pub const NLM_F_REPLACE: u16 = 0x100;
/// NLM_F_EXCL: an object that exists is an error.
pub const NLM_F_EXCL: u16 = 0x200;
/// NLM_F_CREATE: an object that does not exist is made.
pub const NLM_F_CREATE: u16 = 0x400;
/// NLM_F_APPEND: at the end of the list of objects.
pub const NLM_F_APPEND: u16 = 0x800;

const NLM_F_REQUEST: u16 = 0x1;
/// In an answer: the dump is not of one moment.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// In an answer: attributes follow behind the error.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
