//! One document and its descriptors as one packet.
//!
//! A document that is too long for a packet travels as a file in memory, which is the first
//! descriptor then; the packet itself says `@`.

use std::io::{IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sys::{Context as _, Errno};

use crate::{Error, Result};

/// Longest document within a packet.
const MAX_INLINE: usize = 16 * 1024;
/// Longest document at all.
const MAX: u64 = 4 << 20;
/// Most descriptors in a packet.
pub(crate) const MAX_FDS: usize = 8;
/// What a packet says whose document is in its first descriptor.
const ELSEWHERE: &[u8] = b"@";

/// Sends `document`; EAGAIN where the socket does not block and is full.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    document: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> Result<()> {
    let bytes = to_json(document)?;
    if bytes.len() <= MAX_INLINE {
        return send_bytes(socket, &bytes, fds);
    }
    let memfd = memory_file(&bytes)?;
    let all: Vec<BorrowedFd<'_>> = std::iter::once(memfd.as_fd())
        .chain(fds.iter().copied())
        .collect();
    send_bytes(socket, ELSEWHERE, &all)
}

/// A document as bytes.
pub(crate) fn to_json(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|source| Error::Json {
        what: "a message".to_owned(),
        source,
    })
}

/// A file in memory with these bytes, at its beginning.
pub(crate) fn memory_file(bytes: &[u8]) -> Result<std::fs::File> {
    let memfd = memfd_create("hull", MemfdFlags::CLOEXEC).context("memfd_create", || "hull")?;
    let mut file = std::fs::File::from(memfd);
    let written = file.write_all(bytes).and_then(|()| file.rewind());
    written.context("write", || "memfd")?;
    Ok(file)
}

fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let packet = [IoSlice::new(bytes)];
    retry_on_intr(|| sendmsg(socket, &packet, &mut ancillary, SendFlags::NOSIGNAL))
        .context("sendmsg", || format!("{} bytes", bytes.len()))?;
    Ok(())
}

/// Takes one packet; `None` at the end of the connection.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_INLINE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = retry_on_intr(|| {
        let mut packet = [IoSliceMut::new(&mut bytes)];
        recvmsg(socket, &mut packet, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })
    .context("recvmsg", || "")?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    if got
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(sys::Error::new("recvmsg", "packet", Errno::MSGSIZE).into());
    }
    let mut document = bytes;
    document.truncate(got.bytes);
    if document == ELSEWHERE && !fds.is_empty() {
        document = read_all(fds.remove(0))?;
    }
    let parsed = serde_json::from_slice(&document).map_err(|source| Error::Json {
        what: "a message".to_owned(),
        source,
    })?;
    Ok(Some((parsed, fds)))
}

/// A document that came as a file. Only a file in memory can be read without waiting for others.
fn read_all(fd: OwnedFd) -> Result<Vec<u8>> {
    rustix::fs::fcntl_get_seals(&fd).context("fcntl", || "F_GET_SEALS of a long message")?;
    let mut file = std::fs::File::from(fd);
    let mut bytes = Vec::new();
    file.rewind().context("lseek", || "memfd, 0")?;
    let length = (&mut file).take(MAX + 1).read_to_end(&mut bytes);
    if length.context("read", || "memfd")? as u64 > MAX {
        return Err(sys::Error::new("recvmsg", "long message", Errno::MSGSIZE).into());
    }
    Ok(bytes)
}

/// All of a file in memory that the supervisor has sent.
pub(crate) fn contents(fd: OwnedFd) -> Result<Vec<u8>> {
    let mut file = std::fs::File::from(fd);
    let mut bytes = Vec::new();
    file.rewind().context("lseek", || "output, 0")?;
    file.read_to_end(&mut bytes).context("read", || "output")?;
    Ok(bytes)
}
