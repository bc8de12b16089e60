//! A thread that hears of changes in the kernel and puts rules and links back.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use sys::Context as _;
use sys::netlink::{Message, Protocol, Socket, attributes};

use crate::bridge::LINK;
use crate::rtnl::{parse_address, parse_link};
use crate::{Error, Network, Result, nft};

/// NFNLGRP_NFTABLES, as a bit.
const NFTABLES: u32 = 1 << 6;
/// RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_NETCONF and
/// RTNLGRP_IPV6_NETCONF, as bits.
const LINKS: u32 = 1 | 1 << 4 | 1 << 8 | 1 << 23 | 1 << 24;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_DELADDR: u16 = 21;
const RTM_NEWNETCONF: u16 = 80;
/// From the first news to the repair. A firewall's reload is many changes, and to put rules back
/// in the midst of them is in vain; who fights over the rules shall not have the whole processor.
const SETTLE: Duration = Duration::from_millis(100);

/// What the watch did.
#[derive(Debug)]
pub enum WatchEvent {
    /// These things were not as they should be; all but links that are gone were put back.
    Restored(Vec<String>),
    /// Putting back failed, or hearing did.
    Failed(Error),
}

/// A watch that runs until this is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The counter of an eventfd is never full from one write.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Network {
    /// Puts everything back to how the records say that it is. Returns what was different.
    ///
    /// # Errors
    /// The kernel's; what could be put back is.
    pub fn repair(&self) -> Result<Vec<String>> {
        self.parts().bridge.repair(&self.state)
    }

    /// Watches the kernel from a thread of its own, in the caller's network namespace: after a
    /// firewall was flushed or reloaded, or the bridge changed, everything is put back soon.
    /// `report` is called on that thread.
    ///
    /// # Errors
    /// socket(2)'s, bind(2)'s, and the lack of a thread.
    pub fn watch(self: &Arc<Self>, report: impl Fn(WatchEvent) + Send + 'static) -> Result<Watch> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC).context("eventfd", || "watch")?;
        let stop = Arc::new(stop);
        let mut watcher = Watcher {
            network: Arc::clone(self),
            rules: Socket::listen(Protocol::Netfilter, NFTABLES)?,
            links: Socket::listen(Protocol::Route, LINKS)?,
            stop: Arc::clone(&stop),
        };
        let thread = thread::Builder::new()
            .name("net-watch".into())
            .spawn(move || watcher.run(&report))
            .context("clone", || "a thread for the network's watch")?;
        Ok(Watch {
            stop,
            thread: Some(thread),
        })
    }
}

#[derive(Debug)]
struct Watcher {
    network: Arc<Network>,
    rules: Socket,
    links: Socket,
    stop: Arc<OwnedFd>,
}

impl Watcher {
    fn run(&mut self, report: &dyn Fn(WatchEvent)) {
        let mut since: Option<Instant> = None;
        loop {
            let rest = since.map(|since| SETTLE.saturating_sub(since.elapsed()));
            if rest.is_some_and(|rest| rest.is_zero()) {
                since = None;
                match self.network.repair() {
                    Ok(found) if found.is_empty() => {}
                    Ok(found) => report(WatchEvent::Restored(found)),
                    Err(error) => report(WatchEvent::Failed(error)),
                }
                continue;
            }
            match self.wait(rest) {
                Ok(Heard::Stop) => return,
                Ok(Heard::News(true)) => since = since.or_else(|| Some(Instant::now())),
                Ok(Heard::News(false)) => {}
                Err(error) => {
                    report(WatchEvent::Failed(error));
                    return;
                }
            }
        }
    }

    /// Waits for news, or until they have settled.
    fn wait(&mut self, limit: Option<Duration>) -> Result<Heard> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut list = [
            PollFd::new(&*self.stop, PollFlags::IN),
            PollFd::from_borrowed_fd(self.rules.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.links.as_fd(), PollFlags::IN),
        ];
        match poll(&mut list, limit.as_ref()) {
            Err(Errno::INTR) => return Ok(Heard::News(false)),
            other => other.context("poll", || "the network's watch")?,
        };
        let [stop, rules, links] = list.map(|fd| !fd.revents().is_empty());
        if stop {
            return Ok(Heard::Stop);
        }
        let mut matters = false;
        if rules {
            let news = lossy(self.rules.news())?;
            matters |= news.is_none_or(|news| news.iter().any(|m| self.is_about_rules(m)));
        }
        if links {
            let news = lossy(self.links.news())?;
            matters |= news.is_none_or(|news| news.iter().any(|m| self.is_about_links(m)));
        }
        Ok(Heard::News(matters))
    }

    /// Something of our tables went, or a rule came.
    fn is_about_rules(&self, message: &Message) -> bool {
        let parts = self.network.parts();
        let name = parts.bridge.ruleset.table.as_bytes();
        nft::is_loss(message.kind)
            && attributes(&message.body, 4)
                .iter()
                // The table's name is the first attribute of all of them.
                .any(|(kind, value)| *kind == 1 && value.strip_suffix(&[0]) == Some(name))
    }

    /// The bridge went, went down or lost an address; a port went, or left the bridge; the machine
    /// is no router any more.
    fn is_about_links(&self, message: &Message) -> bool {
        if message.kind == RTM_NEWNETCONF {
            return is_end_of_forwarding(&message.body);
        }
        if message.kind == RTM_DELADDR {
            let index = self.network.parts().bridge.known_index();
            return parse_address(&message.body).is_some_and(|a| a.index == index);
        }
        let link = parse_link(&message.body);
        let Some(link) = link.filter(|_| [RTM_NEWLINK, RTM_DELLINK].contains(&message.kind)) else {
            return false;
        };
        let ours = link.name == self.network.parts().config.bridge;
        let port = link.name.starts_with(LINK);
        if message.kind == RTM_DELLINK {
            return ours || port;
        }
        // A message about a port from the bridge's point of view lacks the alias.
        (ours && !link.up)
            || (port && !link.alias.is_empty() && (!link.up || link.master.is_none()))
    }
}

/// Forwarding was switched off, for one link or all.
fn is_end_of_forwarding(body: &[u8]) -> bool {
    const NETCONFA_FORWARDING: u16 = 2;
    /// `struct netconfmsg`, filled up.
    const FIXED: usize = 4;
    let off = 0_u32.to_ne_bytes();
    let list = attributes(body, FIXED);
    list.contains(&(NETCONFA_FORWARDING, off.as_slice()))
}

#[derive(Debug)]
enum Heard {
    Stop,
    News(bool),
}

/// None where news were lost: then anything may have changed.
fn lossy(news: sys::Result<Vec<Message>>) -> Result<Option<Vec<Message>>> {
    match news {
        Err(error) if error.errno == Errno::NOBUFS => Ok(None),
        other => Ok(Some(other?)),
    }
}
