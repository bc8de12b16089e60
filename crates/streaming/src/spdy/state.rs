//! A connection's state: what frames do to it, and what is to be sent. No I/O here; the session
//! holds it under one lock, and no lock is held while anything waits.

use std::collections::HashMap;
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::frame::{self, Control, FIN, UNIDIRECTIONAL, status};
use super::headers::{Deflater, Headers, Inflater};
use super::session::{Limits, Role};

/// What a side may send before it hears of other windows.
const DEFAULT_WINDOW: i64 = 64 << 10;
/// Writers wait while so much is queued.
const QUEUE: usize = 128 << 10;
/// Answers to frames go over the queue's limit, but a peer that makes us answer and does not read
/// is cut off here.
const QUEUE_HARD: usize = 1 << 20;
/// The longest data frame that is sent.
const CHUNK: usize = 16 << 10;

/// One stream.
#[derive(Debug, Default)]
struct Entry {
    buffer: BytesMut,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// In the list of those that wait for room in the queue.
    waits: bool,
    /// What we may still send.
    send: i64,
    /// What the peer may still send.
    receive: i64,
    /// What was read here and not yet granted again.
    owed: usize,
    local_closed: bool,
    remote_closed: bool,
    reset: Option<u32>,
    /// Read and write half.
    handles: [bool; 2],
}

impl Entry {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn wake(&mut self) {
        self.wake_reader();
        self.wake_writer();
    }
}

/// Where a data frame's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Into the stream's buffer.
    Stream(u32),
    /// Nowhere: nobody reads that stream any more.
    Nobody,
}

/// See the module.
#[derive(Debug)]
pub struct State {
    role: Role,
    limits: Limits,
    /// Frames to be sent.
    pub out: BytesMut,
    deflater: Deflater,
    inflater: Inflater,
    streams: HashMap<u32, Entry>,
    next_id: u32,
    last_peer: u32,
    /// The peer knows of windows.
    aware: bool,
    initial_send: i64,
    send: i64,
    receive: i64,
    owed: usize,
    buffered: usize,
    blocked: Vec<u32>,
    /// We have said GOAWAY.
    pub closing: bool,
    peer_closing: bool,
    /// The connection is gone.
    pub gone: bool,
}

impl State {
    pub fn new(role: Role, limits: Limits) -> Result<Self, String> {
        let mut state = State {
            role,
            limits,
            out: BytesMut::new(),
            deflater: Deflater::new()?,
            inflater: Inflater::default(),
            streams: HashMap::new(),
            next_id: if role == Role::Client { 1 } else { 2 },
            last_peer: 0,
            aware: false,
            initial_send: DEFAULT_WINDOW,
            send: DEFAULT_WINDOW,
            receive: signed(limits.connection_window),
            owed: 0,
            buffered: 0,
            blocked: Vec::new(),
            closing: false,
            peer_closing: false,
            gone: false,
        };
        let window = u32::try_from(limits.stream_window).unwrap_or(u32::MAX >> 1);
        state.put(&Control::Settings(vec![(
            frame::SETTING_INITIAL_WINDOW,
            window,
        )]));
        let more = signed(limits.connection_window) - DEFAULT_WINDOW;
        if let Ok(delta @ 1..) = u32::try_from(more) {
            state.put(&Control::WindowUpdate { id: 0, delta });
        }
        Ok(state)
    }

    fn put(&mut self, frame: &Control<'_>) {
        if !self.gone {
            frame::put(&mut self.out, frame);
        }
    }

    fn reset(&mut self, id: u32, status: u32) {
        self.put(&Control::RstStream { id, status });
    }

    /// How many streams there are.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Opens a stream of ours.
    pub fn open(&mut self, headers: &[(&str, &str)]) -> Result<u32, String> {
        if self.gone || self.closing || self.peer_closing {
            return Err("the connection takes no new streams".to_owned());
        }
        let id = self.next_id;
        if id >= 1 << 31 {
            return Err("this connection has used up its stream numbers".to_owned());
        }
        let block = self.deflater.block(headers)?;
        self.next_id += 2;
        self.put(&Control::SynStream {
            id,
            flags: 0,
            block: &block,
        });
        self.insert(id);
        Ok(id)
    }

