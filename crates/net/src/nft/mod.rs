//! nftables by nfnetlink: our own tables, in transactions, without the program `nft`.

mod element;
mod expression;
mod ruleset;
mod table;

pub(crate) use element::{Element, Set, elements_of};
pub(crate) use ruleset::Ruleset;
pub(crate) use table::{Sockets, Tables};

const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// Families of tables, `NFPROTO_…`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// Frames on a bridge.
    Bridge,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Bridge => 7,
        }
    }
}

/// `NFT_MSG_…`.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Verb {
    NewTable = 0,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    NewSetElem = 12,
    GetSetElem = 13,
    DelSetElem = 14,
}

impl Verb {
    fn kind(self) -> u16 {
        (NFNL_SUBSYS_NFTABLES << 8) | u16::from(self as u8)
    }
}

/// Whether a message tells that something of a table went, or that a rule came.
pub(crate) fn is_loss(kind: u16) -> bool {
    /// `NFT_MSG_DEL` of table, chain, rule, set and element, and NFT_MSG_NEWRULE.
    const LOSSES: [u8; 6] = [2, 5, 8, 11, 14, 6];
    let [subsystem, verb] = kind.to_be_bytes();
    u16::from(subsystem) == NFNL_SUBSYS_NFTABLES && LOSSES.contains(&verb)
}
