//! Transactions on our tables, and what the kernel says is in them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use sys::netlink::{
    Attributes, Message, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, Protocol, Request, Socket,
    attributes,
};

use super::element::{comment, read_comment};
use super::ruleset::{Chain, Rule};
use super::{Element, Family, NFNL_SUBSYS_NFTABLES, Ruleset, Set, Verb};
use crate::Result;
use crate::error::unless;

/// Length of `struct nfgenmsg`.
const NFGENMSG: usize = 4;
/// How many sockets are kept.
const KEPT: usize = 8;
/// What one write may hold: a socket's buffer is 208 KiB by default.
const BATCH: usize = 120 * 1024;
/// What one list of elements may hold: an attribute's length has 16 bits.
const LIST: usize = 48 * 1024;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_ELEMENTS_TABLE: u16 = 1;
const NFTA_ELEMENTS_SET: u16 = 2;
const NFTA_ELEMENTS: u16 = 3;

/// Sockets that are kept open: to close one, the kernel waits until all that was ever deleted is
/// out of use, which takes longer than all else that we ask of it.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Mutex<Vec<Socket>>);

impl Sockets {
    fn take(&self) -> Result<Socket> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some(socket) => Ok(socket),
            None => Ok(Socket::open(Protocol::Netfilter)?),
        }
    }
}

/// Our two tables: rules for packets, and rules for frames on the bridge.
#[derive(Debug)]
pub(crate) struct Tables<'a> {
    /// None once it is given back.
    socket: Option<Socket>,
    sockets: &'a Sockets,
    ruleset: &'a Ruleset,
}

impl Drop for Tables<'_> {
    fn drop(&mut self) {
        let mut kept = self
            .sockets
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.extend(self.socket.take());
        }
    }
}

impl<'a> Tables<'a> {
    pub(crate) fn open(ruleset: &'a Ruleset, sockets: &'a Sockets) -> Result<Self> {
        Ok(Self {
            socket: Some(sockets.take()?),
            sockets,
            ruleset,
        })
    }