    fn insert(&mut self, id: u32) {
        let entry = Entry {
            send: self.initial_send,
            receive: signed(self.limits.stream_window),
            handles: [true, true],
            ..Entry::default()
        };
        self.streams.insert(id, entry);
    }

    /// Does what a control frame says; the new stream if it opens one. An error ends the
    /// connection.
    pub fn control(&mut self, frame: &Control<'_>) -> Result<Option<(u32, Headers)>, String> {
        match frame {
            Control::SynStream { id, flags, block } => {
                let headers = self.inflater.headers(block)?;
                let new = self.syn_stream(*id, *flags)?;
                return Ok(new.then_some((*id, headers)));
            }
            Control::SynReply { id, flags, block } | Control::Headers { id, flags, block } => {
                self.inflater.headers(block)?;
                if flags & FIN != 0 {
                    self.remote_fin(*id);
                }
            }
            Control::RstStream { id, status } => {
                if let Some(entry) = self.streams.get_mut(id) {
                    entry.reset = Some(*status);
                    entry.wake();
                }
            }
            Control::Settings(entries) => self.settings(entries),
            // An answer to a ping of ours needs nothing; we send none that would wait for it.
            Control::Ping(id) if self.is_own(*id) => {}
            Control::Ping(id) => self.put(&Control::Ping(*id)),
            Control::GoAway { .. } => self.peer_closing = true,
            Control::WindowUpdate { id, delta } => self.window_update(*id, *delta)?,
            Control::Unknown(_) => {}
        }
        if self.out.len() > QUEUE_HARD {
            return Err("the peer asks for answers and does not read them".to_owned());
        }
        Ok(None)
    }

