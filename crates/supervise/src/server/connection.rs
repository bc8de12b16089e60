//! Clients.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{SocketFlags, accept_with, sockopt};

use super::poller::{Source, Token};
use super::{Supervisor, after};
use crate::protocol::{Answer, Call, Event, Reply, What};
use crate::{Error, Result, packet};

/// Most clients at a time.
const MAX: usize = 1024;
/// How much later somebody is told what nobody waits for: a create and the start after it are one
/// piece of news then.
const LATER: Duration = Duration::from_millis(100);

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    token: Token,
    /// The last event that it was told of, where it wants them.
    told: Option<u64>,
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub connection: u64,
    pub number: u64,
}

impl Supervisor {
    pub(super) fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = accept_with(&self.listener, flags) {
            let own = rustix::process::geteuid();
            let is_ours = sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.uid == own);
            if !is_ours || self.connections.len() >= MAX {
                continue;
            }
            let key = self.next_key();
            if let Ok(token) = self.poller.add(&socket, Source::Connection(key), false) {
                let connection = Connection {
                    socket,
                    token,
                    told: None,
                };
                self.connections.insert(key, connection);
            }
        }
    }

    pub(super) fn on_packet(&mut self, key: u64) {
        let Some(connection) = self.connections.get(&key) else {
            return;
        };
        match packet::receive::<Call>(connection.socket.as_fd()) {
            Ok(Some((call, fds))) => {
                let caller = Caller {
                    connection: key,
                    number: call.number,
                };
                if let Err(e) = self.request(caller, call.request, fds) {
                    self.fail(caller, &e);
                }
            }
            Err(Error::Sys(e)) if e.errno == sys::Errno::AGAIN => {}
            // At the end of the connection, or of our patience with who speaks nonsense.
            Ok(None) | Err(_) => self.disconnect(key),
        }
    }

    fn disconnect(&mut self, key: u64) {
        if let Some(connection) = self.connections.remove(&key) {
            self.poller.remove(&connection.socket, connection.token);
            self.abandon_commands(key);
        }
    }

    /// Sends to a client, if it is still there. One that does not read is cut off: what it is
    /// told waits in the journal, or is of no use to it.
    fn send(&mut self, key: u64, answer: &Answer, fds: &[BorrowedFd<'_>]) {
        let Some(connection) = self.connections.get(&key) else {
            return;
        };
        if packet::send(connection.socket.as_fd(), answer, fds).is_err() {
            self.disconnect(key);
        }
    }

    pub(super) fn reply(&mut self, caller: Caller, reply: Reply) {
        self.reply_with(caller, reply, &[]);
    }

    pub(super) fn reply_with(&mut self, caller: Caller, reply: Reply, fds: &[BorrowedFd<'_>]) {
        let answer = Answer::Reply(caller.number, reply);
        self.send(caller.connection, &answer, fds);
    }

    pub(super) fn fail(&mut self, caller: Caller, error: &Error) {
        self.reply(caller, Reply::Failed(error.to_failure()));
    }

    pub(super) fn answer(&mut self, caller: Caller, result: Result<()>) {
        match result {
            Ok(()) => self.reply(caller, Reply::Done),
            Err(e) => self.fail(caller, &e),
        }
    }

    /// Writes an event down and tells those who want to know: of an end at once, of what somebody
    /// has asked for, and is told of in reply, a little later.
    pub(super) fn announce(&mut self, id: &str, what: What) {
        let was_asked_for = matches!(what, What::Created(_) | What::Started | What::Deleted);
        if let Err(e) = self.journal.add(id, what) {
            super::complain(&e.to_string());
        }
        if was_asked_for {
            self.tell_at.get_or_insert_with(|| after(LATER));
        } else {
            self.tell();
        }
    }

    /// Tells of all events that were not told of yet.
    pub(super) fn tell(&mut self) {
        self.tell_at = None;
        let last = self.journal.last();
        let mut listening = Vec::new();
        for (&key, connection) in &mut self.connections {
            let told = connection.told.as_mut();
            listening.extend(told.map(|told| (key, std::mem::replace(told, last))));
        }
        for (key, told) in listening {
            let news: Vec<Event> = self.journal.after(told).cloned().collect();
            for event in news {
                self.send(key, &Answer::Event(event), &[]);
            }
        }
    }

    pub(super) fn subscribe(&mut self, caller: Caller, after: u64) {
        self.reply(caller, Reply::Done);
        if let Some(connection) = self.connections.get_mut(&caller.connection) {
            connection.told = Some(after);
        }
        self.tell();
    }

    pub(super) fn acknowledge(&mut self, caller: Caller, number: u64) {
        let result = self.journal.acknowledge(number);
        self.answer(caller, result);
    }
}