    /// The socket; a new one after an error, for the old one may have answers left in it.
    fn with<T>(&mut self, f: impl FnOnce(&mut Socket) -> sys::Result<T>) -> sys::Result<T> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::open(Protocol::Netfilter)?,
        };
        let result = f(&mut socket)?;
        self.socket = Some(socket);
        Ok(result)
    }

    fn request(&self, verb: Verb, family: Family, flags: u16, what: &str) -> Request {
        let what = format!("table {}: {what}", self.ruleset.table);
        Request::new(verb.kind(), flags, what).fixed(&[family.number(), 0, 0, 0])
    }

    /// Puts everything anew, in the place of whatever our tables hold.
    pub(crate) fn rebuild(&mut self, elements: &[Element]) -> Result<()> {
        let name = self.ruleset.table.as_str();
        let mut list = Vec::new();
        for family in [Family::Inet, Family::Bridge] {
            // Removing needs one to be there; making one that is there changes nothing.
            for verb in [Verb::NewTable, Verb::DelTable, Verb::NewTable] {
                let flags = if matches!(verb, Verb::NewTable) {
                    NLM_F_CREATE
                } else {
                    0
                };
                let request = self.request(verb, family, flags, "replace");
                list.push(request.string(NFTA_TABLE_NAME, name));
            }
        }
        for (id, set) in (1..).zip(Set::ALL) {
            let request = self.request(Verb::NewSet, set.family(), NLM_F_CREATE, set.name());
            let named = request
                .string(NFTA_SET_TABLE, name)
                .string(NFTA_SET_NAME, set.name());
            list.push(named.all(&set.define(id)));
        }
        list.extend(self.ruleset.chains.iter().map(|chain| self.chain(chain)));
        list.extend(self.ruleset.rules.iter().map(|rule| self.rule(rule)));
        // In one transaction with the rules as far as it goes: no moment without ports.
        list.extend(self.lists(Verb::NewSetElem, NLM_F_CREATE, elements));
        self.commit(list)
    }

    fn chain(&self, chain: &Chain) -> Request {
        const NF_ACCEPT: u32 = 1;
        let request = self
            .request(Verb::NewChain, chain.family, NLM_F_CREATE, chain.name)
            .string(NFTA_CHAIN_TABLE, &self.ruleset.table)
            .string(NFTA_CHAIN_NAME, chain.name);
        let Some(hook) = chain.hook else {
            return request;
        };
        let place = Attributes::new()
            .be32(1, hook.number)
            .bytes(2, &hook.priority.to_be_bytes());
        request
            .nest(NFTA_CHAIN_HOOK, &place)
            .attribute(NFTA_CHAIN_POLICY, &NF_ACCEPT.to_be_bytes())
            .string(NFTA_CHAIN_TYPE, hook.kind)
    }

    fn rule(&self, rule: &Rule) -> Request {
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        self.request(Verb::NewRule, rule.family, flags, &rule.comment)
            .string(NFTA_RULE_TABLE, &self.ruleset.table)
            .string(NFTA_RULE_CHAIN, rule.chain)
            .nest(NFTA_RULE_EXPRESSIONS, &rule.expressions.0)
            .attribute(NFTA_RULE_USERDATA, &comment(&rule.comment))
    }

    /// Adds elements. Those that are there already change nothing; a key with another value is
    /// refused with EBUSY (EEXIST before Linux 6.2).
    pub(crate) fn add(&mut self, elements: &[Element]) -> Result<()> {
        let list = self.lists(Verb::NewSetElem, NLM_F_CREATE, elements);
        self.commit(list)
    }

    /// Removes elements; what is gone is no error.
    pub(crate) fn remove(&mut self, elements: &[Element]) -> Result<()> {
        let list = self.lists(Verb::DelSetElem, 0, elements);
        match self.commit(list) {
            Err(error) if error.errno() == Some(Errno::NOENT) => self.remove_present(elements),
            other => other,
        }
    }

    /// Removes those that are there and have the right owner. One that is missing would fail the
    /// whole transaction.
    pub(crate) fn remove_present(&mut self, elements: &[Element]) -> Result<()> {
        let wanted: BTreeSet<_> = elements.iter().map(|e| (e.set, &e.key, &e.id)).collect();
        let mut present = self.elements()?;
        present.retain(|e| wanted.contains(&(e.set, &e.key, &e.id)));
        let list = self.lists(Verb::DelSetElem, 0, &present);
        self.commit(list)
    }

    fn lists(&self, verb: Verb, flags: u16, elements: &[Element]) -> Vec<Request> {
        let mut requests = Vec::new();
        for set in Set::ALL {
            let mut items = Attributes::new();
            let finish = |items: &Attributes| {
                self.request(verb, set.family(), flags, set.name())
                    .string(NFTA_ELEMENTS_TABLE, &self.ruleset.table)
                    .string(NFTA_ELEMENTS_SET, set.name())
                    .nest(NFTA_ELEMENTS, items)
            };
            for element in elements.iter().filter(|e| e.set == set) {
                items = element.encode(items);
                if items.size() > LIST {
                    requests.push(finish(&items));
                    items = Attributes::new();
                }
            }
            if items.size() > 0 {
                requests.push(finish(&items));
            }
        }
        requests
    }

    /// Sends requests as transactions, as few as the socket's buffer allows.
    fn commit(&mut self, requests: Vec<Request>) -> Result<()> {
        let mut rest = requests.into_iter().peekable();
        while rest.peek().is_some() {
            let mut batch = vec![frame(true)];
            let mut size = 0;
            while let Some(request) = rest.next_if(|r| size == 0 || size + r.size() < BATCH) {
                size += request.size();
                batch.push(request);
            }
            if let Some(last) = batch.pop() {
                batch.push(last.acknowledged());
            }
            batch.push(frame(false));
            self.with(|socket| socket.batch(&batch))?;
        }
        Ok(())
    }

    /// Removes our tables; what is gone is no error.
    pub(crate) fn destroy(&mut self) -> Result<()> {
        for family in [Family::Inet, Family::Bridge] {
            let request = self.request(Verb::DelTable, family, 0, "remove");
            let request = request.string(NFTA_TABLE_NAME, &self.ruleset.table);
            match self.commit(vec![request]) {
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Family, chain and comment of every rule in our tables, in order.
    pub(crate) fn rules(&mut self) -> Result<Vec<(Family, String, String)>> {
        let mut list = Vec::new();
        for family in [Family::Inet, Family::Bridge] {
            let request = self
                .request(Verb::GetRule, family, NLM_F_DUMP, "rules")
                .string(NFTA_RULE_TABLE, &self.ruleset.table);
            for message in self.dump(&request, Verb::NewRule)? {
                let text = |wanted| text(&message, wanted);
                if text(NFTA_RULE_TABLE).as_deref() != Some(&self.ruleset.table) {
                    continue;
                }
                let attributes = attributes(&message.body, NFGENMSG);
                let words = attributes.iter().find(|(k, _)| *k == NFTA_RULE_USERDATA);
                let words = words.and_then(|(_, bytes)| read_comment(bytes));
                let chain = text(NFTA_RULE_CHAIN).unwrap_or_default();
                list.push((family, chain, words.unwrap_or_default()));
            }
        }
        Ok(list)
    }

    /// All elements in our sets and maps.
    pub(crate) fn elements(&mut self) -> Result<Vec<Element>> {
        let mut list = Vec::new();
        for set in Set::ALL {
            let request = self
                .request(Verb::GetSetElem, set.family(), NLM_F_DUMP, set.name())
                .string(NFTA_ELEMENTS_TABLE, &self.ruleset.table)
                .string(NFTA_ELEMENTS_SET, set.name());
            for message in self.dump(&request, Verb::NewSetElem)? {
                for (kind, bytes) in attributes(&message.body, NFGENMSG) {
                    if kind == NFTA_ELEMENTS {
                        list.extend(Element::decode(set, bytes));
                    }
                }
            }
        }
        Ok(list)
    }

    /// Chains of anyone that drop forwarded packets unless told otherwise, or are firewalld's:
    /// their table and name.
    pub(crate) fn foreign_drops(&mut self) -> Result<Vec<String>> {
        const UNSPECIFIED: [u8; NFGENMSG] = [0; NFGENMSG];
        const HOOK_NUMBER: u16 = 1;
        const FORWARD: u32 = 2;
        let request = Request::new(Verb::GetChain.kind(), NLM_F_DUMP, "all chains");
        let messages = self.dump(&request.fixed(&UNSPECIFIED), Verb::NewChain)?;
        let drops = messages.iter().filter(|message| {
            let list = attributes(&message.body, NFGENMSG);
            let get = |wanted| list.iter().find(|(kind, _)| *kind == wanted);
            let hook = get(NFTA_CHAIN_HOOK).map(|(_, hook)| attributes(hook, 0));
            let number = hook.and_then(|hook| {
                let number = hook.iter().find(|(kind, _)| *kind == HOOK_NUMBER);
                number.and_then(|(_, value)| sys::netlink::be32_at(value, 0))
            });
            let policy = get(NFTA_CHAIN_POLICY).map(|(_, policy)| *policy == [0; 4].as_slice());
            let firewalld = text(message, NFTA_CHAIN_TABLE).as_deref() == Some("firewalld");
            number == Some(FORWARD) && (policy == Some(true) || firewalld)
        });
        let name = |message: &Message| {
            let table = text(message, NFTA_CHAIN_TABLE)?;
            Some(format!("{table} {}", text(message, NFTA_CHAIN_NAME)?))
        };
        Ok(drops.filter_map(name).collect())
    }

    /// A dump; of what is not there, nothing.
    fn dump(&mut self, request: &Request, kind: Verb) -> Result<Vec<Message>> {
        let mut messages = unless(self.with(|socket| socket.ask(request)), &[Errno::NOENT])?;
        messages.retain(|message| message.kind == kind.kind());
        Ok(messages)
    }
}

/// The frame around a transaction.
fn frame(begin: bool) -> Request {
    const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
    const NFNL_MSG_BATCH_END: u16 = 0x11;
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    let kind = if begin {
        NFNL_MSG_BATCH_BEGIN
    } else {
        NFNL_MSG_BATCH_END
    };
    Request::new(kind, 0, "nftables transaction").fixed(&[0, 0, high, low])
}

fn text(message: &Message, wanted: u16) -> Option<String> {
    let list = attributes(&message.body, NFGENMSG);
    let (_, value) = list.into_iter().find(|(kind, _)| *kind == wanted)?;
    let value = value.strip_suffix(&[0]).unwrap_or(value);
    Some(String::from_utf8_lossy(value).into_owned())
}