    fn is_own(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.role == Role::Client)
    }

    fn syn_stream(&mut self, id: u32, flags: u8) -> Result<bool, String> {
        if self.is_own(id) || id <= self.last_peer {
            return Err(format!("stream {id} is opened out of order"));
        }
        self.last_peer = id;
        if self.closing {
            return Ok(false);
        }
        if self.role == Role::Client || self.streams.len() >= self.limits.streams {
            self.reset(id, status::REFUSED_STREAM);
            return Ok(false);
        }
        self.insert(id);
        if let Some(entry) = self.streams.get_mut(&id) {
            entry.remote_closed = flags & FIN != 0;
            entry.local_closed = flags & UNIDIRECTIONAL != 0;
        }
        let block = self.deflater.block(&[])?;
        self.put(&Control::SynReply {
            id,
            flags: 0,
            block: &block,
        });
        Ok(true)
    }

    fn settings(&mut self, entries: &[(u32, u32)]) {
        for (id, value) in entries {
            if *id == frame::SETTING_INITIAL_WINDOW {
                self.learn_of_windows();
                let new = i64::from(*value & 0x7fff_ffff);
                let change = new - self.initial_send;
                self.initial_send = new;
                for entry in self.streams.values_mut() {
                    entry.send += change;
                    entry.wake_writer();
                }
            }
        }
    }

    fn window_update(&mut self, id: u32, delta: u32) -> Result<(), String> {
        self.learn_of_windows();
        let too_large = |window: i64| window > i64::from(u32::MAX >> 1);
        if id == 0 {
            self.send += i64::from(delta);
            if too_large(self.send) {
                return Err("the connection's window is larger than 2^31".to_owned());
            }
            for entry in self.streams.values_mut() {
                entry.wake_writer();
            }
        } else if let Some(entry) = self.streams.get_mut(&id) {
            entry.send += i64::from(delta);
            entry.wake_writer();
            if too_large(entry.send) {
                entry.reset = Some(status::FLOW_CONTROL_ERROR);
                entry.wake();
                self.reset(id, status::FLOW_CONTROL_ERROR);
            }
        }
        Ok(())
    }

    fn remote_fin(&mut self, id: u32) {
        if let Some(entry) = self.streams.get_mut(&id) {
            entry.remote_closed = true;
            entry.wake_reader();
        }
    }

    /// A data frame begins: where its bytes go.
    pub fn data(&mut self, id: u32, length: u32) -> Result<Target, String> {
        let length = i64::from(length);
        self.receive -= length;
        if self.aware && self.receive < 0 {
            return Err("the peer sends more than the connection's window".to_owned());
        }
        let Some(entry) = self.streams.get_mut(&id) else {
            let never = if self.is_own(id) {
                id >= self.next_id
            } else {
                id > self.last_peer
            };
            if never {
                self.reset(id, status::INVALID_STREAM);
            }
            return Ok(Target::Nobody);
        };
        entry.receive -= length;
        let over = self.aware && entry.receive < 0;
        if over || (entry.remote_closed && length > 0) {
            let status = if over {
                status::FLOW_CONTROL_ERROR
            } else {
                status::PROTOCOL_ERROR
            };
            entry.reset = Some(status);
            entry.wake();
            self.reset(id, status);
            return Ok(Target::Nobody);
        }
        Ok(match entry.handles[0] && entry.reset.is_none() {
            true => Target::Stream(id),
            false => Target::Nobody,
        })
    }

    /// Takes some of a data frame's bytes: how many. None at all means that the stream's reader
    /// must read first.
    pub fn take_in(&mut self, target: Target, bytes: &[u8]) -> usize {
        let Target::Stream(id) = target else {
            self.consumed(None, bytes.len());
            return bytes.len();
        };
        let Some(entry) = self.streams.get_mut(&id).filter(|e| e.handles[0]) else {
            self.consumed(None, bytes.len());
            return bytes.len();
        };
        let room = if self.aware {
            bytes.len()
        } else {
            let stream = self.limits.stream_window.saturating_sub(entry.buffer.len());
            let all = self.limits.connection_window.saturating_sub(self.buffered);
            // A stream with nothing buffered always gets something: others cannot hold it.
            let all = if entry.buffer.is_empty() {
                all.max(CHUNK)
            } else {
                all
            };
            stream.min(all)
        };
        let n = room.min(bytes.len());
        entry.buffer.extend_from_slice(&bytes[..n]);
        self.buffered += n;
        if n > 0 {
            entry.wake_reader();
        }
        n
    }

    /// A data frame ends.
    pub fn data_end(&mut self, id: u32, flags: u8) {
        if flags & FIN != 0 {
            self.remote_fin(id);
        }
    }

    /// What was read here is granted to the peer again.
    fn consumed(&mut self, id: Option<u32>, n: usize) {
        self.owed += n;
        if let Some(entry) = id.and_then(|id| self.streams.get_mut(&id)) {
            entry.owed += n;
        }
        self.grant(id, 2);
    }

    /// Grants what is owed, if it is at least such a part of a window. A peer that knows of no
    /// windows is sent nothing: if it has closed its side in the meantime, what it gets would
    /// make its kernel reset the connection, and the rest of its output would be lost.
    fn grant(&mut self, id: Option<u32>, part: usize) {
        if !self.aware {
            return;
        }
        let due = |owed: usize, window: usize| owed > 0 && owed >= window / part;
        if due(self.owed, self.limits.connection_window) {
            let delta = u32::try_from(std::mem::take(&mut self.owed)).unwrap_or(u32::MAX >> 1);
            self.receive += i64::from(delta);
            self.put(&Control::WindowUpdate { id: 0, delta });
        }
        let Some(id) = id else { return };
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        if due(entry.owed, self.limits.stream_window) && !entry.remote_closed {
            let delta = u32::try_from(std::mem::take(&mut entry.owed)).unwrap_or(u32::MAX >> 1);
            entry.receive += i64::from(delta);
            self.put(&Control::WindowUpdate { id, delta });
        }
    }

    /// The peer turns out to know of windows: it is granted all that was read before.
    fn learn_of_windows(&mut self) {
        if !std::mem::replace(&mut self.aware, true) {
            let ids: Vec<Option<u32>> = self.streams.keys().copied().map(Some).collect();
            for id in ids.into_iter().chain([None]) {
                self.grant(id, usize::MAX);
            }
        }
    }

    /// Reads what has come in.
    pub fn read(
        &mut self,
        id: u32,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gone = self.gone;
        let Some(entry) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if entry.buffer.is_empty() {
            return match entry.reset {
                _ if entry.remote_closed => Poll::Ready(Ok(())),
                // Go's peers end streams by this one in the ordinary course of things.
                Some(status::CANCEL) => Poll::Ready(Ok(())),
                Some(status) => Poll::Ready(Err(reset_error(status))),
                None if gone => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
                None => {
                    entry.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let n = entry.buffer.len().min(to.remaining());
        to.put_slice(&entry.buffer[..n]);
        entry.buffer.advance(n);
        if entry.buffer.is_empty() {
            // Nothing is kept while nothing flows.
            entry.buffer = BytesMut::new();
        }
        self.buffered -= n;
        self.consumed(Some(id), n);
        Poll::Ready(Ok(()))
    }

    /// Queues some of the bytes.
    pub fn write(
        &mut self,
        id: u32,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let aware = self.aware;
        let Some(entry) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some(status) = entry.reset {
            return Poll::Ready(Err(reset_error(status)));
        }
        if self.gone || entry.local_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let window = if aware {
            entry.send.min(self.send)
        } else {
            i64::MAX
        };
        let window = usize::try_from(window).unwrap_or(0);
        if window == 0 || self.out.len() >= QUEUE {
            entry.writer = Some(cx.waker().clone());
            if !std::mem::replace(&mut entry.waits, true) {
                self.blocked.push(id);
            }
            return Poll::Pending;
        }
        let n = bytes.len().min(CHUNK).min(window);
        entry.send -= signed(n);
        self.send -= signed(n);
        frame::put_data(&mut self.out, id, 0, &bytes[..n]);
        Poll::Ready(Ok(n))
    }

    /// Ends our half of a stream.
    pub fn shutdown(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut entry.local_closed, true) || entry.reset.is_some() || self.gone {
            return;
        }
        frame::put_data(&mut self.out, id, FIN, &[]);
    }

    /// Ends a stream at once.
    pub fn abort(&mut self, id: u32, status: u32) {
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        if entry.reset.replace(status).is_none() {
            entry.wake();
            self.reset(id, status);
        }
    }

    /// A half's handle is dropped: 0 is the reading one, 1 the writing one.
    pub fn release(&mut self, id: u32, half: usize) {
        if half == 1 {
            self.shutdown(id);
        }
        let Some(entry) = self.streams.get_mut(&id) else {
            return;
        };
        entry.handles[half] = false;
        let mut dropped = 0;
        if half == 0 {
            dropped = std::mem::take(&mut entry.buffer).len();
            self.buffered -= dropped;
        }
        if entry.handles == [false, false] {
            let unfinished = !entry.remote_closed && entry.reset.is_none();
            self.streams.remove(&id);
            if unfinished {
                self.reset(id, status::CANCEL);
            }
        }
        self.consumed(None, dropped);
    }

    /// Says that there will be no more streams.
    pub fn go_away(&mut self, status: u32) {
        if !std::mem::replace(&mut self.closing, true) {
            let last = self.last_peer;
            self.put(&Control::GoAway { last, status });
        }
    }

    /// The queue is empty again: those that waited for room go on.
    pub fn drained(&mut self) {
        for id in std::mem::take(&mut self.blocked) {
            if let Some(entry) = self.streams.get_mut(&id) {
                entry.waits = false;
                entry.wake_writer();
            }
        }
    }

    /// The connection is gone: everybody hears of it.
    pub fn lost(&mut self) {
        self.gone = true;
        self.out = BytesMut::new();
        self.streams.values_mut().for_each(Entry::wake);
    }
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn reset_error(status: u32) -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        format!("the peer reset the stream (status {status})"),
    )
}
