//! Expressions of rules, as the kernel's nf_tables reads them.

use sys::netlink::Attributes;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFT_REG_VERDICT: u32 = 0;
const NFT_JUMP: i32 = -3;
const NFT_RETURN: i32 = -5;
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;

/// The first of the registers of four bytes (NFT_REG32_00).
pub(super) const FIRST: u32 = 8;

/// What `meta` loads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    InName = 6,
    OutName = 7,
    NetworkProtocol = 15,
    TransportProtocol = 16,
}

/// Where `payload` starts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// A rule's expressions, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Expressions(pub(super) Attributes);

impl Expressions {
    fn push(self, name: &str, data: &Attributes) -> Self {
        let expression = Attributes::new()
            .string(NFTA_EXPR_NAME, name)
            .nest(NFTA_EXPR_DATA, data);
        Self(self.0.nest(NFTA_LIST_ELEM, &expression))
    }

    pub(super) fn meta(self, key: Meta, register: u32) -> Self {
        let data = Attributes::new().be32(1, register).be32(2, key as u32);
        self.push("meta", &data)
    }

    pub(super) fn payload(self, base: Base, offset: u32, length: u32, register: u32) -> Self {
        let data = Attributes::new()
            .be32(1, register)
            .be32(2, base as u32)
            .be32(3, offset)
            .be32(4, length);
        self.push("payload", &data)
    }

    fn compare(self, operator: u32, value: &[u8]) -> Self {
        let value = Attributes::new().bytes(NFTA_DATA_VALUE, value);
        let data = Attributes::new()
            .be32(1, FIRST)
            .be32(2, operator)
            .nest(3, &value);
        self.push("cmp", &data)
    }

    /// Goes on where the first register is `value`.
    pub(super) fn equals(self, value: &[u8]) -> Self {
        self.compare(0, value)
    }

    /// Goes on where the first register is not `value`.
    pub(super) fn differs(self, value: &[u8]) -> Self {
        self.compare(1, value)
    }

    /// Keeps the bits of `mask` in the first register.
    pub(super) fn mask(self, mask: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        let zero = vec![0; mask.len()];
        let data = Attributes::new()
            .be32(1, FIRST)
            .be32(2, FIRST)
            .be32(3, length)
            .nest(4, &Attributes::new().bytes(NFTA_DATA_VALUE, mask))
            .nest(5, &Attributes::new().bytes(NFTA_DATA_VALUE, &zero));
        self.push("bitwise", &data)
    }

    /// Goes on where the registers are a key of the set.
    pub(super) fn in_set(self, set: &str) -> Self {
        let data = Attributes::new().string(1, set).be32(2, FIRST);
        self.push("lookup", &data)
    }

    /// Goes on where the registers are not a key of the set.
    pub(super) fn not_in_set(self, set: &str) -> Self {
        let data = Attributes::new().string(1, set).be32(2, FIRST).be32(5, 1);
        self.push("lookup", &data)
    }

    /// Goes on where the registers are a key of the map, with the value in their place.
    pub(super) fn map(self, set: &str) -> Self {
        let data = Attributes::new()
            .string(1, set)
            .be32(2, FIRST)
            .be32(3, FIRST);
        self.push("lookup", &data)
    }

    /// The kind of the destination address (RTN_…), by the routing table.
    pub(super) fn destination_kind(self) -> Self {
        const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
        const NFTA_FIB_F_DADDR: u32 = 2;
        let data = Attributes::new()
            .be32(1, FIRST)
            .be32(2, NFT_FIB_RESULT_ADDRTYPE)
            .be32(3, NFTA_FIB_F_DADDR);
        self.push("fib", &data)
    }

    /// Goes on where the connection's state or status has one of `bits`.
    pub(super) fn connection(self, key: Connection, bits: u32) -> Self {
        let data = Attributes::new().be32(1, FIRST).be32(2, key as u32);
        self.push("ct", &data)
            .mask(&bits.to_ne_bytes())
            .differs(&[0; 4])
    }

    /// A new destination: an address at the first register, a port in the one behind it.
    pub(super) fn dnat(self, family: u32, port_register: u32) -> Self {
        const NFT_NAT_DNAT: u32 = 1;
        let data = Attributes::new()
            .be32(1, NFT_NAT_DNAT)
            .be32(2, family)
            .be32(3, FIRST)
            .be32(5, port_register);
        self.push("nat", &data)
    }

    /// The machine's address as the source, ports picked at random: two connections that start
    /// at once do not pick the same.
    pub(super) fn masquerade(self) -> Self {
        const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 0x10;
        let data = Attributes::new().be32(1, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
        self.push("masq", &data)
    }

    pub(super) fn counter(self) -> Self {
        self.push("counter", &Attributes::new())
    }

    fn verdict(self, code: i32, chain: Option<&str>) -> Self {
        let mut verdict = Attributes::new().bytes(NFTA_VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            verdict = verdict.string(NFTA_VERDICT_CHAIN, chain);
        }
        let value = Attributes::new().nest(NFTA_DATA_VERDICT, &verdict);
        let data = Attributes::new().be32(1, NFT_REG_VERDICT).nest(2, &value);
        self.push("immediate", &data)
    }

    pub(super) fn accept(self) -> Self {
        self.verdict(NF_ACCEPT, None)
    }

    pub(super) fn drop(self) -> Self {
        self.verdict(NF_DROP, None)
    }

    pub(super) fn back(self) -> Self {
        self.verdict(NFT_RETURN, None)
    }

    pub(super) fn jump(self, chain: &str) -> Self {
        self.verdict(NFT_JUMP, Some(chain))
    }
}

/// What `ct` loads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Connection {
    State = 0,
    Status = 2,
}

/// A link's name as a register holds it.
pub(super) fn link_name(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    for (slot, byte) in padded.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    padded
}
